"""Starting a network with attention from a checkpoint of the network without it, and losing nothing."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field

from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from terminaltables import AsciiTable
from torch import Tensor, nn

from ..attention.ean import EAN
from ..errors import InputError
from ..insertion import zero_gate_layers
from .compatibility import check_compatibility, unwrapped
from .keep import NotKeptError, constants, scale_norms, standing
from .layouts import Match, attention_keys, match_weights
from .loaded import note_loaded
from .reading import sample, weights_in


@dataclass
class Report:
    """Report on a loaded checkpoint. Keys are the model's, those of ``match.skipped`` the checkpoint's.

    Attributes:
        match: What the checkpoint had for the model.
        weights: What the model is to be loaded with, by its keys.
        scaled: The factor of each norm that was scaled, by its name.
        gates: The keys of the new attention modules.
        loaded_gates: The attention modules whose weights the checkpoint had. Where there are any, nothing is scaled.
        notes: What else there is to know.
    """

    match: Match
    weights: dict[str, Tensor]
    scaled: dict[str, float] = field(default_factory=dict)
    gates: list[str] = field(default_factory=list)
    loaded_gates: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

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

    def line(self) -> str:
        """Say what was scaled, in a line."""
        factors = ', '.join(f'× {factor:g}' for factor in dict.fromkeys(self.scaled.values()))
        return f'{len(self.scaled)} norms before new attention are scaled ({factors}); the network computes what it did'


def load_weights(
    model: nn.Module,
    weights: dict[str, Tensor],
    source: str = 'the checkpoint',
    complete: bool = False,
    strict: bool = False,
    keep_function: bool = True,
) -> Report:
    """Load weights into a network; where it has attention that they lack, it computes what it did without.

    The norm in front of each attention module is scaled by the inverse of the module's initial map, see
    :mod:`ean_mmdet.checkpoint.keep`; a last layer that has to be zero for that map to be constant (SE, ECA, CA) is
    zeroed. Weights that already come with attention load as they are. Keys are those of the model, or of another
    library's layout of the same network, see :mod:`ean_mmdet.checkpoint.layouts`.

    Args:
        model: The network, its attention at its initial values: a backbone, or a detector or classifier.
        weights: The checkpoint's, see :func:`.weights_in`.
        source: What to call the checkpoint in an error. Defaults to ``'the checkpoint'``.
        complete: Whether the model is used as it is, to evaluate or predict, see
            :func:`.check_compatibility`. Defaults to False.
        strict: Whether it is an error, and not a line in the log, if the checkpoint lacks a part of the backbone, or if
            the network can't be made to compute what it did. Defaults to False.
        keep_function: Whether to scale. Defaults to True.

    Raises:
        InputError: Then the model is as it was. The checkpoint is of another network; or, with ``strict``, see there.
    """
    report = adapt_weights(model, weights, source, complete, strict, keep_function)
    unwrapped(model).load_state_dict(report.weights, strict=False)
    note_loaded(unwrapped(model), report.match.tensors)
    return report


def adapt_weights(
    model: nn.Module,
    weights: dict[str, Tensor],
    source: str = 'the checkpoint',
    complete: bool = False,
    strict: bool = False,
    keep_function: bool = True,
) -> Report:
    """Make weights those that :func:`load_weights` loads, without loading them. Its arguments and errors."""
    model = unwrapped(model)
    found = match_weights(weights, model)
    declared, others, loaded = _new_modules(model, found, source, strict)
    if strict:
        _check_complete_parts(found, weights, model, source)
    else:
        if not found.by_name:
            print_log(f'{source} has {found.source}', 'current')
        own = model.state_dict()
        rest = {key: weights[key] for key in found.skipped if key in weights}
        new = {key: own[key] for key, module in attention_keys(model).items() if module in declared.values()}
        check_compatibility(model, {**rest, **new, **found.tensors}, source, complete)
        for key in [key for key, tensor in found.tensors.items() if tensor.shape != own[key].shape]:
            del found.tensors[key]
            found.missing.append(key)
    if found.authors_ean:
        _check_weight_norm(model, source)
    report = Report(found, dict(found.tensors), loaded_gates=loaded)
    if (declared and keep_function) or (strict and others):
        try:
            _keep(model, report, declared, others, source, strict)
        except (RuntimeError, TypeError, ValueError) as error:  # NotKeptError, or a module that takes no such input
            if strict:
                raise
            print_log(f'{source}: {error}. So the network computes something else than it would without', 'current', 30)
    if report.scaled and not strict:
        print_log(f'{source}: {report.line()}', 'current')
    if loaded:
        note = f'{source} already has {len(loaded)} attention modules; they are loaded as they are, nothing is scaled.'
        report.notes.append(note)
    elif not report.gates:
        report.notes.append('The model has no new attention modules; nothing is scaled.')
    if found.authors_ean:
        report.notes.append("Its EANs are those of the authors' classification code, whose weight norm is 'rms'.")
    return report


def load_complete(model: nn.Module, source: str) -> dict:
    """Load a checkpoint into the model that it is of, and return its content.

    Raises:
        InputError: It can't be loaded, or is another model's, see :func:`.check_compatibility`.
    """
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    load_weights(model, weights_in(checkpoint, source), source, complete=True)
    return checkpoint


def _check_complete_parts(found: Match, weights: dict[str, Tensor], model: nn.Module, source: str) -> None:
    if not found.tensors:
        raise InputError(
            f'{source} has no key in common with the model. It has {sample(weights)}; the model has '
            f'{sample(model.state_dict())}. Is it a checkpoint of another network, or is its network under a prefix '
            f'(then set prefix=…)?'
        )
    if found.problems:
        raise InputError(
            f'{source} is of another architecture than the model (another depth, width or attention?): it has '
            f'{" and ".join(found.problems)}'
        )


def _keep(
    model: nn.Module,
    report: Report,
    declared: dict[str, nn.Module],
    others: dict[str, nn.Module | None],
    source: str,
    strict: bool,
) -> None:
    """Plan the scaling on a copy that runs, as whether a network computes what it did shows only then."""
    planned = copy.deepcopy(model)
    planned.load_state_dict(report.match.tensors, strict=False)
    candidates = {name: planned.get_submodule(name) for name in (*declared, *(key for key in others if others[key]))}
    for name in declared:
        zero_gate_layers(candidates[name])
    places = standing(planned, {} if report.loaded_gates else candidates)
    maps = constants(places)
    unknown = [key for key in others if maps.get(key) is None]
    if strict and unknown:
        silent = dict.fromkeys(type(others[key]).__name__ for key in unknown if key in maps)
        hint = (
            f'. If {" and ".join(silent)} is an attention module of your own, give its class gate_layers, see '
            f'docs/own_module.md'
        )
        raise InputError(
            f'{source} is of another architecture than the model (another depth?): it lacks {sample(unknown)}, which '
            f"isn't attention with a constant map at its start, so the network would not compute what it did"
            f'{hint if silent else ""}'
        )
    _check_maps(declared, maps)
    constant = {name: value for name, value in maps.items() if value is not None}
    new = [place for place in places if place.attention in constant]
    report.scaled = scale_norms(planned, new, constant) if new else {}
    state = planned.state_dict()
    report.gates = [f'{name}.{key}' for name in constant for key in candidates[name].state_dict()]
    scaled = [f'{norm}.{parameter}' for norm in report.scaled for parameter in ('weight', 'bias')]
    report.weights.update({key: state[key] for key in (*scaled, *report.gates) if key in state})


def _new_modules(
    model: nn.Module, found: Match, source: str, strict: bool
) -> tuple[dict[str, nn.Module], dict[str, nn.Module | None], list[str]]:
    """List what the checkpoint lacks, in the part of the model that it is of.

    Returns:
        New modules that declare themselves gates; other new modules of the backbone, with None for a single weight; and
        the names of the gates that the checkpoint has.
    """
    missing = set(found.missing)
    declared: dict[str, nn.Module] = {}
    others: dict[str, nn.Module | None] = {}
    loaded: list[str] = []
    partial: list[str] = []
    covered: set[str] = set()

    def visit(path: str, module: nn.Module) -> None:
        keys = [f'{path}.{key}' for key in module.state_dict() if not key.endswith('num_batches_tracked')]
        inside = keys[0].startswith(found.region) if keys else path.startswith(found.region)
        absent = [key for key in keys if key in missing]
        if hasattr(module, 'gate_layers') and inside:
            covered.update(keys)
            if len(absent) == len(keys) and (keys or strict):  # without weights it is in no checkpoint
                declared[path] = module
            elif keys:
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
    new = [path for path, module in declared.items() if module.state_dict()]
    if strict and (partial or (loaded and new)):
        incomplete = partial or new
        raise InputError(
            f'{source} has weights of some attention modules and lacks others: it has {sample(loaded or partial)}, and '
            f'lacks {"some of " if partial else ""}{sample(incomplete)}. It must have all of them, then it is loaded '
            f'as it is, or none'
        )
    return ({} if loaded or partial else declared), others, loaded


def _check_maps(declared: dict[str, nn.Module], maps: dict[str, float | None]) -> None:
    uncalled = [path for path in declared if path not in maps]
    if uncalled:
        raise NotKeptError(
            f'{sample(uncalled)}: not called as a module on a feature map when the network runs, so the norm in front '
            f'cannot be found'
        )
    varying = [path for path in declared if maps[path] is None]
    if varying:
        kinds = ', '.join(dict.fromkeys(type(declared[path]).__name__ for path in varying))
        raise NotKeptError(
            f'the attention map of {kinds} ({sample(varying)}) depends on its input from the start, so no scaling '
            f'makes up for it'
        )


def _check_weight_norm(model: nn.Module, source: str) -> None:
    norms = {module.weight_norm for module in model.modules() if isinstance(module, EAN)}
    if norms - {'rms'}:
        raise InputError(
            f"{source} has EANs of the authors' classification code, which computes with weight_norm='rms', but the "
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
