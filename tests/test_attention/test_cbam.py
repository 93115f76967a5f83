import pytest
import torch
from torch.nn import functional

from ean_mmdet.attention import CBAM


def formula(x, p):
    first, second = p['channel_gate.fc1.weight'].flatten(1), p['channel_gate.fc2.weight'].flatten(1)

    def mlp(pooled):
        return (pooled @ first.T).clamp(min=0) @ second.T

    z = x * torch.sigmoid(mlp(x.flatten(2).mean(2)) + mlp(x.flatten(2).max(2).values))[:, :, None, None]
    kernel = p['spatial_gate.conv.weight']
    size = kernel.shape[-1]
    pooled = torch.stack([z.mean(1), z.max(1).values], dim=1)
    # the convolution as a product with unfolded windows
    windows = functional.unfold(pooled, size, padding=size // 2)
    logits = (windows * kernel.flatten()[:, None]).sum(1).view(x.shape[0], 1, *x.shape[2:])
    return z * torch.sigmoid(logits)


@pytest.mark.parametrize(('ratio', 'kernel_size'), [(16, 7), (4, 3)])
def test_formula(assert_agrees, ratio, kernel_size):
    assert_agrees(CBAM(16, ratio=ratio, kernel_size=kernel_size), formula)


def test_parameters():
    module = CBAM(96, ratio=16)
    assert sum(p.numel() for p in module.parameters()) == 2 * 96 * 6 + 2 * 7 * 7
    assert not any('bias' in name or 'bn' in name for name in module.state_dict())


def test_even_kernel():
    with pytest.raises(ValueError, match='kernel_size must be an odd number, got 4'):
        CBAM(16, kernel_size=4)
