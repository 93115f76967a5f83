"""Errors of the user's input as one plain message instead of a traceback."""

import contextlib
import pickle
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn the exceptions that bad input raises into ``error: …`` on the standard error and exit code 2.

    For the part of a command line that reads its input; training and testing run outside it, where a traceback is
    worth having.
    """
    try:
        yield
    except (FileNotFoundError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        sys.exit(2)
