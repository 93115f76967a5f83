"""The checkpoint that training goes on from: the newest in a work dir that is whole and finite."""

from __future__ import annotations

from pathlib import Path

from mmengine.logging import print_log

from ..errors import InputError
from .compatibility import check_finite
from .reading import weights_in
from .safe_load import load_local


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """The checkpoint that ``last_checkpoint`` names, or the newest that loads whole where that one doesn't.

    One with weights that are infinite or NaN is passed over.

    Args:
        work_dir: The folder of a run.

    Returns:
        Its path; None where the folder has no checkpoint, so that training starts from the beginning.

    Raises:
        InputError: There are checkpoints, and none of them loads.
    """
    folder = Path(work_dir)
    pointer = folder / 'last_checkpoint'
    named = None
    if pointer.is_file():
        named = Path(pointer.read_text(errors='replace').strip('\0 \n') or folder)
        if not named.is_file() and (folder / named.name).is_file():
            named = folder / named.name  # the folder was moved
    if named is not None and '://' in str(named):
        return str(named)
    files = sorted((path for path in folder.glob('*.pth')), key=lambda path: path.stat().st_mtime, reverse=True)
    candidates = dict.fromkeys(([named] if named and named.is_file() else []) + files)
    problems = []
    for path in candidates:
        try:
            content = load_local(str(path), 'cpu')
            if not isinstance(content, dict) or 'optimizer' not in content:
                raise InputError(f'{path} has no training state')
            check_finite(weights_in(content, str(path)), str(path))
        except InputError as error:
            problems.append(str(error))
            continue
        if path != named:
            why = problems[0] if problems else f'{pointer} names {named or "nothing"}, which is not there'
            print_log(f'Resuming from {path}, the newest checkpoint in {folder} that is whole: {why}', 'current', 30)
        return str(path)
    if problems:
        raise InputError(
            f'none of the {len(problems)} checkpoints in {folder} can be resumed from; the newest: {problems[0]}'
        )
    print_log(f'{folder} has no checkpoint; training starts from the beginning', 'current', 30)
    return None
