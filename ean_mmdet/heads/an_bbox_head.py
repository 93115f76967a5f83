"""The box head of Attentive Normalization's Mask R-CNN: four convolutions, each with an AN, and a linear layer.

Li, Sun and Wu, 'Attentive Normalization', ECCV 2020. Everything else is MMDetection's head.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.roi_heads.bbox_heads import Shared4Conv1FCBBoxHead
from mmengine.registry import MODELS

from ..norms import replace_norm


@MODELS.register_module()
class ANBBoxHead(Shared4Conv1FCBBoxHead):
    """MMDetection's ``Shared4Conv1FCBBoxHead`` with an AN behind each of its convolutions.

    Args:
        num_mixtures: Mixtures of the four ANs. Defaults to (10, 10, 20, 20), as the authors have it.
        norm_cfg: Config of the norm that standardizes inside the ANs. Defaults to None,
            ``dict(type='GN', num_groups=32)``.
        **kwargs: Every other argument of ``Shared4Conv1FCBBoxHead``.

    Raises:
        ValueError: ``num_mixtures`` hasn't four numbers.

    Example:
        >>> bbox_head = dict(type='ANBBoxHead', in_channels=256, num_classes=80)
    """

    def __init__(self, num_mixtures: Sequence[int] = (10, 10, 20, 20), norm_cfg: dict | None = None, **kwargs) -> None:
        norm_cfg = norm_cfg or dict(type='GN', num_groups=32)
        super().__init__(norm_cfg=norm_cfg, **kwargs)
        if len(num_mixtures) != len(self.shared_convs):
            raise ValueError(
                f'ANBBoxHead: num_mixtures must have a number for each of the {len(self.shared_convs)} convolutions, '
                f'got {tuple(num_mixtures)}'
            )
        for layer, mixtures in zip(self.shared_convs, num_mixtures):
            replace_norm(layer, dict(type='AN', num_mixtures=mixtures, norm_cfg=norm_cfg))
