"""What the tests of the attention modules share."""

import pytest
import torch
from torch.func import functional_call


@pytest.fixture
def assert_agrees():
    """A check that a module computes a formula: values, all gradients, and gradients against finite differences."""

    def check(module, formula, shape=(2, 16, 5, 4), gradient_tolerance=1e-9):
        torch.manual_seed(0)
        module = module.double()
        for parameter in module.parameters():
            parameter.data.normal_(0.2, 1)
        names, parameters = zip(*module.named_parameters())
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

        actual, expected = module(x), formula(x, dict(zip(names, parameters)))
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)

        cotangent = torch.randn_like(actual)
        inputs = (x, *parameters)
        gradients = torch.autograd.grad(actual, inputs, cotangent)
        for name, gradient, reference in zip(
            ('x', *names), gradients, torch.autograd.grad(expected, inputs, cotangent)
        ):
            torch.testing.assert_close(
                gradient,
                reference,
                rtol=gradient_tolerance,
                atol=gradient_tolerance,
                msg=lambda message, name=name: f'{name}: {message}',
            )

        def run(x, *parameters):
            return functional_call(module, dict(zip(names, parameters)), x)

        assert torch.autograd.gradcheck(run, inputs, fast_mode=True)

    return check
