"""The hook in a real runner: what is written, and what is refused."""

import numpy as np
import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ean_mmdet.checkpoint import latest_checkpoint
from ean_mmdet.errors import InputError


class Regressor(BaseModel):
    def __init__(self, width=1):
        super().__init__()
        self.linear = nn.Linear(3, width)

    def forward(self, x, mode='tensor'):
        loss = self.linear(x).square().mean()
        return dict(loss=loss) if mode == 'loss' else loss


def make_runner(work_dir, iterations=6, model=None, **kwargs):
    model = model or Regressor()
    kwargs.setdefault('param_scheduler', dict(type='LinearLR', by_epoch=False, start_factor=0.1, end=6))
    kwargs.setdefault('log_level', 'ERROR')
    kwargs.setdefault('default_hooks', dict(checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=3)))
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=DataLoader([dict(x=torch.full((3,), float(i))) for i in range(8)], batch_size=2),
        train_cfg=dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)),
        experiment_name=f'{work_dir.name}_{id(kwargs)}',
        randomness=dict(seed=0),
        **kwargs,
    )


@pytest.fixture
def trained(tmp_path):
    runner = make_runner(tmp_path / 'run')
    runner.message_hub.update_info('best_score', np.float64(0.25))
    runner.train()
    return tmp_path / 'run'


def test_pytorch_alone_loads_what_is_saved(trained):
    checkpoint = torch.load(trained / 'iter_6.pth', weights_only=True)
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert len(history['log_history']) == 6
    assert checkpoint['message_hub']['runtime_info']['best_score'] == 0.25
    assert checkpoint['optimizer']['state'][0]['momentum_buffer'].shape == (1, 3)


def test_resuming_goes_on_where_it_was(trained, tmp_path):
    resumed = make_runner(tmp_path / 'resumed', load_from=str(trained / 'iter_3.pth'), resume=True)
    resumed.train()
    mine, theirs = (torch.load(path / 'iter_6.pth', weights_only=True) for path in (tmp_path / 'resumed', trained))
    for key, value in theirs['state_dict'].items():
        torch.testing.assert_close(mine['state_dict'][key], value, rtol=0, atol=0)
    hubs = [checkpoint['message_hub']['log_scalars']['train/loss']['log_history'] for checkpoint in (mine, theirs)]
    torch.testing.assert_close(*hubs)


def test_foreign_checkpoints_are_refused(trained, tmp_path):
    runner = make_runner(tmp_path / 'other', model=Regressor(width=5), load_from=str(trained / 'iter_3.pth'))
    # the bias and the weight have other shapes in this one
    with pytest.raises(InputError, match=r'iter_3\.pth fills 0\.0% .* this Regressor.*linear\.weight is \[1, 3\], not'):
        runner.train()


def test_weights_alone_cannot_be_resumed(trained, tmp_path):
    weights = torch.load(trained / 'iter_3.pth', weights_only=True)['state_dict']
    torch.save(dict(state_dict=weights, meta={}), tmp_path / 'weights.pth')
    runner = make_runner(tmp_path / 'other', load_from=str(tmp_path / 'weights.pth'), resume=True)
    with pytest.raises(InputError, match=r'no training state.*load_from='):
        runner.train()


def test_every_runner_loads_and_saves_so(tmp_path):
    """Whatever the config names: mmengine's hook by its class here, by its name, or none."""
    for number, hooks in enumerate((dict(checkpoint=dict(type=CheckpointHook)), {}, None)):
        kwargs = dict(default_hooks=hooks)
        runner = Runner(Regressor(), str(tmp_path), experiment_name=f'{tmp_path.name}{number}', **kwargs)
        kinds = [type(hook).__name__ for hook in runner.hooks]
        assert kinds.count('SafeCheckpointHook') == kinds.count('AtomicCheckpointHook') == 1
        assert 'CheckpointHook' not in kinds


def test_another_number_of_classes_is_one_line(trained, tmp_path):
    runner = make_runner(tmp_path / 'other', model=Regressor(2), load_from=str(trained / 'iter_3.pth'), resume=True)
    with pytest.raises(InputError, match=r'iter_3\.pth fills') as caught:
        runner.train()
    assert '\n' not in str(caught.value)


def logged(runner, caplog):
    """What the runner's training says."""
    runner.logger.addHandler(caplog.handler)
    with caplog.at_level('INFO'):
        runner.train()
    runner.logger.removeHandler(caplog.handler)
    return caplog.text


COSINE = dict(type='CosineAnnealingLR', by_epoch=False, begin=2, eta_min=0.001)
WARM_UP = dict(type='LinearLR', by_epoch=False, start_factor=0.1, end=2)


