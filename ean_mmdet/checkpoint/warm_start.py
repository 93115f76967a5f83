"""Starting a network with attention from a checkpoint of the network without it, and losing nothing."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmengine.model import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner.checkpoint import CheckpointLoader
from terminaltables import AsciiTable
from torch import Tensor, nn

from ..attention import EAN
from ..attention.checks import gate_layers
from ..errors import InputError
from .lift import examine, lift, zero_gate_layers
from .loaded import note_loaded
from .sources import Match, match, sample, weights_of


@dataclass
class Report:
    """What a warm start did. Keys are the model's, those of ``match.skipped`` the checkpoint's.

    Attributes:
        match: What the checkpoint had for the model.
        scaled: The factor of each norm that was scaled, by its name.
        gates: The keys of the new attention modules, which stay at their initial values.
        loaded_gates: The attention modules whose weights the checkpoint had. Where there are any, nothing is scaled.
        notes: What else there is to know.
    """

    match: Match
    scaled: dict[str, float]
    gates: list[str]
    loaded_gates: list[str]
    notes: list[str]

    def __str__(self) -> str:
        rows = [['', 'keys', 'count', '']]
        rows += _rows('matched', dict.fromkeys(self.match.tensors, ''))
        scaled = {
            f'{norm}.{key}': f'× {factor:g}' for norm, factor in self.scaled.items() for key in ('weight', 'bias')
        }
        rows += _rows('scaled', scaled)
        rows += _rows('skipped', self.match.skipped)
        new = set(self.gates)
        missing = {key: 'new attention, at its start' if key in new else 'as initialized' for key in self.match.missing}
        rows += _rows('missing', missing)
        return '\n'.join([f'source: {self.match.source}', AsciiTable(rows).table, *self.notes])


def warm_start(
    model: nn.Module,
    weights: dict[str, Tensor],
    zero_init_gate: bool = False,
    name: str = 'the checkpoint',
) -> Report:
    """Load the weights of a plain network into one with attention, which then computes what the plain one did.

    The norm in front of each attention module is scaled by the inverse of the module's initial mask, see
    :mod:`ean_mmdet.checkpoint.lift`. Weights that already come with attention load as they are.

    Args:
        model: The network, its attention at its initial values: a backbone, or a detector or classifier.
        weights: The checkpoint's, see :func:`ean_mmdet.checkpoint.sources.weights_of`.
        zero_init_gate: Whether to zero the last layer of modules whose mask is constant only then, such as SE.
            Defaults to False.
        name: What to call the checkpoint in an error. Defaults to ``'the checkpoint'``.

    Raises:
        InputError: Then the model is as it was. The checkpoint is of another network, or has some of the attention
            modules and lacks others; the weight norm of its EANs isn't the model's; or the network can't be made to
            compute what it did.
    """
    found = match(weights, model.state_dict(), name)
    if found.authors_ean:
        _check_weight_norm(model, name)
    # Whether a network computes what it did shows when it runs: planned and checked on a copy.
    planned = copy.deepcopy(model)
    report = _plan(planned, found, zero_init_gate, name)
    model.load_state_dict(planned.state_dict())
    return report


def _plan(model: nn.Module, found: Match, zero_init_gate: bool, name: str) -> Report:
    """Load what was found, scale the norms in front of the new gates, and check what the network computes then."""
    own = model.state_dict(keep_vars=True)
    declared, others, loaded = _new_modules(model, own, found, name)
    model.load_state_dict(found.tensors, strict=False)
    if loaded:
        others = dict.fromkeys(others)
    elif zero_init_gate:
        for module in declared.values():
            zero_gate_layers(module)
    gates = {}
    if not loaded and (declared or any(others.values())):
        gates = examine(model, {**declared, **{key: module for key, module in others.items() if module is not None}})
    unknown = [key for key in others if key not in gates or gates[key].mask is None]
    if unknown:
        silent = dict.fromkeys(type(others[key]).__name__ for key in unknown if key in gates)
        hint = (
            f'. If {" and ".join(silent)} is an attention module of your own, give its class gate_layers, see '
            f'docs/own_module.md'
        )
        raise InputError(
            f'{name} is of another architecture than the model (another depth?): it lacks {sample(unknown)}, which '
            f"isn't attention with a constant mask at its start, so the network would not compute what it did"
            f'{hint if silent else ""}'
        )
    _check_gates(declared, gates, zero_init_gate)
    scaled = lift(model, gates) if gates else {}

    keys = _keys_of(own)
    new = [key for gate in gates.values() for key in keys(gate.module)]
    notes = []
    if loaded:
        notes.append(
            f'{name} already has {len(loaded)} attention modules; they are loaded as they are, nothing is scaled.'
        )
    elif not gates:
        notes.append('The model has no new attention modules; nothing is scaled.')
    if found.authors_ean:
        notes.append("Its EANs are those of the authors' classification code, whose weight norm is 'rms'.")
    return Report(found, scaled, new, loaded, notes)


@WEIGHT_INITIALIZERS.register_module()
class WarmStart:
    """Weight initializer that adds attention to a pretrained network and loses nothing.

    Loads a checkpoint of the network without attention and scales the norm in front of each attention module by the
    inverse of the module's initial mask (Li, Li and Wen, AAAI 2024: an EAN halves its input at the start, so the norm
    is doubled). The network then computes what the plain one did, to rounding, in training and evaluation mode. A
    checkpoint that already has attention weights is loaded as it is.

    It recognises, by their keys: ResNets of torchvision and timm, classifiers of mmpretrain, detectors of MMDetection
    (a backbone takes theirs; a detector all of it), MobileNeXt of the public code, and EANs of the authors'
    classification code.

    Args:
        checkpoint: Path, ``https://…``, ``torchvision://NAME`` or ``open-mmlab://NAME``.
        prefix: Take only the keys that start with it, without it. Defaults to None, all.
        zero_init_gate: Whether to start attention whose mask isn't constant (SE, ECA, CA) with a last layer of zeros,
            which makes it so. Defaults to False.

    Raises:
        InputError: When called, see :func:`warm_start`; or it isn't the only initializer that sets what it sets.

    Example:
        >>> backbone = dict(
        ...     type='EANResNet', depth=50, init_cfg=dict(type='WarmStart', checkpoint='torchvision://resnet50'))
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, zero_init_gate: bool = False) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.zero_init_gate = zero_init_gate

    def __call__(self, module: Any) -> None:
        """Initialize ``module``, its children included."""
        self._check_order(module)
        # mmengine initializes the children after this, unless they are already: what was loaded has to stay.
        for child in module.children():
            if hasattr(child, 'init_weights') and not getattr(child, 'is_init', False):
                child.init_weights()
                child.is_init = True
        content = CheckpointLoader.load_checkpoint(self.checkpoint, map_location='cpu', logger='current')
        weights = weights_of(content, self.prefix, self.checkpoint)
        report = warm_start(module, weights, self.zero_init_gate, self.checkpoint)
        note_loaded(module, report.match.tensors)
        print_log(f'{type(module).__name__} starts from {self.checkpoint}\n{report}', logger='current')
        # mmpretrain's backbones go on to initialize themselves, unless their weights come from this type.
        module.init_cfg = dict(type='Pretrained', checkpoint=self.checkpoint)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'WarmStart: load from {self.checkpoint}')

    def _check_order(self, module: nn.Module) -> None:
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, (list, tuple)) and len(init_cfg) > 1:
            types = [cfg['type'] for cfg in init_cfg]
            if types[-1] not in ('WarmStart', WarmStart) or 'Pretrained' in types:
                raise InputError(
                    f'WarmStart must be the last of the initializers in init_cfg of {type(module).__name__}, and there '
                    f'must be no Pretrained beside it, as they would overwrite what it loads; got {types}'
                )


