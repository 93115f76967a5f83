"""Settings that nothing reads: misspelt ones, and overrides of what has no effect.

MMEngine takes any key. What comes of it depends on the place: a constructor refuses it, often in the name of a base
class; a dict that is looked up key by key, such as ``test_cfg`` or ``paramwise_cfg``, ignores it. A key is known here
if the runner has it as an argument, or the constructor of the dict's ``type``; and, in a dict without a type, if it
stands anywhere in the source of the libraries that the config uses, as nothing can read a key whose name it hasn't.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import re
import textwrap
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import Registry
from mmengine.runner import FlexibleRunner, Runner, set_random_seed
from mmengine.utils.dl_utils import set_multi_processing
from torch.nn.utils import clip_grad
from torch.utils.data import DataLoader

from ..errors import InputError, did_you_mean, near_names

# Read from the config itself, beside the runner's arguments.
FROM_CONFIG = {
    *('custom_imports', 'runner_type', 'tta_model', 'tta_pipeline', 'broken_images'),
    *('model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'compile'),
    *('activation_checkpointing', 'efficient_conv_bn_eval'),
}
# What reads a dict that has no type.
READERS: dict[str, Callable] = {
    'train_dataloader': DataLoader,
    'val_dataloader': DataLoader,
    'test_dataloader': DataLoader,
    'randomness': set_random_seed,
    'mp_cfg': set_multi_processing,
    'compile': torch.compile,
    'clip_grad': clip_grad.clip_grad_norm_,
}
# Taken out by whoever builds from a dict, before the constructor sees it.
BY_BUILDER = {'type', '_scope_', 'priority', 'requires_grad', 'constructor', 'paramwise_cfg', 'convert_to_iter_based'}
# Their dicts are read by another library, or have names of the user's own.
FOREIGN_TYPES = {'Albu', 'Detectron2Wrapper'}
FOREIGN_KEYS = {'caption_prompt', 'custom_keys', 'metainfo', 'strategy'}
METAINFO = ('classes', 'palette')
# MMDetection 2's keys, and what took their place.
REPLACED = dict(
    optimizer='optim_wrapper.optimizer',
    optimizer_config='optim_wrapper.clip_grad',
    lr_config='param_scheduler',
    data='train_dataloader, val_dataloader and test_dataloader',
    runner='train_cfg',
    total_epochs='train_cfg.max_epochs',
    evaluation='val_evaluator and train_cfg.val_interval',
    checkpoint_config='default_hooks.checkpoint',
    log_config='default_hooks.logger',
    fp16="optim_wrapper.type='AmpOptimWrapper'",
)
LIBRARIES = {'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'ean_mmdet'}
SPLITS = ('train', 'val', 'test')
# Variables of nearly every config, which stand unused in one that a run has dumped, and are near to a key.
VARIABLES = frozenset(
    {'train_pipeline', 'val_pipeline', 'test_pipeline', 'train_dataset', 'val_dataset', 'test_dataset'}
)
# Similarity of names: a key that nothing reads, and one that something may read, though not here.
NEAR, NEARER = 0.8, 0.85


def check_settings(config: Config, options: dict[str, Any], before: Config, splits: Collection[str] = SPLITS) -> None:
    """Refuse settings that nothing reads.

    Args:
        config: The config, options merged.
        options: The overrides of the command line, by dotted key.
        before: The config without them.
        splits: What is run, of ``train``, ``val`` and ``test``; an option of another one gets a warning.
            Defaults to all.

    Raises:
        InputError: A key that nothing reads; names what is near, or the keys that do what was meant.
    """
    _check_scope('default_scope', config.get('default_scope'))
    vocabulary = _Vocabulary(config)
    for key, value in options.items():
        _check_option(key, value, before, vocabulary)
        split = re.match('(train|val|test)_(dataloader|evaluator|cfg)', key)
        if split and split[1] not in splits:
            instead = ' and '.join(f'{name}_{split[2]}' for name in splits if f'{name}_{split[2]}' in config)
            print_log(f'--cfg-options {key}={value} changes nothing here, where {instead} is read', 'current', 30)
    _check_top(config, vocabulary)
    for name in sorted(config.keys() & known_keys() - FOREIGN_KEYS):
        _check_tree(name, config[name], config, vocabulary)


@contextlib.contextmanager
def build_errors(config: Config) -> Iterator[None]:
    """Turn what MMEngine raises where it can't build into an error that says where in the config that is.

    Args:
        config: The config that is built.

    Raises:
        InputError: It can't be built.
    """
    try:
        yield
    except InputError:
        raise
    except (AssertionError, ImportError, KeyError, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split())
        if not reason:  # a bare assertion
            frame = traceback.extract_tb(error.__traceback__)[-1]
            owner = list(traceback.walk_tb(error.__traceback__))[-1][0].f_locals.get('self')
            whose = f'{type(owner).__name__}: ' if owner is not None else ''
            reason = f'{whose}{type(error).__name__} at {frame.line!r} ({frame.filename}, line {frame.lineno})'
        raise InputError(f'the config cannot be built: {_place(config, reason) or reason}') from error


def _place(config: Config, reason: str) -> str | None:
    """Find the place in a config of an argument or a type that could not be built from, with near names."""
    argument = re.search(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", reason)
    unknown = re.search(r'(?:([\w.]+) is not in the \S+ registry|Cannot find \S+ in registry)', reason)
    for key, entry in _dicts(config.to_dict()):
        kind = entry.get('type')
        if not isinstance(kind, str) or key.partition('.')[0] not in known_keys():
            continue
        found = find_registered(kind, _scope(entry, config))
        if argument and argument[2] in entry:
            for cls in found:
                if argument[1] in {base.__name__ for base in getattr(cls, '__mro__', (cls,))}:
                    return f'{key}: {_takes_no(kind, argument[2], _parameters(cls) or _own_parameters(cls))}'
        # mmcv's builders don't name what they can't find; they build from plugins' cfg, norm_cfg and the like
        elif unknown and not found and (unknown[1] == kind or (unknown[1] is None and key.endswith('cfg'))):
            near = _near_types(kind, _scope(entry, config), 0.6)
            hint = f'did you mean {" or ".join(near)}?' if near else 'is the module that has it in custom_imports?'
            return f'{key}: there is no {kind}; {hint}'
    return None


class _Vocabulary:
    """The words in the source of the libraries that a config uses, read when one is asked for."""

    def __init__(self, config: Config) -> None:
        imports = config.get('custom_imports') or {}
        modules = imports.get('imports') or []
        modules = [modules] if isinstance(modules, str) else modules
        scope = config.get('default_scope') or 'mmdet'
        self.own = {module.partition('.')[0] for module in (*modules, scope)} - LIBRARIES
        self.libraries = LIBRARIES | {scope}

    def __contains__(self, word: str) -> bool:
        return any(word in _words(package) for package in (*sorted(self.own), *sorted(self.libraries)))

    def near(self, word: str) -> list[str]:
        known = set().union(*(_words(package) for package in self.libraries))
        alike = (w for w in known if abs(len(w) - len(word)) < 3 and w.islower() == word.islower())
        return near_names(word, sorted(alike), 1, NEAR)

    def in_own(self, word: str) -> bool:
        """True where the user's own modules have it."""
        return any(word in _words(package) for package in self.own)


