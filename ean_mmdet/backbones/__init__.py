"""Backbones with attention, by name in mmengine's root registry."""

from .ean_resnet import EANResNet
from .mobilenext import EANMobileNeXt, MobileNeXt

__all__ = ['EANMobileNeXt', 'EANResNet', 'MobileNeXt']
