import pytest
import torch

from ean_mmdet.attention import SE


def formula(x, p):
    squeezed = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    hidden = (squeezed @ p['gate.fc1.weight'].flatten(1).T + p['gate.fc1.bias']).clamp(min=0)
    logits = hidden @ p['gate.fc2.weight'].flatten(1).T + p['gate.fc2.bias']
    return x / (1 + torch.exp(-logits))[:, :, None, None]


@pytest.mark.parametrize('ratio', [1, 4, 16])
def test_formula(assert_agrees, ratio):
    assert_agrees(SE(16, ratio=ratio), formula)


def test_hidden_width_is_not_rounded():
    # 96 // 16 = 6, which is no multiple of 8
    assert sum(p.numel() for p in SE(96, ratio=16).parameters()) == 2 * 96 * 6 + 6 + 96


@pytest.mark.parametrize('ratio', [0, 17])
def test_no_hidden_channel(ratio):
    with pytest.raises(ValueError, match='ratio must be 1 to in_channels=16'):
        SE(16, ratio=ratio)


def test_wrong_channels():
    with pytest.raises(ValueError, match=r'\(N, 16, H, W\), got \(1, 8, 4, 4\)'):
        SE(16)(torch.rand(1, 8, 4, 4))
