import math

import pytest
import torch

from ean_mmdet.attention import PdfAM


def formula(x, p):
    w, c, e = (torch.log(1 + torch.exp(p[name]))[:, None, None] for name in ('width', 'coefficient', 'offset'))
    places = x.shape[2] * x.shape[3]
    m = x.mean((2, 3), keepdim=True)
    variance = ((x - m) ** 2).sum((2, 3), keepdim=True) / (places - 1) + 1e-4
    density = torch.exp(-w * (x - m) ** 2 / (2 * variance)) / torch.sqrt(2 * math.pi * variance)
    return x / (1 + e + c * density)


def test_formula(assert_agrees):
    assert_agrees(PdfAM(16), formula)


def test_one_place():
    # the place is its plane's mean and the variance nothing but eps
    x = torch.tensor(3.0).view(1, 1, 1, 1)
    softplus = math.log(1 + math.e)
    expected = 3 / (1 + math.log(2) + softplus / math.sqrt(2 * math.pi * 1e-4))
    torch.testing.assert_close(PdfAM(1)(x).item(), expected)


def test_half_precision_does_not_overflow():
    x = torch.full((1, 4, 3, 3), 300.0, dtype=torch.float16)
    x[0, 0, 0, 0] = -300  # squares of 600 are beyond float16
    assert PdfAM(4)(x).isfinite().all()


def test_channels():
    with pytest.raises(ValueError, match='in_channels must be 1 at least, got 0'):
        PdfAM(0)
