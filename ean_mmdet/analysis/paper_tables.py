"""Tables 3, 4 and 5 of the EAN paper: each row's model, what the paper prints and what we count.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from .complexity import Complexity, build_model, count_model, input_shape

IMAGENET_SHAPE = (224, 224)


@dataclass(frozen=True)
class PaperRow:
    """One row of a table of the paper.

    Attributes:
        name: The paper's name of the network.
        params: Parameters as the paper prints them, in millions.
        metrics: The paper's accuracies by name.
        operations: Operations as the paper prints them, with their unit, ``'343.66M'``; None where it prints none.
        config: Name of the row's config, without ``.py``; None for Table 3.
        backbone: Config of the row's backbone in Table 3.
    """

    name: str
    params: str
    metrics: dict[str, str]
    operations: str | None = None
    config: str | None = None
    backbone: dict | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        title: What it is about.
        groups: Its rows, the plain network first in each group.
        notes: What to know about the figures that differ.
    """

    title: str
    groups: tuple[tuple[PaperRow, ...], ...]
    notes: tuple[str, ...] = field(default=())


def _mobilenext(attention: dict | None = None) -> dict:
    return dict(type='MobileNeXt', out_indices=(7,), attention=attention)


def _mobilenet_v2(attention: dict | None = None) -> dict:
    backbone = dict(type='mmpretrain.MobileNetV2')
    if attention is None:
        return backbone
    # The expanding convolutions' norms: the first block expands nothing.
    return dict(type='WithAttention', backbone=backbone, attention=attention, after=r'layer[2-7]\.\d\.conv\.0\.bn')


def _resnet50(attention: dict | None = None) -> dict:
    plugins = attention and [dict(cfg=attention, position='after_conv3')]
    return dict(type='mmdet.ResNet', depth=50, out_indices=(3,), plugins=plugins)


def _table3_rows(
    build, suffix: str, plain: str, groups: int, ca_ratio: int, figures: tuple[tuple[str, str, str], ...]
) -> tuple[PaperRow, ...]:
    attentions = (
        ('', None),
        ('SE-', dict(type='SE', ratio=16)),
        ('CBAM-', dict(type='CBAM', ratio=16)),
        ('SGE-', dict(type='SGE', groups=groups)),
        ('PdfAM-', dict(type='PdfAM')),
        ('CA-', dict(type='CA', ratio=ca_ratio)),
        ('EAN-', dict(type='EAN', groups=groups)),
    )
    return tuple(
        PaperRow(
            name=f'{prefix}{suffix}' if prefix else plain,
            params=params,
            operations=operations,
            metrics={'Top-1': top1},
            backbone=build(attention),
        )
        for (prefix, attention), (params, operations, top1) in zip(attentions, figures)
    )


