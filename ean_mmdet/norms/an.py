"""AN, Attentive Normalization: a norm layer whose affine transformation is a mixture weighted by attention.

Li, Sun and Wu, 'Attentive Normalization', ECCV 2020.
"""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..attention.checks import check_feature_map


@MODELS.register_module()
class AN(BaseModule):
    """Attentive Normalization (ECCV 2020, Eq. 6 and 7), a norm layer: ``norm_cfg=dict(type='AN', num_mixtures=10)``.

    With x̂ the input standardized by batch norm or group norm without their affine transformation, and K mixtures::

        s = mean(x) / sqrt(var(x) + 1e-3)                   each sample's each channel, over height and width
        λ = h-sigmoid(BN(W · s))                            (N, K), W without bias; h-sigmoid(W · s + b) without a norm
        y = (λ · Γ) · x̂ + λ · B                             Γ and B of shape (K, num_features)

    ``var`` is the biased variance. Γ starts as N(1, 0.1) and B as N(0, 0.1), deviations both.

    Args:
        num_features: Channels of the feature map.
        num_mixtures: Number K of affine transformations that are mixed. Defaults to 10.
        eps: Added to the variance in the standardization. Defaults to 1e-5.
        norm_cfg: Config of the norm that standardizes: ``dict(type='BN')``, ``dict(type='SyncBN')`` or
            ``dict(type='GN', num_groups=32)``. Defaults to None, ``dict(type='BN')``.
        attention_norm: Norm in the attention, ``'BN'`` or ``'SyncBN'``, or None: a bias in its stead, as the authors
            have it with group norm. Defaults to ``'auto'``: that of ``norm_cfg``, and None for a group norm.
        init_cfg: Initialization config, see :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: ``num_mixtures`` is less than one, ``norm_cfg`` isn't a batch or group norm, or
            ``attention_norm`` is unknown.

    Shapes:
        (N, num_features, H, W) in, the same out.

    Example:
        >>> ConvModule(3, 64, 3, padding=1, norm_cfg=dict(type='AN', num_mixtures=10))
    """

    _abbr_ = 'an'  # mmcv's name for the layer: an1, an2, …

    def __init__(
        self,
        num_features: int,
        num_mixtures: int = 10,
        eps: float = 1e-5,
        norm_cfg: dict | None = None,
        attention_norm: str | None = 'auto',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = dict(norm_cfg or dict(type='BN'))
        if num_mixtures < 1:
            raise ValueError(f'AN: num_mixtures must be 1 at least, got {num_mixtures}')
        if norm_cfg.get('type') not in ('BN', 'SyncBN', 'GN'):
            raise ValueError(f"AN: norm_cfg's type must be BN, SyncBN or GN, got {norm_cfg.get('type')!r}")
        self.num_features = num_features
        self.num_mixtures = num_mixtures
        self.norm = build_norm_layer({'eps': eps, **norm_cfg, 'affine': False}, num_features)[1]
        if attention_norm == 'auto':
            attention_norm = norm_cfg['type'] if norm_cfg['type'] != 'GN' else None
        if attention_norm not in ('BN', 'SyncBN', None):  # it sees one value a sample
            raise ValueError(f"AN: attention_norm must be 'auto', 'BN', 'SyncBN' or None, got {attention_norm!r}")
        self.attention = nn.Sequential(nn.Conv2d(num_features, num_mixtures, 1, bias=attention_norm is None))
        if attention_norm is not None:
            self.attention.append(build_norm_layer(dict(type=attention_norm), num_mixtures)[1])
        self.attention.append(nn.Hardsigmoid())
        # Not called weight and bias: mmcv sets the weight of every norm to one and its bias to zero.
        self.mixture_weight = nn.Parameter(torch.empty(num_mixtures, num_features).normal_(1, 0.1))
        self.mixture_bias = nn.Parameter(torch.empty(num_mixtures, num_features).normal_(0, 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` of shape (N, num_features, H, W)."""
        check_feature_map(self, x, self.num_features)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
        mixture = self.attention((mean * (variance + 1e-3).rsqrt()).to(x.dtype)).flatten(1)
        weight, bias = (
            (mixture @ p.to(mixture.dtype))[:, :, None, None] for p in (self.mixture_weight, self.mixture_bias)
        )
        normalized = self.norm(x)
        return normalized * weight.to(normalized.dtype) + bias.to(normalized.dtype)

    def extra_repr(self) -> str:
        """Describe the module in ``repr``."""
        return f'{self.num_features}, num_mixtures={self.num_mixtures}'


def replace_norm(layer: ConvModule, norm_cfg: dict) -> None:
    """Put another norm in a convolution's, ``dict(type='AN', num_mixtures=10)``."""
    delattr(layer, layer.norm_name)
    layer.norm_name, norm = build_norm_layer(norm_cfg, layer.out_channels)
    layer.add_module(layer.norm_name, norm)
