"""Norm layers with attention of their own, ``norm_cfg=dict(type='AN')``: they stand in a norm's stead."""

from .an import AN, replace_norm

ATTENTIVE_NORMS = (AN,)

__all__ = ['AN', 'ATTENTIVE_NORMS', 'replace_norm']