@pytest.mark.slow
@pytest.mark.parametrize('new', [False, True])
def test_a_longer_schedule(tmp_path, caplog, new):
    """mmengine's rate stays where it ended, which is said; the new schedule is that of a run which always had it."""
    rates = {}

    class Note(Hook):
        priority = 'LOWEST'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            rates.setdefault(runner.experiment_name, []).append(runner.optim_wrapper.get_lr()['lr'][0])

    def run(folder, end, **kwargs):
        schedule = [WARM_UP, dict(COSINE, end=end)]
        runner = make_runner(tmp_path / folder, end, param_scheduler=schedule, log_level='WARNING', **kwargs)
        runner.register_hook(Note())
        return logged(runner, caplog), rates[runner.experiment_name]

    run('short', 6)
    hooks = [dict(type='SafeCheckpointHook', new_schedule=new)]
    resumed = dict(load_from=str(tmp_path / 'short/iter_6.pth'), resume=True, custom_hooks=hooks)
    text, after = run('resumed', 12, **resumed)
    if new:
        _, whole = run('whole', 12)
        assert after == pytest.approx(whole[6:], rel=1e-9)
    else:
        assert 'CosineAnnealingLR.end is 6 there and 12 in the config' in text and 'new_schedule=True' in text
        assert len(after) == 6 and len(set(after)) == 1


def test_nothing_left_to_train(trained, tmp_path, caplog):
    runner = make_runner(tmp_path, log_level='WARNING', load_from=str(trained / 'iter_6.pth'), resume=True)
    assert 'Nothing left to train: the run is at 6, and train_cfg.max_iters is 6' in logged(runner, caplog)


class Diverging(Regressor):
    def forward(self, x, mode='tensor'):
        result = super().forward(x, mode)
        steps = self.steps = getattr(self, 'steps', 0) + 1
        return dict(loss=result['loss'] * (float('inf') if steps == 5 else 1)) if mode == 'loss' else result


def test_a_loss_of_nan_stops_with_a_line(tmp_path):
    runner = make_runner(tmp_path / 'run', model=Diverging())
    with pytest.raises(InputError, match=r'the loss of iteration 5 is inf.*linear\.weight.*learning rate') as caught:
        runner.train()
    assert '\n' not in str(caught.value)
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_3.pth']


def test_weights_that_are_not_finite_are_not_resumed(trained, tmp_path, caplog):
    checkpoint = torch.load(trained / 'iter_6.pth', weights_only=True)
    checkpoint['state_dict']['linear.bias'][0] = float('nan')
    torch.save(checkpoint, trained / 'iter_6.pth')
    runner = make_runner(tmp_path / 'other', load_from=str(trained / 'iter_6.pth'), resume=True)
    with pytest.raises(InputError, match=r'infinite or NaN \(linear\.bias\)'):
        runner.train()
    assert latest_checkpoint(trained) == str(trained / 'iter_3.pth')


def test_weights_that_are_not_finite_are_not_the_best(tmp_path):
    hook = dict(type='CheckpointHook', by_epoch=False, interval=3, save_best='accuracy', rule='greater')
    runner = make_runner(tmp_path / 'run', default_hooks=dict(checkpoint=hook))
    runner.train()
    saver = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    with torch.no_grad():
        runner.model.linear.bias.fill_(float('nan'))
    saver.after_val_epoch(runner, {'accuracy': 1.0})
    assert not list((tmp_path / 'run').glob('best*'))
    with torch.no_grad():
        runner.model.linear.bias.fill_(0)
    saver.after_val_epoch(runner, {'accuracy': 0.5})
    assert [path.name for path in (tmp_path / 'run').glob('best*')] == ['best_accuracy_iter_6.pth']


class Classifier(BaseModel):
    def __init__(self, kind):
        super().__init__()
        self.backbone = MODELS.build(dict(type=kind, widen_factor=0.25, out_indices=(7,)))

    def extract_feat(self, x):
        return self.backbone(x)

    def forward(self, x, mode='tensor'):
        output = self.backbone(x)[0].mean((1, 2, 3))
        return dict(loss=output.square().mean()) if mode == 'loss' else output


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    model = Classifier('MobileNeXt')
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    path = tmp_path_factory.mktemp('plain') / 'plain.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return model.eval(), str(path)


@pytest.mark.parametrize('keep', [True, False])
@pytest.mark.parametrize('ema', [[], [dict(type='EMAHook')]])
def test_load_from_keeps_what_the_network_computed(plain, tmp_path, caplog, keep, ema):
    """In EMA's copy too."""
    model, path = plain
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
    runner = make_runner(
        tmp_path,
        model=Classifier('EANMobileNeXt'),
        load_from=path,
        custom_hooks=[*ema, dict(type='SafeCheckpointHook', keep_function=keep)],
        log_level='INFO',
    )
    runner.call_hook('before_run')
    runner.logger.addHandler(caplog.handler)
    with caplog.at_level('INFO'):
        runner.load_or_resume()
    networks = [runner.model, *(hook.ema_model.module for hook in runner.hooks if hasattr(hook, 'ema_model'))]
    assert len(networks) == 1 + len(ema)
    for network in networks:
        with torch.no_grad():
            assert torch.allclose(network.eval()(images), expected, rtol=1e-5) == keep
    line = '15 norms before new attention are scaled (× 2); the network computes what it did'
    assert (line in caplog.text) == keep


def test_a_network_without_attention_is_not_resumed_as_one_with_it(plain, tmp_path):
    runner = make_runner(tmp_path, model=Classifier('EANMobileNeXt'), load_from=plain[1], resume=True)
    runner.train_loop  # noqa: B018, it is built
    with pytest.raises(InputError, match=r'of the network without attention, so training cannot resume.*load_from='):
        runner.load_or_resume()