@functools.cache
def _words(package: str) -> frozenset[str]:
    spec = find_spec(package)
    if spec is None:
        return frozenset()
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in folder.rglob('*.py') if '.mim' not in file.parts]
    texts = (file.read_text(encoding='utf-8', errors='replace') for file in files or [Path(str(spec.origin))])
    return frozenset(word for text in texts for word in set(re.findall(r'[A-Za-z_]\w*', text)))


@functools.cache
def known_keys() -> frozenset[str]:
    """Top-level keys that are read."""
    runners = (Runner, FlexibleRunner)
    return frozenset(FROM_CONFIG.union(*(inspect.signature(runner.__init__).parameters for runner in runners)))


def _check_top(config: Config, vocabulary: _Vocabulary) -> None:
    where = config.filename or 'the config'
    # a config that a run has dumped has no bases, and the variables of those that it was made of, used by nothing
    cutoff = NEAR if re.search(r'(?m)^_base_\s*=|^with read_base', config.text or '_base_ =') else NEARER
    for name in config:
        if name in known_keys() | VARIABLES or vocabulary.in_own(name) or not _is_unused(name, config):
            continue
        if near := near_names(name, known_keys(), 1, cutoff):
            raise InputError(f'nothing reads {name} of {where}; did you mean {near[0]}?')
        if name in REPLACED:
            print_log(
                f"nothing reads {name} of {where}: it is MMDetection 2's; it is {REPLACED[name]} now", 'current', 30
            )


def _is_unused(name: str, config: Config) -> bool:
    """Tell whether a variable of a config stands nowhere, in the file and its bases, but left of an equals sign."""
    if not str(config.filename).endswith('.py'):
        return True  # JSON and YAML have no variables
    text = re.sub(r"""'[^'{\n]*'|"[^"{\n]*"|#.*""", '', config.text)
    assigned = re.search(rf'(?m)^{re.escape(name)}\s*=', text)
    return assigned is not None and not re.search(rf'\b{re.escape(name)}\b(?!\s*=[^=])', text)


