import pytest
import torch

from ean_mmdet.attention import ECA


def formula(x, p):
    weight = p['gate.conv.weight'].flatten()
    reach = len(weight) // 2
    squeezed = x.mean((2, 3))
    padded = torch.cat([squeezed.new_zeros(len(x), reach), squeezed, squeezed.new_zeros(len(x), reach)], dim=1)
    channels = x.shape[1]
    logits = sum(weight[i] * padded[:, i : i + channels] for i in range(len(weight)))
    return x * torch.sigmoid(logits)[:, :, None, None]


@pytest.mark.parametrize('kernel_size', [None, 1, 5])
def test_formula(assert_agrees, kernel_size):
    assert_agrees(ECA(16, kernel_size=kernel_size), formula)


@pytest.mark.parametrize(('channels', 'kernel_size'), [(16, 3), (64, 3), (128, 5), (256, 5), (2048, 7)])
def test_adaptive_kernel(channels, kernel_size):
    assert ECA(channels).gate.conv.weight.shape[-1] == kernel_size


def test_even_kernel():
    with pytest.raises(ValueError, match='kernel_size must be an odd number or None, got 2'):
        ECA(16, kernel_size=2)
