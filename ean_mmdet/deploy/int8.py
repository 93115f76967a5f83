"""Weights and activations in 8 bits, by onnxruntime's own quantizer."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from torch import nn

from ..datasets.config_parts import is_classifier
from ..datasets.pipeline import preprocess, read_image
from ..errors import InputError
from ..files import find_images, write_atomically
from .exported import padded

# Convolutions and matrix products, which take the time; an EAN, the decoding of boxes and their suppression stay float.
OPERATORS = ('Conv', 'Gemm', 'MatMul')
MODES = ('dynamic', 'static')


def quantize(path: Path, out: Path, mode: str, inputs: Iterator[dict[str, np.ndarray]] | None = None) -> None:
    """Write an exported ONNX file with its convolutions and matrix products in 8 bits.

    Args:
        path: The file in float32.
        out: The file to write. It is written whole or not at all.
        mode: ``'dynamic'``: weights in 8 bits, the activations' range taken anew for every input; ``'static'``: the
            activations' range is that of ``inputs``, and the graph has QuantizeLinear and DequantizeLinear.
        inputs: For ``'static'``, the graph's inputs for one image each, of training data.

    Raises:
        ValueError: ``mode`` is another one, or ``inputs`` is missing.
        InputError: The file can't be written.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if mode not in MODES:
        raise ValueError(f'quantize: mode must be one of {MODES}, got {mode!r}')
    if mode == 'static' and inputs is None:
        raise ValueError('quantize: static quantization needs inputs to calibrate on')
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder, 'prepared.onnx'), Path(folder, 'quantized.onnx')
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        if mode == 'dynamic':
            # onnxruntime has an 8-bit convolution for unsigned activations alone
            quantize_dynamic(prepared, quantized, OPERATORS, weight_type=QuantType.QUInt8)
        else:
            quantize_static(
                prepared,
                quantized,
                _Reader(inputs),
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
            )
        model = onnx.load(quantized)
    kept = {entry.key for entry in model.metadata_props}
    model.metadata_props.extend(e for e in onnx.load(path).metadata_props if e.key not in kept)
    write_atomically(out, lambda partial: partial.write_bytes(model.SerializeToString()))


class _Reader:
    """Inputs as onnxruntime's calibration takes them."""

    def __init__(self, inputs: Iterator[dict[str, np.ndarray]] | None) -> None:
        self.inputs = iter(inputs or ())

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.inputs, None)


def calibration_inputs(
    config: Config, preprocessor: nn.Module, images: Sequence[Path], size: tuple[int, int] | None
) -> Iterator[dict[str, np.ndarray]]:
    """A graph's inputs for images, by the config's test pipeline.

    Args:
        config: The config.
        preprocessor: The model's data preprocessor.
        images: The images' files.
        size: Height and width of the graph's images, to which they are padded; None leaves them.
    """
    for path in images:
        data = preprocess(config, preprocessor, path)
        array = padded(data['inputs'].numpy(), size)
        sizes = np.array([s.img_shape[:2] for s in data['data_samples']], dtype=np.float32)
        yield dict(images=array) if is_classifier(config) else dict(images=array, sizes=sizes)


def calibration_images(folder: Path, limit: int) -> list[Path]:
    """Images of a folder, evenly spread over it.

    Raises:
        InputError: There are none, or none that can be read; single ones are told and left out.
    """
    found = find_images(folder)
    chosen, bad = [], []
    for path in found[:: max(1, len(found) // limit)][:limit]:
        try:
            read_image(path)
        except InputError as error:
            bad.append(str(error))
        else:
            chosen.append(path)
    if not chosen:
        raise InputError(f'none of the {len(bad)} files in {folder} can be read: {"; ".join(bad)}')
    for line in bad:
        print(f'left out: {line}', file=sys.stderr, flush=True)
    return chosen
