"""Backbones with attention, by name in mmengine's root registry."""

from .an_resnet import ANResNet
from .connections import set_connections, switches
from .ean_resnet import EANResNet
from .mobilenext import EANMobileNeXt, MobileNeXt
from .with_attention import with_attention

__all__ = ['ANResNet', 'EANMobileNeXt', 'EANResNet', 'MobileNeXt', 'set_connections', 'switches', 'with_attention']
