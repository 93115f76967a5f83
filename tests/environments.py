"""Environments with few packages: folders of links to what is installed, for ``python -S``."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import numpy as np

INSTALLED = Path(np.__file__).parents[1]


def link_packages(folder: Path, *names: str) -> Path:
    """Link packages, named as they are imported, and all that they require, into a folder."""
    # MMEngine may be the fork's, which has the import name and another one of its own
    providers = packages_distributions()
    seen, queue = set(), [providers.get(name, [name])[0] for name in names]
    while queue:
        name = re.split(r'[^\w.-]', queue.pop())[0].lower().replace('_', '-')
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # for other systems
            continue
        queue += [line for line in found.requires or () if 'extra ==' not in line]
        for part in {Path(file).parts[0] for file in found.files} - {'..', '__pycache__'}:
            if not (folder / part).exists():
                (folder / part).symlink_to(INSTALLED / part)
    return folder


def run_in(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run Python with the packages of a folder and no others."""
    command = [sys.executable, '-S', *map(str, arguments)]
    return subprocess.run(command, env={'PYTHONPATH': str(folder)}, capture_output=True, text=True, timeout=120)
