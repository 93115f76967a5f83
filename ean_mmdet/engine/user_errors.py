"""Errors as one plain message instead of a traceback."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from ..errors import InputError


@contextlib.contextmanager
def user_errors(folder: str | os.PathLike | None = None) -> Iterator[None]:
    """Turn an :class:`InputError` into ``error: …`` on the standard error and exit code 2.

    Where nobody reads what is printed any more, as behind ``| head``, the program ends without a word.

    Args:
        folder: Where to write the traceback of any other error, which then ends in such a line too, with its place, and
            exit code 1. Defaults to None: other errors pass.
    """
    # A log file that can't be written, on a full disk, is no reason for a traceback at every line of it.
    logging.raiseExceptions = False
    try:
        yield
        sys.stdout.flush()
    except InputError as error:
        # from a process that loads data, PyTorch raises it again with its traceback for a message
        message = str(error).rpartition(f'{InputError.__name__}: ')[2].strip()
        _end(message, 2)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _unread():
            sys.exit(141)  # what shells say of a program that SIGPIPE ended
        if folder is None:
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = f'{type(error).__name__}: {lines[-1] if lines else "no message"}'
        what += _layer(error)
        line = f'{os.sep.join(Path(frame.filename).parts[-3:])}, line {frame.lineno}'
        file = Path(folder, f'traceback_{os.getpid()}.txt')
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(traceback.format_exc())
        except OSError:
            raise error from None  # nowhere to put it
        _end(f'{what} ({line}); the traceback is in {file}', 1)


def _unread() -> bool:
    """Whether the reader of the standard output has gone; what is left to print goes nowhere then."""
    if not hasattr(select, 'poll'):  # Windows, which has another error for it
        return False
    try:
        output = sys.stdout.fileno()
    except OSError:  # not a file
        return False
    poll = select.poll()
    poll.register(output, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _layer(error: BaseException) -> str:
    """The layer of the model that an error comes from, in words; nothing where it comes from none."""
    frames = (frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__))
    modules = [owner for owner in frames if isinstance(owner, nn.Module)]
    if not modules:
        return ''
    model, layer = modules[0], modules[-1]
    name = next((name for name, module in model.named_modules() if module is layer), '')
    text = repr(layer) if not any(True for _ in layer.children()) else type(layer).__name__
    return f', in {name.removeprefix("module.")}, {text}' if name else ''


def _end(message: str, code: int) -> None:
    print(f'error: {message}', file=sys.stderr, flush=True)
    sys.exit(code)
