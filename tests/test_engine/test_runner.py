import pytest
from mmengine.config import Config
from mmengine.hooks import LoggerHook

from ean_mmdet.engine.runner import build_runner
from ean_mmdet.errors import InputError


@pytest.mark.parametrize('main', [True, False])
def test_the_main_process_alone_writes_the_results_of_a_test(monkeypatch, tmp_path, main):
    written = []
    monkeypatch.setattr(LoggerHook, 'after_test_epoch', lambda self, runner, metrics=None: written.append(metrics))
    monkeypatch.setattr('mmengine.dist.utils.is_main_process', lambda: main)
    runner = build_runner(Config(dict(model=dict(type='EAN', in_channels=64), work_dir=str(tmp_path))))
    runner.call_hook('after_test_epoch', metrics={'mAP': 0.5})
    assert written == ([{'mAP': 0.5}] if main else [])


def test_a_config_that_cannot_be_built(tmp_path):
    config = Config(
        dict(
            model=dict(type='EANMobileNeXt', groups=7, _scope_='mmdet'),
            work_dir=str(tmp_path),
            default_scope='mmdet',
            experiment_name='unbuildable',
        )
    )
    with pytest.raises(InputError, match=r'the config cannot be built: .*groups=7; groups can be one of'):
        build_runner(config)
