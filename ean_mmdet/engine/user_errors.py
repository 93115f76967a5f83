"""Errors of the user's input as one plain message instead of a traceback."""

import contextlib
import sys
from collections.abc import Iterator

from ..errors import InputError


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn an :class:`InputError` into ``error: …`` on the standard error and exit code 2."""
    try:
        yield
    except InputError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        sys.exit(2)
