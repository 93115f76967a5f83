"""Attention modules: plugin layers ``Name(in_channels, …)`` by name in mmengine's root registry.

Each has ``gate_layers``: the layers that, with weights and biases of zero, make its map constant, which
:mod:`ean_mmdet.insertion.keep_function` goes by; and ``count_operations``, where it computes something outside of its
layers that :mod:`ean_mmdet.analysis.complexity` is to count.
"""

from .ca import CA
from .cbam import CBAM
from .dia import DIA
from .ean import EAN
from .eca import ECA
from .ela import ELA
from .pdfam import PdfAM
from .sa import SA
from .se import SE
from .sge import SGE

GATES = (CA, CBAM, DIA, EAN, ECA, ELA, PdfAM, SA, SE, SGE)

__all__ = ['CA', 'CBAM', 'DIA', 'EAN', 'ECA', 'ELA', 'GATES', 'SA', 'SE', 'SGE', 'PdfAM']
