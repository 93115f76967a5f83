"""The one exception for what a user can put right, and the names that a misspelt one is near to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A config, data set or checkpoint that cannot be used; the message says why and what would be right."""


def near_names(name: str, names: Iterable[str], most: int = 3, cutoff: float = 0.6) -> list[str]:
    """Names that a misspelt one may stand for, the nearest first; alone where only the case differs.

    Args:
        name: The misspelt name.
        names: Those that there are.
        most: How many at most. Defaults to 3.
        cutoff: Least similarity, 0 to 1, see :func:`difflib.get_close_matches`. Defaults to 0.6.
    """
    by_lower: dict[str, str] = {}
    for known in names:
        by_lower.setdefault(known.lower(), known)
    if name.lower() in by_lower:
        return [by_lower[name.lower()]]
    return [by_lower[found] for found in difflib.get_close_matches(name.lower(), by_lower, n=most, cutoff=cutoff)]


def did_you_mean(name: str, names: Iterable[str], most: int = 3, cutoff: float = 0.6) -> str:
    """The end of a message, ``'; did you mean A or B?'``, or nothing where no name is near. See :func:`near_names`."""
    near = near_names(name, names, most, cutoff)
    return f'; did you mean {" or ".join(near)}?' if near else ''
