"""Writing files so that a kill or a full disk leaves either the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError


def write_text(path: Path, text: str) -> None:
    """Replace a small file at once."""
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with open(partial, 'w') as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder to write to, if it isn't there.

    Raises:
        InputError: It can't be made, or not written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f'.probe{os.getpid()}'
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f'cannot write to the folder {path}: {error}') from error
