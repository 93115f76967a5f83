import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from ean_mmdet.analysis import ComplexityCounter, count_model, stage_names, stage_table
from ean_mmdet.engine import build_model, input_shape
from ean_mmdet.errors import InputError


def classifier(backbone, channels):
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=backbone,
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=1000, in_channels=channels),
            ),
        )
    )


def mobilenext(attention=None):
    return classifier(dict(type='MobileNeXt', attention=attention, out_indices=(7,)), 1280)


def resnet50(attention=None):
    plugins = attention and [dict(cfg=attention, position='after_conv3')]
    return classifier(dict(type='mmdet.ResNet', depth=50, out_indices=(3,), plugins=plugins), 2048)


# Each figure of EAN.md, section 5, as it is printed there.
@pytest.mark.parametrize(
    ('config', 'params', 'operations'),
    [
        (mobilenext(), '3.5354', '343.660'),
        (mobilenext(dict(type='SE', ratio=16)), '4.1918', '345.950'),
        (mobilenext(dict(type='CBAM', ratio=16)), '4.1855', '347.492'),
        (mobilenext(dict(type='EAN', groups=8)), '3.5391', '343.660'),
        (resnet50(), '25.5570', None),
        (resnet50(dict(type='SE', ratio=16)), '28.0880', None),
        (resnet50(dict(type='CBAM', ratio=16)), '28.0735', None),
        (resnet50(dict(type='CA', ratio=24)), '28.0820', None),
        (resnet50(dict(type='EAN', groups=64)), '25.5580', None),
    ],
)
def test_figures(config, params, operations):
    complexity = count_model(build_model(config), (224, 224)).count()
    assert f'{complexity.params / 1e6:.4f}' == params
    if operations:
        assert f'{complexity.operations / 1e6:.3f}' == operations


def test_eanresnet_is_the_plugin():
    # the backbone by name has what the plugin row has
    backbone = MODELS.build(dict(type='EANResNet', depth=50, groups=64))
    complexity = ComplexityCounter(backbone, lambda m: m(torch.zeros(1, 3, 64, 64))).count()
    assert complexity.attention == {'EAN': 16} and complexity.attention_params == 944


def test_operations_are_thops():
    """The figure is thop 0.1.1's."""
    torch.manual_seed(0)
    model = nn.Sequential(
        ConvModule(3, 8, 3, stride=2, norm_cfg=dict(type='BN')),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.Softmax(dim=1),
    )
    image = torch.rand(1, 3, 31, 31)
    counter = ComplexityCounter(model, lambda m: m(image))
    # convolutions, norm, upsampling, the two poolings, linear layer, softmax
    expected = 15 * 15 * 8 * 27 + 4 * 8 * 15**2 + 13**2 * 8 * 9 + 8 * 12**2 + 8 * 6**2 + 37 * 8 + 8 * 5 + 14
    assert counter.count().operations == expected == 69758
    assert counter.count('7').operations == 8 * 5 and counter.count('7').activations == 5
    assert counter.count('1').output == (8, 13, 13)


def test_layers_that_are_shared_or_derived():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(4, 4, 1, bias=False)
            self.second = self.first  # one layer under two names
            self.derived = type('MyConv', (nn.Conv2d,), {})(4, 4, 1, bias=False)

        def forward(self, x):
            return self.derived(self.second(self.first(x)))

    complexity = ComplexityCounter(Twice(), lambda m: m(torch.zeros(1, 4, 5, 5))).count()
    assert complexity.operations == 3 * 16 * 25 and complexity.params == 2 * 16


