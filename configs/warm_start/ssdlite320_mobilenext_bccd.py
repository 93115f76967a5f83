# Plain MobileNeXt SSDLite on BCCD, from scratch: what the two others here start from.
_base_ = '../own_data/ssdlite320_ean_mobilenext_bccd.py'

backbone = _base_.model.backbone
model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNeXt',
        out_indices=backbone.out_indices,
        expansion_indices=backbone.expansion_indices,
        norm_cfg=backbone.norm_cfg,
        init_cfg=backbone.init_cfg,
    )
)
custom_hooks = [*_base_.custom_hooks, dict(type='ChannelsLastHook')]
