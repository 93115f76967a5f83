"""Networks that leave the training machine: export to ONNX and torch.export, and running what was exported.

It needs more than training does: ``pip install ean_mmdet[deploy]``.
"""

from .exported import ExportedClassifier, ExportedDetector, load_exported, use_exported
from .onnx_export import export_onnx, export_torch, to_deploy

__all__ = [
    'ExportedClassifier',
    'ExportedDetector',
    'export_onnx',
    'export_torch',
    'load_exported',
    'to_deploy',
    'use_exported',
]