def _check_option(key: str, value: Any, before: Config, vocabulary: _Vocabulary) -> None:
    settings, told = before.to_dict(), f'--cfg-options {key}={value} changes nothing'
    first, *rest = key.split('.')
    if first not in known_keys() and not vocabulary.in_own(first):
        if first not in settings:
            nested = [k for k, _ in nodes(_read(settings)) if k.rpartition('.')[2] == key]
            hint = f'; did you mean {" or ".join(nested[:3])}?' if nested else ''
            hint = hint or did_you_mean(first, {*known_keys(), *settings}, 1)
            raise InputError(f'{told}: nothing reads {first}{hint}')
        raise InputError(
            f'{told}: {first} is a variable of the config file, which has been used by the time that options are set. '
            f'{_instead(first, rest, value, settings)}'
        )
    place: Any = settings
    for number, name in enumerate((first, *rest)):
        if isinstance(place, dict) and name in place:
            place = place[name]
        elif isinstance(place, (list, tuple)) and name.isdigit() and int(name) < len(place):
            place = place[int(name)]
        else:
            if isinstance(place, dict) and number and 'type' not in place and not FOREIGN_KEYS.intersection(rest):
                at = '.'.join((first, *rest)[:number])
                if near := near_names(name, [known for known in place if isinstance(known, str)], 1, NEARER):
                    raise InputError(f'{told}: nothing reads {at}.{name}; did you mean {at}.{near[0]}?')
            return


def _read(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if key in known_keys()}


def _instead(name: str, rest: list[str], value: Any, settings: dict) -> str:
    """The options that do what one of a variable would have done."""
    old, found = settings[name], {}
    for key, node in nodes(_read(settings)):
        if isinstance(old, (dict, list, tuple)):
            if old and node == old:
                found['.'.join((key, *rest))] = value
        elif isinstance(old, str) and len(old) > 1 and isinstance(node, str) and node.startswith(old):
            found[key] = f'{value}{node[len(old) :]}'
        elif key.rpartition('.')[2] == name and node == old:
            found[key] = value
    if not found:
        return 'Override the setting that it is used in, or write a config of your own'
    return f'Where it went: --cfg-options {" ".join(f"{key}={entry}" for key, entry in list(found.items())[:8])}'


def _check_scope(key: str, scope: Any) -> None:
    if scope is not None and not isinstance(scope, str):
        raise InputError(f"{key} must be the name of a library, such as 'mmdet', got {scope!r}")


def _check_tree(name: str, value: Any, config: Config, vocabulary: _Vocabulary) -> None:
    if name == 'default_hooks' and isinstance(value, dict):
        for hook, entry in value.items():
            if isinstance(entry, dict) and 'type' not in entry and hook not in _default_hooks():
                hint = did_you_mean(hook, {*_default_hooks(), *value} - {hook}, 1)
                raise InputError(f'default_hooks.{hook} has no type{hint}')
    for key, entry in _dicts(value, name):
        kind = entry.get('type')
        _check_scope(f'{key}._scope_', entry.get('_scope_'))
        if isinstance(kind, str):
            found = find_registered(kind, _scope(entry, config))
            if not found:
                if kind not in vocabulary and (near := _near_types(kind, _scope(entry, config))):
                    raise InputError(f'{key}: there is no {kind}; did you mean {" or ".join(near)}?')
                continue
            taken = [_parameters(each) for each in found]
            known = None if None in taken else set().union(*(names for names in taken if names)) | BY_BUILDER
        elif kind is None:
            reader = READERS.get(key.rpartition('.')[2])
            known = set(inspect.signature(reader).parameters) if reader else set()
        else:
            continue  # a class, of a config in pure Python
        if known is None:
            continue
        for setting in entry:
            if not isinstance(setting, str) or not setting.isidentifier() or setting in known:
                continue
            if kind is not None:
                if near_names(setting, known, 1, NEARER) or setting not in vocabulary:
                    raise InputError(f'{key}: {_takes_no(str(kind), setting, known)}')
            elif setting not in vocabulary:
                near = near_names(setting, [*known, *(k for k in entry if k != setting)], 1, NEAR)
                near = near or vocabulary.near(setting)
                if near:
                    raise InputError(f'nothing reads {key}.{setting}; did you mean {near[0]}?')
                print_log(f'nothing in the libraries of the config reads {key}.{setting}', 'current', 30)
        if isinstance(entry.get('metainfo'), dict):
            for setting in entry['metainfo']:
                near = near_names(str(setting), METAINFO, 1, NEAR) if setting not in METAINFO else []
                if near and near[0] not in entry['metainfo']:
                    raise InputError(f'nothing reads {key}.metainfo.{setting}; did you mean {near[0]}?')


