"""Configs that a run wrote, read as data: nothing in them is run, and nothing is built that no library registers."""

from __future__ import annotations

import ast
import importlib
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import get_object_from_string

from ..errors import InputError
from .settings import find_registered, library_registries, nodes

CONSTANTS = dict(inf=math.inf, nan=math.nan)
# Where a type may be looked up by its whole name, as configs in pure Python are dumped.
LIBRARIES = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'ean_mmdet', 'torch')


def read_dumped_config(path: str | os.PathLike) -> Config:
    """Read a config as mmengine dumps it beside a log, without running it.

    Args:
        path: The file: assignments of numbers, strings, lists, tuples and dicts.

    Raises:
        InputError: There is no such file, or something in it isn't data: calls, imports, names, expressions.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding='utf-8')
        settings: dict[str, Any] = {}
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign) or not all(isinstance(t, ast.Name) for t in statement.targets):
                raise _not_data(statement)
            settings |= {target.id: _value(statement.value) for target in statement.targets}  # type: ignore[attr-defined]
        return Config(settings, cfg_text=text, filename=str(path))
    except InputError as error:
        raise InputError(f'{path} was not read: {error}') from error
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise InputError(f'{path} is no valid config: {type(error).__name__}: {error}') from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        if isinstance(value, (int, float)):
            return -value
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(_value(entry) for entry in node.elts)
    if isinstance(node, ast.Dict):
        return _entries(node)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ('dict', 'set')
        and (node.func.id == 'dict' or not (node.args or node.keywords))
    ):
        if node.func.id == 'set':
            return set()
        found: dict[Any, Any] = {}
        for argument in node.args:
            if not isinstance(argument, ast.Dict):
                raise _not_data(argument)
            found |= _entries(argument)
        for keyword in node.keywords:
            if keyword.arg is not None:
                found[keyword.arg] = _value(keyword.value)
            elif isinstance(keyword.value, ast.Dict):
                found |= _entries(keyword.value)
            else:
                raise _not_data(keyword.value)
        return found
    raise _not_data(node)


def _entries(node: ast.Dict) -> dict:
    if None in node.keys:
        raise _not_data(node)
    return {_value(key): _value(value) for key, value in zip(node.keys, node.values) if key is not None}


def _not_data(node: ast.AST) -> InputError:
    line = getattr(node, 'lineno', 0)
    return InputError(
        f'line {line} is no data: {ast.unparse(node)[:60]!r}. What a run dumps has numbers, strings, lists and dicts '
        f'alone; if the file is a config of your own, trusted, give it to the tools that take a CONFIG'
    )


def check_buildable(config: Config) -> None:
    """Refuse to build from a config that a run wrote what could run any code.

    That is: a type that no library registers, which MMEngine would import by its name, and data that is a pickle.

    Args:
        config: The config. What it has in ``custom_imports`` isn't imported, but for this package's own.

    Raises:
        InputError: There is such a setting.
    """
    imports = (config.get('custom_imports') or {}).get('imports') or []
    for module in [imports] if isinstance(imports, str) else imports:
        if str(module).partition('.')[0] == 'ean_mmdet':
            importlib.import_module(str(module))
        elif module not in sys.modules:
            raise InputError(
                f'{config.filename} has modules of its own, {module}, and what a run wrote imports none. Name the '
                f'config that was trained, which does: --base CONFIG, with PYTHONPATH as in training'
            )
    default = config.get('default_scope') or 'mmdet'
    for key, value in nodes(config.to_dict()):
        if isinstance(value, dict) and isinstance(value.get('type'), str):
            if not _is_registered(value['type'], str(value.get('_scope_') or default)):
                raise InputError(f'{key}.type of {config.filename} is {value["type"]!r}, which no library registers')
        elif isinstance(value, str) and value.endswith(('.pkl', '.pickle')):
            raise InputError(f'{key} of {config.filename} is the pickle {value!r}: loading it could run any code')


def _is_registered(kind: str, scope: str) -> bool:
    library = kind.partition('.')[0] if '.' in kind else scope
    if library.isidentifier() and library_registries(library) and find_registered(kind, scope):
        return True
    if '.' not in kind:
        # found by nobody or by a library's own look-up, such as mmcv.ops.nms; MMEngine would import a module so named
        return find_spec(kind) is None if kind.isidentifier() else True
    if library not in LIBRARIES:
        return False
    found = get_object_from_string(kind)
    return any(found is entry for registry in library_registries(scope) for entry in registry.module_dict.values())
