"""Small networks to export: detectors and classifiers with every gate, and weights that give their outputs an order."""

import cv2
import mmdet
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from ean_mmdet import attention
from tests.attention_configs import attention_config, shared


def randomized(model):
    """Every parameter and statistic different from its start, and a spread of scores."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            size = 0.1 if tensor.dim() < 2 else 0.3 * tensor.std()
            noise = size * torch.randn(tensor.shape, generator=generator)
            tensor += noise.abs() if 'running_var' in name else noise
    model.eval()
    return model


def calibrated(model, paths):
    """A detector with activations of unit size and a spread of scores, so that its detections have an order."""
    generator = torch.Generator().manual_seed(0)
    pixels = [cv2.imread(str(path)) for path in paths]
    batches = []
    for size in ((160, 128), (192, 160)):
        batch = dict(inputs=[torch.from_numpy(cv2.resize(image, size)).permute(2, 0, 1) for image in pixels])
        batches.append(model.data_preprocessor(batch)['inputs'])
    for parameter in model.backbone.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None
            norm.train()
    head = model.rpn_head if hasattr(model, 'rpn_head') else model.bbox_head
    for images in batches:
        head(model.extract_feat(images))
    model.eval()
    outputs = [head(model.extract_feat(images)) for images in batches]
    for layers, most, *kinds in zip(last_layers(head), (4, 1, 4), *outputs):
        for layer, *levels in zip(layers, *kinds):
            layer.bias.data.zero_()
            layer.weight.data *= most / max(level.abs().max() for level in levels)
    if hasattr(model, 'roi_head'):
        corners = torch.tensor([[0, 0, 0, 40, 30], [0, 30, 20, 120, 100], [1, 20, 60, 50, 120], [2, 70, 10, 90, 40.0]])
        found = model.roi_head._bbox_forward(model.extract_feat(images), corners)
        for layer, kind, most in (('fc_cls', 'cls_score', 3), ('fc_reg', 'bbox_pred', 2)):
            getattr(model.roi_head.bbox_head, layer).weight.data *= most / found[kind].abs().max()
    return model


def last_layers(head):
    """The convolutions that give scores, boxes and perhaps objectness, a level each."""
    if hasattr(head, 'rpn_cls'):
        return [[head.rpn_cls], [head.rpn_reg]]
    if hasattr(head, 'retina_cls'):
        return [[head.retina_cls], [head.retina_reg]]
    if hasattr(head, 'multi_level_conv_cls'):
        return [list(head.multi_level_conv_cls), list(head.multi_level_conv_reg), list(head.multi_level_conv_obj)]
    return [[convs[-1] for convs in kind] for kind in (head.cls_convs, head.reg_convs)]


def ssdlite(tiny, name):
    config = Config.fromfile(tiny)
    config.model.backbone = dict(
        type='MobileNeXt', widen_factor=0.25, last_channels=320, out_indices=(7,), expansion_indices=(3, 5),
        attention=attention_config(name),
        shared=shared(name),
    )  # fmt: skip
    return config, (96, 96)


def small_resnet(name, depth=18):
    plain = dict(type='mmdet.ResNet', depth=depth, base_channels=16)
    return dict(type='WithAttention', backbone=plain, attention=attention_config(name), shared=shared(name))


def retinanet(tiny, name):
    config = Config.fromfile(tiny)
    stock = Config.fromfile(f'{mmdet.__path__[0]}/.mim/configs/_base_/models/retinanet_r50_fpn.py').model
    stock.backbone = small_resnet(name, depth=50)
    stock.neck.update(in_channels=[64, 128, 256, 512], out_channels=16)
    stock.bbox_head.update(num_classes=5, in_channels=16, feat_channels=16, stacked_convs=1)
    stock.test_cfg.update(nms_pre=200, score_thr=0.005)
    config.model = stock
    pipeline = config.test_dataloader.dataset.pipeline
    pipeline[1].update(scale=(160, 128), keep_ratio=True)
    return config, (128, 160)


def yolox(tiny, name):
    config = Config.fromfile(tiny)
    stock = Config.fromfile(f'{mmdet.__path__[0]}/.mim/configs/yolox/yolox_tiny_8xb8-300e_coco.py').model
    stock.backbone.update(deepen_factor=0.5, widen_factor=0.125)
    stock.neck.update(in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=1)
    stock.bbox_head.update(num_classes=5, in_channels=32, feat_channels=32)
    stock.backbone = dict(
        type='WithAttention', backbone=stock.backbone, attention=attention_config(name), shared=shared(name)
    )
    stock.data_preprocessor = dict(type='DetDataPreprocessor', pad_size_divisor=32)
    stock.test_cfg.update(score_thr=0.3)
    config.model = stock
    config.test_dataloader.dataset.pipeline[1].update(scale=(128, 128), keep_ratio=False)
    return config, (128, 128)


def faster_rcnn(tiny, name):
    config = Config.fromfile(tiny)
    stock = Config.fromfile(f'{mmdet.__path__[0]}/.mim/configs/_base_/models/faster-rcnn_r50_fpn.py').model
    stock.backbone = small_resnet(name, depth=50)
    stock.neck.update(in_channels=[64, 128, 256, 512], out_channels=16)
    stock.rpn_head.update(in_channels=16, feat_channels=16)
    stock.roi_head.bbox_roi_extractor.update(out_channels=16, finest_scale=14)  # boxes on three levels
    stock.roi_head.bbox_head.update(in_channels=16, fc_out_channels=32, num_classes=5)
    stock.test_cfg.rpn.update(nms_pre=200, max_per_img=50)
    stock.test_cfg.rcnn.update(score_thr=0.21)
    config.model = stock
    pipeline = config.test_dataloader.dataset.pipeline
    pipeline[1].update(scale=(160, 128), keep_ratio=True)
    return config, (128, 160)


def with_all_gates(model):
    """A network whose blocks have all the gates of the package in turn, in the place of its SE."""
    others = [name for name in attention.MODULES if not shared(name)]
    places = [
        (parent, name, child)
        for parent in model.backbone.modules()
        for name, child in parent.named_children()
        if type(child) is attention.SE
    ]
    assert len(places) >= len(others)
    for number, (parent, name, child) in enumerate(places):
        setattr(
            parent,
            name,
            MODELS.build(dict(in_channels=child.in_channels, **attention_config(others[number % len(others)]))),
        )
    return model


def classifier(name):
    # two stages of two blocks are enough, and an export of them takes a second
    backbone = small_resnet(name)
    backbone['backbone'].update(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=7, in_channels=32),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
    )