def _keys_of(own: dict[str, Tensor]):
    """A function from a module to its keys in ``own``, which need not be those that its name suggests."""
    names = {id(tensor): key for key, tensor in own.items()}

    def keys(module: nn.Module) -> list[str]:
        tensors = [*module.parameters(), *module.buffers()]
        return [names[id(tensor)] for tensor in tensors if id(tensor) in names]

    return keys


def _new_modules(
    model: nn.Module, own: dict[str, Tensor], found: Match, name: str
) -> tuple[dict[str, nn.Module], dict[str, nn.Module | None], list[str]]:
    """What of the model the checkpoint has nothing for, in the part of the model that it is of.

    Returns:
        New modules that declare themselves gates; other new modules of the backbone, with None for a single weight; and
        the names of the gates that the checkpoint has.
    """
    keys_of = _keys_of(own)
    missing = set(found.missing)
    declared: dict[str, nn.Module] = {}
    others: dict[str, nn.Module | None] = {}
    loaded: list[str] = []
    partial: list[str] = []
    covered: set[str] = set()
    visited: set[nn.Module] = set()

    def visit(path: str, module: nn.Module) -> None:
        if module in visited:
            return
        visited.add(module)
        keys = [key for key in keys_of(module) if not key.endswith('num_batches_tracked')]
        inside = keys[0].startswith(found.region) if keys else path.startswith(found.region)
        absent = [key for key in keys if key in missing]
        if hasattr(module, 'gate_layers') and inside:
            covered.update(keys)
            if len(absent) == len(keys):
                declared[path] = module
            else:
                (partial if absent else loaded).append(path)
            return
        grouping = isinstance(module, (nn.ModuleList, nn.ModuleDict))
        if absent and len(absent) == len(keys) and not grouping and absent[0].startswith(found.own_prefix):
            covered.update(keys)
            others[path] = module
            return
        for child, submodule in module.named_children():
            visit(f'{path}.{child}' if path else child, submodule)

    for child, submodule in model.named_children():
        visit(child, submodule)
    rest = [key for key in found.missing if key not in covered and key.startswith(found.own_prefix)]
    others.update(dict.fromkeys(rest))
    # Modules without weights are in no checkpoint.
    new = [path for path, module in declared.items() if keys_of(module)]
    if partial or (loaded and new):
        incomplete = partial or new
        raise InputError(
            f'{name} has weights of some attention modules and lacks others: it has {sample(loaded or partial)}, and '
            f'lacks {"some of " if partial else ""}{sample(incomplete)}. It must have all of them, then it is loaded '
            f'as it is, or none'
        )
    return ({} if loaded else declared), others, loaded


