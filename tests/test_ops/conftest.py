"""What the tests of the operations share."""

import pytest
import torch

from ean_mmdet.ops import backends, norm_gate_cpp


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(params=['eager', 'cpp'])
def backend(request, monkeypatch):
    """Each implementation for the CPU in turn."""
    if request.param == 'cpp' and norm_gate_cpp.missing():
        pytest.skip(norm_gate_cpp.missing())
    monkeypatch.setattr(backends, 'FORCED', request.param)
    return request.param


@pytest.fixture
def skip_float64(backend):
    def skip(dtype):
        if backend == 'cpp' and dtype is torch.float64:
            pytest.skip('the compiled kernels compute in float32')

    return skip
