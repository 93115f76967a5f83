"""Detection heads that the configs use."""

from .ssdlite_head import SSDLiteHead

__all__ = ['SSDLiteHead']
