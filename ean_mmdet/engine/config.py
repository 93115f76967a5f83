"""Reading a config file, with errors that say what is near."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Collection
from pathlib import Path

from mmengine.config import Config

from ..errors import InputError, near_names
from .settings import SPLITS, check_settings

# mmengine 0.10 imports pkg_resources for every config it reads, and setuptools warns each time.
warnings.filterwarnings('ignore', message='pkg_resources is deprecated')


def load_config(path: str, options: dict | None = None, splits: Collection[str] = SPLITS) -> Config:
    """Read a config file and merge ``options`` into it.

    Args:
        path: Path of the config.
        options: Settings to override, as ``--cfg-options`` gives them: dotted keys and their values.
        splits: What is run, see :func:`ean_mmdet.engine.settings.check_settings`. Defaults to all.

    Raises:
        InputError: There is no such file (names those that are near), it isn't a valid config, or nothing reads a
            setting.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f'no config at {path}{_near_configs(file)}')
    try:
        config = Config.fromfile(path)
    except ImportError as error:
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__ or cause
        raise InputError(
            f'{path} is no valid config: {type(cause).__name__}: {cause}. A module of your own in custom_imports is '
            f'found in the folders of PYTHONPATH: PYTHONPATH=FOLDER python tools/…'
        ) from error
    except Exception as error:  # a config is a program, and can fail in any way
        raise InputError(f'{path} is no valid config: {type(error).__name__}: {error}') from error
    before = copy.deepcopy(config)
    for key, value in (options or {}).items():
        try:
            config.merge_from_dict({key: value})
        except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f'--cfg-options {key}={value} cannot be set in {path}: {type(error).__name__}: {error}'
            ) from error
    check_settings(config, options or {}, before, splits)
    return config


def set_work_dir(config: Config, work_dir: str | None, path: str) -> None:
    """Set where a run writes: the command line's folder, else the config's, else ``work_dirs/CONFIG_NAME``."""
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = os.path.join('work_dirs', Path(path).stem)
    if not isinstance(config.work_dir, str):
        raise InputError(f'work_dir must be the path of a folder, got {config.work_dir!r}')


def _near_configs(file: Path) -> str:
    folder = file.parent if file.parent.is_dir() else Path('configs')
    names = {p.name: p for p in sorted(folder.rglob('*.py')) if '_base_' not in p.parts} if folder.is_dir() else {}
    near = near_names(file.name, names, cutoff=0.5) or list(names)[:5]
    return f'; did you mean {" or ".join(str(names[name]) for name in near)}?' if near else ''
