import pytest
import torch

from ean_mmdet.attention import SimAM


def formula(x, p, eps=1e-4):
    energy = torch.empty_like(x)
    for n in range(len(x)):
        for c in range(x.shape[1]):
            plane = x[n, c]
            energy[n, c] = (plane - plane.mean()) ** 2 / (4 * (plane.var(unbiased=True) + eps)) + 0.5
    return x * torch.sigmoid(energy)


def test_formula():
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(SimAM(3)(x), formula(x, {}), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(SimAM(3, eps=0.1)(x), formula(x, {}, eps=0.1), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(SimAM(3), x)


def test_no_parameters_and_one_position():
    module = SimAM(4)
    assert not list(module.parameters())
    x = torch.randn(2, 4, 1, 1)
    torch.testing.assert_close(module(x), x * torch.tensor(0.5).sigmoid())


def test_large_values_in_half_precision():
    x = torch.full((1, 2, 4, 4), 300.0, dtype=torch.float16)
    x[..., 0] = -300
    y = SimAM(2)(x)
    assert y.dtype == torch.float16 and y.isfinite().all()


def test_eps():
    with pytest.raises(ValueError, match='eps must be positive, got 0'):
        SimAM(4, eps=0)
