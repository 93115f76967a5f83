"""Every load and store of a kernel that Triton's interpreter runs, checked against the tensors that it was given."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch


class OutOfBounds(AssertionError):
    """A kernel read or wrote outside of its tensors."""


def check_bounds(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Have the interpreter raise OutOfBounds; returns ``accesses``, a count of what was checked."""
    from triton.runtime import interpreter

    spans = np.zeros((0, 2), np.uint64)  # first and last byte but one of each tensor, in the order of addresses
    checked = SimpleNamespace(accesses=0)
    prepare, real = interpreter.GridExecutor._init_args_hst, interpreter._interpreter

    def note(self, arguments, keywords):
        nonlocal spans
        prepared, named = prepare(self, arguments, keywords)
        tensors = [value for value in (*prepared, *named.values()) if isinstance(value, torch.Tensor)]
        starts = {t.data_ptr(): t.numel() * t.element_size() for t in tensors}
        spans = np.array(sorted((start, start + size) for start, size in starts.items()), np.uint64).reshape(-1, 2)
        return prepared, named

    def check(what, addresses, mask, size):
        touched = addresses[mask].astype(np.uint64)
        checked.accesses += touched.size
        place = np.searchsorted(spans[:, 0], touched, 'right') - 1
        inside = (place >= 0) & (touched + np.uint64(size) <= spans[place, 1])
        if not inside.all():
            raise OutOfBounds(f'{what} at {touched[~inside][:4]}, outside of the tensors at {spans.tolist()}')

    def load(addresses, mask, other, dtype):
        check('load', addresses, mask, np.dtype(dtype).itemsize)
        return real.load(addresses, mask, other, dtype)

    def store(addresses, value, mask):
        check('store', addresses, mask, value.dtype.itemsize)
        return real.store(addresses, value, mask)

    names = {name: getattr(real, name) for name in dir(real) if not name.startswith('_')}
    patch.setattr(interpreter.GridExecutor, '_init_args_hst', note)
    patch.setattr(interpreter, '_interpreter', SimpleNamespace(**names | dict(load=load, store=store)))
    return checked
