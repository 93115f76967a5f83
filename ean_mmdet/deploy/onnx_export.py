"""Exporting a model: batch norms folded, EANs plain, as ONNX with all that is needed to run it, or by torch.export."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmdet.models.dense_heads import SSDHead
from mmengine.config import Config
from torch import nn

from ..datasets.config_parts import pipeline_of, type_name
from ..errors import InputError
from ..files import write_atomically
from . import nms, plain_ean, roi_align
from .networks import to_graph
from .plain_ean import replace_eans

OPSET = 18
METADATA = 'ean_mmdet'  # the key of the file's metadata


def folded(model: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode, its batch norms folded into the convolutions, its EANs plain."""
    model = copy.deepcopy(model)
    model.eval()
    replace_eans(model)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        fuse_conv_bn(model)
    return model


def to_deploy(model: nn.Module, raw: bool = False) -> nn.Module:
    """Return the part of a model that is exported, folded.

    Args:
        model: A classifier or a detector.
        raw: Whether a detector gives its heads' maps. Defaults to False.

    Raises:
        InputError: The model has no export.
    """
    return to_graph(folded(model), raw).eval()


def description(
    config: Config, graph: Any, classes: list[str], size: tuple[int, int], divisor: int | None = None
) -> dict:
    """Describe the file for those who run it: task, classes, preprocessing, thresholds.

    ``height`` and ``width`` are the images', or with a divisor those of the test pipeline's largest.
    """
    preprocessor = config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    resize = [
        {key: value for key, value in step.items() if key in ('type', 'scale', 'keep_ratio', 'crop_size', 'edge')}
        for step in pipeline_of(config)
        if any(word in type_name(step) for word in ('Resize', 'Crop', 'Pad'))
    ]
    rgb = preprocessor.get('bgr_to_rgb') or preprocessor.get('to_rgb')
    return dict(
        task='detection' if 'boxes' in graph.outputs else 'classification' if graph.outputs == ('scores',) else 'raw',
        classes=list(classes),
        height=size[0],
        width=size[1],
        any_multiple_of=divisor,
        mean=list(preprocessor.get('mean') or [0, 0, 0]),
        std=list(preprocessor.get('std') or [1, 1, 1]),
        channels='RGB' if rgb else 'BGR',
        pad_size_divisor=preprocessor.get('pad_size_divisor', 1),
        resize=resize,
        pad=padding(config, bool(rgb)),
        pad_value=preprocessor.get('pad_value', 0),
        score_threshold=getattr(graph, 'score_threshold', None),
        iou_threshold=getattr(graph, 'iou_threshold', None),
        opset=OPSET,
    )


def padding(config: Config, rgb: bool) -> dict | None:
    """Describe how a test pipeline pads resized pixels, before they are normalized; None where it doesn't.

    ``value`` has a number for each channel, in the order of the network's; the image becomes ``square`` by its
    longer side, or has a ``size`` of height and width, or multiples of ``divisor`` for sides.
    """
    step = next((step for step in pipeline_of(config) if type_name(step) == 'Pad'), None)
    if step is None:
        return None
    value, size = step.get('pad_val', 0), step.get('size')
    value = value.get('img', 0) if isinstance(value, dict) else value
    value = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    return dict(
        square=bool(step.get('pad_to_square')),
        size=list(size)[::-1] if size else None,  # mmcv's is width and height
        divisor=step.get('size_divisor'),
        value=value[::-1] if rgb else value,  # mmcv loads BGR
    )


def size_divisor(config: Config, model: nn.Module) -> int | None:
    """Return the divisor of height and width, where images of any size go through the model; else None."""
    if isinstance(getattr(model, 'bbox_head', None), SSDHead) or not hasattr(model, 'extract_feat'):
        return None  # an SSD's anchors are of its size
    if not any(step.get('keep_ratio') for step in pipeline_of(config)):
        return None
    return max(32, config.model.get('data_preprocessor', {}).get('pad_size_divisor', 1))


def example(graph: Any, size: tuple[int, int], batch: int = 2) -> tuple[torch.Tensor, ...]:
    """Inputs of the graph."""
    images = torch.rand(batch, 3, *size)
    return (images, torch.tensor([size] * batch, dtype=torch.float32))[: len(graph.inputs)]


def dynamic_shapes(graph: Any, divisor: int | None) -> tuple[dict, ...]:
    """Return the free sizes of the inputs: the batch, and with a divisor height and width, in multiples of it."""
    images = {0: torch.export.Dim('batch')}
    if divisor:
        images |= {
            axis: divisor * torch.export.Dim(f'{name}_{divisor}') for axis, name in ((2, 'height'), (3, 'width'))
        }
    return (images, {0: images[0]})[: len(graph.inputs)]


def export_onnx(graph: Any, size: tuple[int, int], path: Path, about: dict, divisor: int | None = None) -> None:
    """Write a graph as ONNX, in standard operators, with a dynamic batch.

    Args:
        graph: Of :func:`to_deploy`.
        size: Height and width of its images.
        path: The file. It is written whole or not at all.
        about: Its metadata, see :func:`description`.
        divisor: Have images of any height and width that are multiples of it. Defaults to None, ``size`` alone.

    Raises:
        InputError: A part of the model can't be exported, or the file not be written.
    """
    import onnx

    inputs = example(graph, size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        try:
            program = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=dynamic_shapes(graph, divisor),
                custom_translation_table=nms.translations() | roi_align.translations() | plain_ean.translations(),
            )
        except torch.onnx.errors.OnnxExporterError as error:
            causes = [line for line in str(error).splitlines() if 'Error' in line]
            raise InputError(f'{type(graph).__name__} cannot be exported: {(causes or [str(error)])[-1]}') from error
    assert program is not None  # with dynamo=True there is one
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(about)
    onnx.checker.check_model(model)
    foreign = {node.domain for node in model.graph.node} - {'', 'ai.onnx'}
    if foreign:
        raise InputError(f'the graph has operators that are no standard ones: {", ".join(sorted(foreign))}')
    write_atomically(path, lambda partial: partial.write_bytes(model.SerializeToString()))


def export_torch(graph: Any, size: tuple[int, int], path: Path, about: dict, divisor: int | None = None) -> None:
    """Write a graph by ``torch.export``, a ``.pt2`` with a dynamic batch; ``torch.export.load`` loads it.

    A detector's has operations of this package, suppression and RoIAlign: import ``ean_mmdet.deploy`` before loading
    it. Heads' maps (``raw``) and classifiers need PyTorch alone.

    Args:
        graph: Of :func:`to_deploy`.
        size: Height and width of its images.
        path: The file. It is written whole or not at all.
        about: What goes beside it, under the key ``'ean_mmdet.json'`` of the extra files.
        divisor: As in :func:`export_onnx`.

    Raises:
        InputError: A part of the model can't be exported, or the file not be written.
    """
    inputs = example(graph, size)
    with torch.no_grad():
        try:
            program = torch.export.export(graph, inputs, dynamic_shapes=dynamic_shapes(graph, divisor))
        except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
            raise InputError(f'{type(graph).__name__} cannot be exported: {str(error).splitlines()[0]}') from error
    extra = {f'{METADATA}.json': json.dumps(about)}
    write_atomically(path, lambda partial: torch.export.save(program, partial, extra_files=extra))