@functools.cache
def _default_hooks() -> frozenset[str]:
    """Names of the hooks that a runner has by itself, as its source lists them."""
    text = inspect.getsource(Runner.register_default_hooks)
    return frozenset(re.findall(r'(\w+)=dict\(type=', text))


def _takes_no(kind: str, setting: str, known: Iterable[str] | None) -> str:
    known = set(known or ()) - BY_BUILDER
    hint = did_you_mean(setting, known, cutoff=0.7) or (f'; it takes {", ".join(sorted(known))}' if known else '')
    if setting == 'plugins':
        hint = (
            f"; attention goes into it by backbone=dict(_delete_=True, type='WithAttention', "
            f"backbone=dict(type='{kind}', …), attention=dict(type=…))"
        )
    return f'{kind} takes no argument {setting!r}{hint}'


def _near_types(kind: str, scope: str, cutoff: float = NEAR) -> list[str]:
    names = {name for registry in _registries(scope) for name in registry.module_dict}
    return near_names(kind, sorted(names), 3, cutoff)


def _scope(entry: dict, config: Config) -> str:
    return entry.get('_scope_') or config.get('default_scope') or 'mmdet'


def find_registered(name: str, scope: str) -> list[Callable]:
    """Return what a name may stand for: of each registry that a library looks in, what it has under it."""
    prefix, _, bare = name.rpartition('.') if name.count('.') < 2 else ('', '', name)
    return [registry.module_dict[bare] for registry in _registries(prefix or scope) if bare in registry.module_dict]


@functools.cache
def library_registries(scope: str) -> tuple[Registry, ...]:
    """The registries of a library, filled; none if it isn't installed."""
    try:
        module = importlib.import_module(f'{scope}.registry')
    except ImportError:
        return ()
    found = tuple(value for value in vars(module).values() if isinstance(value, Registry))
    for registry in found:
        registry.import_from_location()
    return found


def _registries(scope: str) -> tuple[Registry, ...]:
    return tuple(dict.fromkeys((*library_registries(scope), *library_registries('mmengine'))))


@functools.cache
def _parameters(kind: Callable) -> frozenset[str] | None:
    """Names of the arguments that a class or function takes; None where it may take any."""
    if not inspect.isclass(kind):
        return _named(kind) if not _rest(kind) else None
    names: set[str] = set()
    for cls in kind.__mro__:
        init = vars(cls).get('__init__')
        if init is None:
            continue
        if cls is object:
            break
        if not inspect.isfunction(init) or hasattr(init, '__wrapped__'):
            return None
        names |= _named(init)
        rest = _rest(init)
        if not rest:
            break
        if not _only_forwards(init, rest, cls.__name__):
            return None
    return frozenset(names - {'self'})


def _own_parameters(kind: Callable) -> frozenset[str]:
    """Names that the constructors of a class and of its bases have."""
    classes = [cls for cls in getattr(kind, '__mro__', ()) if inspect.isfunction(vars(cls).get('__init__'))]
    return frozenset().union(*(_named(cls.__init__) for cls in classes)) - {'self'}


def _named(function: Callable) -> frozenset[str]:
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return frozenset()
    return frozenset(p.name for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _rest(function: Callable) -> str | None:
    """Name of the ``**kwargs`` of a function; of one that can't be looked into, any."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 'kwargs'
    return next((p.name for p in found if p.kind is p.VAR_KEYWORD), None)


def _only_forwards(init: Callable, rest: str, owner: str) -> bool:
    """Tell whether a constructor does nothing with its ``**kwargs`` but hand them to that of the next class."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    base = ('super().__init__', f'super({owner}, self).__init__')
    harmless = [
        keyword.value
        for call in calls
        if ast.unparse(call.func) in base
        for keyword in call.keywords
        if keyword.arg is None
    ]
    harmless += [call.func.value for call in calls if ast.unparse(call.func) == f'{rest}.get']  # type: ignore[attr-defined]
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == rest]
    return bool(uses) and all(use in harmless for use in uses)


def _dicts(value: Any, key: str = '') -> Iterator[tuple[str, dict]]:
    """The dicts in a config with their dotted keys, without those that are another library's."""
    if isinstance(value, dict):
        if isinstance(value.get('type'), str) and value['type'] in FOREIGN_TYPES:
            return
        yield key, value
        for name, entry in value.items():
            if name not in FOREIGN_KEYS:
                yield from _dicts(entry, f'{key}.{name}' if key else str(name))
    elif isinstance(value, (list, tuple)):
        for number, entry in enumerate(value):
            yield from _dicts(entry, f'{key}.{number}')


def nodes(value: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Everything in a config with its dotted key."""
    yield key, value
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, entry in entries:
        yield from nodes(entry, f'{key}.{name}' if key else str(name))
