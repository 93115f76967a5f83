"""Which implementation computes a gate, and what is said where the one that is asked for can't."""

import sys
from types import SimpleNamespace

import pytest
import torch

from ean_mmdet.ops import backends, norm_gate
from tests.reference import plain_norm_gate


class TestBackend:
    x, vector = torch.randn(1, 4, 3, 3), torch.randn(4)

    def run(self):
        return norm_gate(self.x, self.vector, self.vector)

    def test_unknown(self, monkeypatch):
        monkeypatch.setattr(backends, 'FORCED', 'cuda')
        with pytest.raises(ValueError, match=r"EAN_BACKEND must be one of eager, cpp, triton, or unset, got 'cuda'"):
            self.run()

    def test_eager(self, monkeypatch):
        monkeypatch.setattr(backends, 'FORCED', 'eager')
        torch.testing.assert_close(self.run(), plain_norm_gate(self.x, self.vector, self.vector))

    def test_triton_that_can_not_run_says_why(self, monkeypatch):
        pytest.importorskip('triton')
        monkeypatch.setattr(backends, 'FORCED', 'triton')
        with pytest.raises(RuntimeError, match=r'EAN_BACKEND=triton can not run here: the map is on cpu.*INTERPRET=1'):
            self.run()
        with pytest.raises(RuntimeError, match=r'its kernels take .*float16.* and the map is torch.float64'):
            norm_gate(self.x.double(), self.vector, self.vector)

    @pytest.mark.parametrize('triton', [None, SimpleNamespace(__version__='2.1.0')])
    def test_triton_that_is_not_installed_or_too_old(self, monkeypatch, triton):
        monkeypatch.setattr(backends, '_triton', backends._triton.__wrapped__)
        monkeypatch.setitem(sys.modules, 'triton', triton)
        monkeypatch.setattr(backends, 'FORCED', 'triton')
        with pytest.raises(RuntimeError, match='EAN_BACKEND=triton can not run here: no Triton 3 is installed'):
            self.run()