@pytest.mark.parametrize(
    ('attention', 'operations'),
    [
        # 16 channels, 6 high and 5 wide, in multiply-adds and pooling's additions and divisions
        (dict(type='SE', ratio=4), 16 * 31 + 2 * 16 * 4),
        (dict(type='CBAM', ratio=4), 16 * 31 + 2 * (2 * 16 * 4) + 2 * 49 * 30),
        (dict(type='ECA'), 16 * 31 + 16 * 3),
        (dict(type='CA', ratio=2), 16 * (6 * 6 + 5 * 7) + 16 * 8 * 11 + 4 * 8 * 11 + 8 * 16 * 6 + 8 * 16 * 5),
        (dict(type='SGE', groups=4), 16 * 31),
        (dict(type='SA', groups=4), 8 * 31),
        (dict(type='PdfAM'), 0),
        (dict(type='SimAM'), 0),
        # the map's convolution, softmax and sum; two linear layers and a norm of four operations a value
        (dict(type='GC', ratio=4), 16 * 30 + (3 * 30 - 1) + 16 * 30 + 2 * 16 * 4 + 4 * 4),
        # the strips, the convolutions, the means of both branches and the sums over the channels
        (dict(type='EMA', groups=4), 16 * 71 + 64 * 11 + 64 * 9 * 30 + 2 * 16 * 31 + 2 * 16 * 30),
        (dict(type='ELA', variant='B'), 16 * (6 * 6 + 5 * 7) + 16 * 7 * (6 + 5)),
        (dict(type='EAN', groups=4), 0),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_operations_of_attention(attention, operations):
    model = nn.Sequential(nn.Conv2d(3, 16, 1, bias=False), MODELS.build(dict(in_channels=16, **attention)))
    complexity = ComplexityCounter(model, lambda m: m(torch.zeros(1, 3, 6, 5))).count()
    assert complexity.attention_operations == operations
    assert complexity.operations == operations + 3 * 16 * 30
    assert complexity.attention_params == sum(p.numel() for p in model[1].parameters())


def test_what_attentive_normalization_adds():
    def count(norm_cfg):
        model = ConvModule(3, 16, 1, norm_cfg=norm_cfg)
        return ComplexityCounter(model, lambda m: m(torch.zeros(1, 3, 6, 5))).count()

    plain, mixed = count(dict(type='BN')), count(dict(type='AN', num_mixtures=4))
    assert mixed.attention_params == mixed.params - plain.params
    assert mixed.attention_operations == mixed.operations - plain.operations == 16 * 31 + 16 * 4 + 4 * 4
    assert plain.attention_params == plain.attention_operations == 0


def test_the_model_is_not_changed():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = copy.deepcopy(model.state_dict())
    ComplexityCounter(model, lambda m: m(torch.rand(1, 3, 6, 5)))
    assert model.training and set(model.state_dict()) == set(before)
    assert not model[0]._forward_hooks and not hasattr(model[0], 'total_ops')
    assert torch.equal(model[1].running_mean, before['1.running_mean'])


def test_types_without_a_rule_are_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
    assert ComplexityCounter(model, lambda m: m(torch.zeros(1, 3, 2, 2))).count().uncounted == ('GroupNorm',)


@pytest.mark.parametrize(
    ('path', 'shape'),
    [
        ('configs/ssdlite320_mobilenext_voc.py', (320, 320)),
        ('configs/faster_rcnn_r50_coco.py', (800, 1344)),  # 1333, padded to a multiple of 32
        ('configs/ela/yolox_nano_voc.py', (416, 416)),
    ],
)
def test_input_shape(request, path, shape):
    assert input_shape(Config.fromfile(request.config.rootpath / path)) == shape


def test_input_shape_of_a_classifier():
    pipeline = [dict(type='ResizeEdge', scale=256, edge='short'), dict(type='CenterCrop', crop_size=224)]
    config = Config(dict(model={}, test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    assert input_shape(config) == (224, 224)
    with pytest.raises(InputError, match='give one with --shape'):
        input_shape(Config(dict(model={})))


def test_two_stage_detector_and_its_stages(request):
    config = Config.fromfile(request.config.rootpath / 'configs/faster_rcnn_ean_r50_coco.py')
    model = build_model(config)
    counter = count_model(model, (64, 96))
    names = stage_names(model)
    assert names == [
        *(f'backbone.{name}' for name in ('conv1', 'bn1', 'layer1', 'layer2', 'layer3', 'layer4')),
        'neck',
        'rpn_head',
        'roi_head',
    ]
    total = counter.count()
    assert total.params == sum(counter.count(name).params for name in names) == 41_754_000
    # the two linear layers and the two predictors, on a thousand proposals
    assert counter.count('roi_head').operations == 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 320))
    assert counter.count('backbone.layer4').output == (2048, 2, 3)


@pytest.mark.parametrize(
    ('backbone', 'stages'),
    [
        (dict(type='mmpretrain.VGG', depth=11), 8),
        (dict(type='mmpretrain.EfficientNet', arch='b0'), 7),
        (dict(type='mmpretrain.DenseNet', arch='121'), 1 + 4 + 4),
        (dict(type='MobileNeXt'), 9),
    ],
)
def test_stages_of_backbones(backbone, stages):
    assert len([n for n in stage_names(build_model(classifier(backbone, 1280))) if n.startswith('backbone')]) == stages


def test_stage_table():
    table = stage_table(mobilenext(dict(type='SE', ratio=16)), 'SE-MobileNeXt', (224, 224))
    assert table.title == 'SE-MobileNeXt, 224 × 224'
    assert [row[0] for row in table.rows] == [
        'backbone.stem',
        *(f'backbone.layer{i}' for i in range(1, 9)),
        'head',
        'total',
    ]
    columns = dict(zip(table.header, zip(*table.rows)))
    assert columns['Params'][-1] == '4,191,759'
    assert columns['Attention: params'][-1] == '656,343'
    assert columns['Output'][1] == '96 × 56 × 56'
    for name in ('Params', 'Attention: params'):
        figures = [int(cell.replace(',', '')) for cell in columns[name]]
        assert sum(figures[:-1]) == figures[-1]
    assert 'SE × 15: the attention adds 656,343 parameters (18.565%) and 2,289,744 operations' in table.notes[0]
