import pytest
import torch

from ean_mmdet.ops.fold import WEIGHT_NORMS, fold_ean


def vectors(k=6):
    return [torch.randn(k, dtype=torch.float64, requires_grad=True) for _ in range(4)]


def written_out(weight, bias, alpha, delta, weight_norm, eps=1e-5):
    norm = dict(
        l2=lambda: (weight.square().sum() + eps).sqrt(),
        rms=lambda: (weight.square().mean() + eps).sqrt(),
        l1=lambda: weight.abs().mean() + eps,
    )[weight_norm]()
    return alpha * weight / norm * weight, alpha * weight / norm * bias + delta


@pytest.mark.parametrize('weight_norm', WEIGHT_NORMS)
def test_values_and_gradients(weight_norm):
    leaves = vectors()
    folded, expected = (function(*leaves, weight_norm) for function in (fold_ean, written_out))
    torch.testing.assert_close(folded, expected)
    upstream = [torch.randn_like(part) for part in folded]
    torch.testing.assert_close(
        torch.autograd.grad(folded, leaves, upstream), torch.autograd.grad(expected, leaves, upstream)
    )
    assert torch.autograd.gradcheck(lambda *leaves: fold_ean(*leaves, weight_norm), leaves)
    with torch.no_grad():
        torch.testing.assert_close(fold_ean(*leaves, weight_norm), tuple(part.detach() for part in expected))


def test_second_derivatives_are_refused():
    leaves = vectors()
    scale, _ = fold_ean(*leaves)
    gradients = torch.autograd.grad(scale.sum(), leaves[:1], create_graph=True)
    with pytest.raises(NotImplementedError, match='no second derivatives'):
        gradients[0].sum().backward()


def test_half_precision_is_folded_in_float32():
    scale, shift = fold_ean(*(vector.detach().half() for vector in vectors()))
    assert scale.dtype == shift.dtype == torch.float32
