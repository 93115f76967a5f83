import pytest
import torch

from tests.test_checkpoint.networks import PublicMobileNeXt

pytestmark = pytest.mark.slow

CONFIG = 'configs/sample/ssdlite192_ean_mobilenext_sample.py'


def test_a_users_session(run_tool, tmp_path):
    source, target = tmp_path / 'mobilenext.pth', tmp_path / 'ean.pth'
    torch.save(PublicMobileNeXt(0.5, last_channels=640).state_dict(), source)
    result = run_tool('convert_checkpoint.py', source, target, '--config', CONFIG)
    assert "source: another library's keys, by the order of layers" in result.stdout
    assert '× 2' in result.stdout
    assert f"init_cfg=dict(type='Pretrained', checkpoint='{target}')" in result.stdout
    assert 'layer1.0.depthwise2.bn_attention.alpha' in torch.load(target)['state_dict']

    # again, from the converted file, which there is nothing to convert in
    again = tmp_path / 'again.pth'
    result = run_tool('convert_checkpoint.py', target, again, '--config', CONFIG, '--dry-run', check=False)
    assert result.returncode == 2
    assert result.stderr.startswith('error: ') and 'already has attention weights' in result.stderr
    assert 'Traceback' not in result.stderr
    assert not again.exists()
