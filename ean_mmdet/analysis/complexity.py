"""Parameters, operations and activations of a model, stage by stage, and what its attention adds.

Operations are counted as the papers do, see :mod:`.operations`: a convolution and a linear layer count their
multiply-adds, without bias; a batch norm 4 an element; whatever has no rule nothing, EAN among it. An attention module
can have one, a method ``count_operations(x)``, for what it computes outside of its layers, given its input. Other
counters' figures are not comparable with the papers': ``mmengine.analysis`` counts 2 an element for a batch norm, and
``torch.utils.flop_counter`` none, but 2 for a multiply-add.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector, TwoStageDetector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..attention.operations import global_pool
from ..insertion import positions
from ..norms import AN, ATTENTIVE_NORMS
from . import operations


def _own(module: Any, x: Tensor, output: Tensor) -> int:
    return module.count_operations(x)


def _mixture(module: AN, x: Tensor, output: Tensor) -> int:
    return global_pool(x)


# AN's norm has no affine transformation of its own, and counts as one that has.
RULES = {**operations.RULES, AN: _mixture}


@dataclass(frozen=True)
class Complexity:
    """Costs of a module, for one image.

    Attributes:
        name: Name of the module in the model.
        params: Parameters.
        operations: Operations, by the rules of this file.
        activations: Elements in the outputs of all convolutions and linear layers.
        output: Shape of the last output, without the batch: the last one's, if there are several; None if the module
            wasn't called itself.
        attention_params: Parameters that attention adds; to a plain norm's, where it is part of a norm.
        attention_operations: Operations that attention adds.
        attention: Number of attention modules by type.
        attention_uses: How many times these are used in a pass, which is more where blocks share a module.
        uncounted: Types that have parameters, or are attention, and no rule, so that what they compute outside of their
            layers counts nothing.
    """

    name: str
    params: int
    operations: int
    activations: int
    output: tuple[int, ...] | None
    attention_params: int
    attention_operations: int
    attention: dict[str, int]
    attention_uses: dict[str, int]
    uncounted: tuple[str, ...]


class ComplexityCounter:
    """Counts what the modules of a model cost in one forward pass.

    Args:
        model: The model; it is copied and not changed.
        forward: Runs the copy once, for one image.
    """

    def __init__(self, model: nn.Module, forward: Callable[[nn.Module], object]) -> None:
        self.model = copy.deepcopy(model)
        self.model.eval()  # not chained: MMDetection's backbones return nothing
        self.operations: Counter[nn.Module] = Counter()
        self.activations: Counter[nn.Module] = Counter()
        self.outputs: dict[nn.Module, tuple[int, ...]] = {}
        self.calls: Counter[nn.Module] = Counter()
        self.attention = set(attention_modules(self.model))
        for module in self.model.modules():
            module.register_forward_hook(self._note)
        with torch.no_grad():
            forward(self.model)

    def count(self, name: str = '') -> Complexity:
        """Cost of the module called ``name``; of the whole model by default."""
        module = self.model.get_submodule(name)
        modules = list(module.modules())
        attentions = [m for m in modules if m in self.attention]
        norms = [m for m in attentions if isinstance(m, ATTENTIVE_NORMS)]
        return Complexity(
            name=name,
            params=sum(p.numel() for p in module.parameters()),
            operations=self._operations(modules),
            activations=sum(self.activations[m] for m in modules),
            output=self.outputs.get(module),
            attention_params=sum(p.numel() for m in attentions for p in m.parameters())
            - sum(2 * m.num_features for m in norms),
            attention_operations=sum(self._operations(m.modules()) for m in attentions)
            - sum(self._operations(m.norm.modules()) for m in norms),
            attention=dict(Counter(type(m).__name__ for m in attentions)),
            attention_uses=dict(Counter(type(m).__name__ for m in attentions for _ in range(self.calls[m]))),
            uncounted=tuple(
                sorted(
                    {
                        type(m).__name__
                        for m in modules
                        if (m._parameters or m in self.attention) and self._rule(m) is None
                    }
                ),
            ),
        )

    @staticmethod
    def _rule(module: Any) -> Callable | None:
        if callable(getattr(module, 'count_operations', None)):
            return _own
        return next((RULES[cls] for cls in type(module).__mro__ if cls in RULES), None)

    def _operations(self, modules: Iterable[Any]) -> int:
        return sum(self.operations[m] for m in modules)

    def _note(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        rule = self._rule(module)
        if rule is not None:
            self.operations[module] += rule(module, inputs[0], output)
            if isinstance(module, AN):
                self.operations[module.norm] += 2 * output.numel()
        while isinstance(output, (tuple, list)) and output:
            output = output[-1]
        if not isinstance(output, Tensor):
            return
        self.outputs[module] = tuple(output.shape[1:])
        self.calls[module] += 1
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            self.activations[module] += output.numel()


def attention_modules(model: nn.Module) -> Iterator[nn.Module]:
    """The attention of a model: what declares itself such, was inserted, or is a plugin of a block.

    Of one inside another the outer one.
    """
    inserted = {id(position.switch.module) for position in positions(model)}
    for block in model.modules():
        names = [name for number in (1, 2, 3) for name in getattr(block, f'after_conv{number}_plugin_names', ())]
        inserted |= {id(getattr(block, name)) for name in names}
    inside: set[nn.Module] = set()
    for module in model.modules():
        if module in inside:
            continue
        if hasattr(module, 'gate_layers') or isinstance(module, ATTENTIVE_NORMS) or id(module) in inserted:
            inside.update(module.modules())
            yield module


def count_model(model: nn.Module, shape: tuple[int, int]) -> ComplexityCounter:
    """Count an OpenMMLab model on one image of ``shape``, (height, width).

    The head of a two-stage detector is run on as many proposals as its ``test_cfg.rpn.max_per_img`` lets through.
    """
    return ComplexityCounter(model, lambda copied: _forward(copied, torch.zeros(1, 3, *shape)))


def _forward(model: nn.Module, image: Tensor) -> None:
    if not isinstance(model, BaseDetector):
        model(image, mode='tensor')
        return
    shape = tuple(image.shape[-2:])
    sample = DetDataSample(
        metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape, scale_factor=(1, 1))
    )
    if isinstance(model, TwoStageDetector) and model.with_rpn:
        # Not by way of the detector, whose number of proposals depends on the weights.
        features = model.extract_feat(image)
        model.rpn_head(features)
        boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).repeat(model.test_cfg.rpn.max_per_img, 1)
        model.roi_head(features, [InstanceData(bboxes=boxes)], [sample])
    else:
        model(image, [sample], mode='tensor')


def stage_names(model: nn.Module) -> list[str]:
    """Names of a model's stages: the parts of its backbone, then its neck and its heads, those with parameters."""
    names = []
    for name, child in model.named_children():
        parts = [name]
        if name == 'backbone':
            parts = _expand(child, name)
        names += [part for part in parts if any(True for _ in model.get_submodule(part).parameters())]
    return names


def _expand(module: nn.Module, prefix: str) -> list[str]:
    children = [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
    names = []
    for name, child in children:
        # A list of stages, or one sequence that is the whole backbone.
        if isinstance(child, nn.ModuleList) or (len(children) == 1 and isinstance(child, nn.Sequential)):
            names += _expand(child, f'{prefix}.{name}')
        else:
            names.append(f'{prefix}.{name}')
    return names or [prefix]
