"""Backbones with attention, by name in mmengine's root registry."""

from .an_mobilenet_v2 import ANMobileNetV2
from .an_resnet import ANResNet
from .ean_resnet import EANResNet
from .mobilenext import EANMobileNeXt, MobileNeXt
from .wide_resnet import WideResNet
from .with_attention import with_attention

__all__ = [
    'ANMobileNetV2',
    'ANResNet',
    'EANMobileNeXt',
    'EANResNet',
    'MobileNeXt',
    'WideResNet',
    'with_attention',
]