def _check_gates(declared: dict[str, nn.Module], gates: dict, zero_init_gate: bool) -> None:
    uncalled = [path for path in declared if path not in gates]
    if uncalled:
        raise InputError(
            f'{sample(uncalled)}: not called as a module on a feature map when the network runs, so the norm in front '
            f'cannot be found'
        )
    varying = [path for path in declared if gates[path].mask is None]
    if varying:
        kinds = ', '.join(dict.fromkeys(type(declared[path]).__name__ for path in varying))
        text = f'the mask of {kinds} ({sample(varying)}) depends on its input from the start'
        if not zero_init_gate and all(gate_layers(declared[path]) for path in varying):
            raise InputError(
                f'{text}, so no scaling makes up for it. Set zero_init_gate=True in init_cfg: with a last layer of '
                f'zeros it starts constant'
            )
        raise InputError(
            f'{text}, so no scaling makes up for it. What is left is to skip its keys: '
            f"init_cfg=dict(type='Pretrained', checkpoint=…)"
        )


def _check_weight_norm(model: nn.Module, name: str) -> None:
    norms = {module.weight_norm for module in model.modules() if isinstance(module, EAN)}
    if norms - {'rms'}:
        raise InputError(
            f"{name} has EANs of the authors' classification code, which computes with weight_norm='rms', but the "
            f"model's have {', '.join(map(repr, sorted(norms)))}. Set weight_norm='rms' in the backbone's config"
        )


def _rows(kind: str, remarks: dict[str, str]) -> list[list[str]]:
    """Table rows for keys and a remark on each; keys that differ in numbers or in their last part share a row."""
    groups: dict[tuple[str, str], list[str]] = {}
    for key, remark in remarks.items():
        groups.setdefault((re.sub(r'\d+', '*', key.rpartition('.')[0]), remark), []).append(key)
    return [[kind, _pattern(keys), str(len(keys)), remark] for (_, remark), keys in groups.items()] or [
        [kind, '', '0', '']
    ]


def _pattern(keys: list[str]) -> str:
    """Keys of the same make as one: ``layer*.*.bn3.*``."""
    pieces = zip(*(re.split(r'(\d+|[^.]+$)', key) for key in keys))
    return ''.join(piece[0] if len(set(piece)) == 1 else '*' for piece in pieces)