TABLES: dict[int, PaperTable] = {
    3: PaperTable(
        title='Image classification, ImageNet-1K, 224 × 224',
        groups=(
            _table3_rows(
                _mobilenext,
                'MobileNeXt',
                'MobileNeXt',
                8,
                24,
                (
                    ('3.54', '343.66M', '72.45'),
                    ('4.19', '345.95M', '73.51'),
                    ('4.19', '347.49M', '73.67'),
                    ('3.54', '345.30M', '73.58'),
                    ('3.54', '343.66M', '73.60'),
                    ('4.39', '356.50M', '73.89'),
                    ('3.54', '343.66M', '74.21'),
                ),
            ),
            _table3_rows(
                _mobilenet_v2,
                'MobileNetV2',
                'MobileNetV2',
                8,
                16,
                (
                    ('3.50', '327.49M', '71.53'),
                    ('4.08', '331.40M', '72.32'),
                    ('4.07', '332.37M', '72.35'),
                    ('3.50', '330.83M', '72.45'),
                    ('3.50', '327.49M', '72.38'),
                    ('4.37', '346.59M', '72.55'),
                    ('3.50', '327.49M', '72.80'),
                ),
            ),
            _table3_rows(
                _resnet50,
                'ResNet-50',
                'ResNet-50',
                64,
                24,
                (
                    ('25.56', '4.11G', '76.45'),
                    ('28.09', '4.12G', '77.31'),
                    ('28.07', '4.13G', '77.42'),
                    ('25.56', '4.12G', '77.23'),
                    ('25.56', '4.11G', '77.33'),
                    ('28.08', '4.16G', '77.40'),
                    ('25.56', '4.11G', '77.87'),
                ),
            ),
        ),
        notes=(
            'Operations follow thop: multiply-adds of convolutions and linear layers, 4 an element for a batch norm, '
            'average pooling. The paper counts batch norm at 4 an element for MobileNeXt and MobileNetV2 but at 2 for '
            'ResNet-50, which is why our ResNet-50 rows are 0.02 G higher.',
            'CA-MobileNeXt: no placement and no ratio that we tried gives 4.39 M and 356.50 M. The row has ratio 24, '
            'as CA-ResNet-50 has, whose parameters it gives.',
            'PdfAM, and SGE and EAN in MobileNetV2: thop does not see the parameters of a module that it has no rule '
            "for, and the paper's figures are those of the plain networks. Ours include them, three a channel for "
            'PdfAM, as its authors have it.',
            'MobileNetV2: here attention follows the norm of the expanding convolution, in the 16 blocks that expand; '
            "this place gives the paper's operations of SE, SGE and CA. The paper's other rows leave out the 0.06 M of "
            'the last average pooling. CA has ratio 16. CBAM has a 7 × 7 convolution, as elsewhere; with 3 × 3 it '
            "would be the paper's 332.37 M, the pooling aside.",
        ),
    ),
    4: PaperTable(
        title='Object detection, Pascal VOC 2012 val, 320 × 320',
        groups=(
            (
                PaperRow('MobileNeXt', '4.4', {'mAP': '72.3'}, config='ssdlite320_mobilenext_voc'),
                PaperRow('SE-MobileNeXt', '4.8', {'mAP': '72.4'}, config='ssdlite320_se_mobilenext_voc'),
                PaperRow('CA-MobileNeXt', '4.9', {'mAP': '72.9'}, config='ssdlite320_ca_mobilenext_voc'),
                PaperRow('EAN-MobileNeXt', '4.4', {'mAP': '73.4'}, config='ssdlite320_ean_mobilenext_voc'),
            ),
        ),
        notes=(
            "The paper's totals, 4.4 M here and 4.3 M in Table 5, are those that other papers print for SSDLite on "
            "MobileNetV2. A MobileNeXt with MMDetection's SSDNeck and SSDHead has 3.4 M with 20 classes and 4.5 M "
            'with 80. What holds is the difference that a module makes.',
            'The paper prints no operations here.',
        ),
    ),
    5: PaperTable(
        title='Object detection, COCO val2017',
        groups=(
            tuple(
                PaperRow(
                    f'{prefix}MobileNeXt',
                    params,
                    {'mAP': m, 'AP@.5': a, 'AP@.75': b},
                    config=f'ssdlite320_{name}mobilenext_coco',
                )
                for prefix, name, params, a, b, m in (
                    ('', '', '4.3', '37.4', '22.7', '22.3'),
                    ('SE-', 'se_', '4.7', '39.3', '23.4', '22.6'),
                    ('CA-', 'ca_', '4.8', '39.8', '24.1', '23.0'),
                    ('EAN-', 'ean_', '4.3', '40.2', '24.6', '23.5'),
                )
            ),
            tuple(
                PaperRow(
                    f'{prefix}ResNet-50',
                    params,
                    {'mAP': m, 'AP@.5': a, 'AP@.75': b},
                    config=f'faster_rcnn_{name}r50_coco',
                )
                for prefix, name, params, a, b, m in (
                    ('', '', '41.7', '58.4', '39.1', '36.4'),
                    ('SE-', 'se_', '44.3', '60.1', '40.9', '37.7'),
                    ('CA-', 'ca_', '44.7', '60.8', '41.7', '38.0'),
                    ('EAN-', 'ean_', '41.7', '60.8', '42.2', '38.4'),
                )
            ),
        ),
        notes=(
            'MobileNeXt rows: SSDLite320, as in Table 4, whose note on the totals holds here too. ResNet-50 rows: '
            'Faster R-CNN with FPN on 800 × 1344, with 1000 proposals.',
            "Faster R-CNN: MMDetection's own config has 41.753 M, which the paper prints as 41.7. CA has ratio 24, "
            "which gives Table 3's CA-ResNet-50 to its last digit; the paper's 44.7 M would need more.",
            'The paper prints no operations here.',
        ),
    ),
}


@dataclass(frozen=True)
class CountedRow:
    """A row of a table of the paper with our count.

    Attributes:
        row: The row.
        complexity: What we count for its whole network.
        plain: What we count for the plain network of its group.
        plain_row: The plain network's row.
    """

    row: PaperRow
    complexity: Complexity
    plain: Complexity
    plain_row: PaperRow


def count_table(number: int, configs: Path) -> Iterator[CountedRow]:
    """Count the networks of a table, row by row.

    Args:
        number: 3, 4 or 5.
        configs: Folder of the configs.
    """
    for group in TABLES[number].groups:
        plain = None
        for row in group:
            complexity = count_row(row, configs)
            plain = plain or complexity
            yield CountedRow(row, complexity, plain, group[0])


def count_row(row: PaperRow, configs: Path) -> Complexity:
    """Count the network of one row: of Table 3 with the ImageNet head, of the others from its config."""
    if row.config is None:
        channels = 2048 if 'ResNet' in row.name else 1280
        config = Config(
            dict(
                default_scope='mmpretrain',
                model=dict(
                    type='ImageClassifier',
                    backbone=row.backbone,
                    neck=dict(type='GlobalAveragePooling'),
                    head=dict(type='LinearClsHead', num_classes=1000, in_channels=channels),
                ),
            )
        )
        return count_model(build_model(config), IMAGENET_SHAPE).count()
    config = Config.fromfile(configs / f'{row.config}.py')
    return count_model(build_model(config), input_shape(config)).count()
