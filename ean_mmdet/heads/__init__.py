"""Detection heads that the configs use."""

from .an_bbox_head import ANBBoxHead
from .ssdlite_head import SSDLiteHead

__all__ = ['ANBBoxHead', 'SSDLiteHead']
