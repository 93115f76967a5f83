"""Tables 1 to 5 of the EAN paper: each row's model, what the paper prints and what we count.

Li, Li and Wen, 'EAN: An Efficient Attention Module Guided by Normalization for Deep Neural Networks', AAAI 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from ..engine import build_model, input_shape
from .complexity import Complexity, count_model

CIFAR_SHAPE = (32, 32)


@dataclass(frozen=True)
class PaperRow:
    """One row of a table of the paper.

    Attributes:
        name: The paper's name of the network.
        params: Parameters as the paper prints them, in millions.
        metrics: The paper's accuracies by name.
        config: The row's config, its path under ``configs/`` without ``.py``.
        operations: Operations as the paper prints them, with their unit, ``'343.66M'``; None where it prints none.
    """

    name: str
    params: str
    metrics: dict[str, str]
    config: str
    operations: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        title: What it is about.
        groups: Its rows, the plain network first in each group.
        shape: Height and width of the images where the configs don't say. Defaults to None.
        notes: What to know about the figures that differ.
    """

    title: str
    groups: tuple[tuple[PaperRow, ...], ...]
    shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = field(default=())


def _group(plain: str, suffix: str, config: str, metrics: tuple[str, ...], figures: str) -> tuple[PaperRow, ...]:
    """The rows of one network from lines ``module params operations accuracy…``; the plain network is ``-``."""
    rows = []
    for line in figures.strip().splitlines():
        module, params, operations, *accuracies = line.split()
        rows.append(
            PaperRow(
                name=plain if module == '-' else f'{module}-{suffix}',
                params=params,
                operations=operations,
                metrics=dict(zip(metrics, accuracies)),
                config=f'pretrain/{"" if module == "-" else module.lower() + "_"}{config}',
            )
        )
    return tuple(rows)


TABLES: dict[int, PaperTable] = {
    1: PaperTable(
        title='Image classification, CIFAR-10 and CIFAR-100, lightweight networks, 32 × 32',
        shape=CIFAR_SHAPE,
        groups=(
            _group(
                'MobileNetV2',
                'MobileNetV2',
                'mobilenet_v2_cifar100',
                ('C10', 'C100'),
                """
                -    2.35 6.79M 83.56 53.31
                SE   2.92 7.42M 84.93 54.52
                CBAM 2.92 8.03M 84.89 54.93
                ECA  2.35 6.88M 85.10 55.12
                SA   2.35 6.81M 85.45 55.61
                SGE  2.35 6.86M 85.56 55.59
                CA   3.21 8.69M 85.89 55.85
                EAN  2.35 6.79M 86.74 56.20
                """,
            ),
            _group(
                'MobileNeXt',
                'MobileNeXt',
                'mobilenext_cifar100',
                ('C10', 'C100'),
                """
                -    2.38 6.92M 85.71 54.77
                SE   3.10 7.87M 86.04 57.12
                CBAM 3.03 8.47M 86.52 57.53
                ECA  2.38 7.18M 86.61 57.74
                SA   2.38 7.14M 86.78 58.03
                SGE  2.38 7.16M 86.94 58.36
                CA   3.46 8.95M 87.12 58.58
                EAN  2.38 6.92M 88.00 60.88
                """,
            ),
        ),
        notes=(
            'Counted with the head of CIFAR-100, as the paper has it. The networks are those of ImageNet as they are, '
            "stride 32, which the paper's figures fit; attention stands where it does in Table 3, CA with ratio 16.",
            "MobileNeXt: our plain network fits the paper's CBAM, SA and SGE rows; what gives the 6.92 M of its plain "
            'one we did not find.',
            "SE- and CA-MobileNeXt: no ratio that we tried gives the paper's 3.10 M and 3.46 M; CBAM, with ratio 16 "
            'as SE, fits.',
            "The paper's other networks, ShuffleNetV2, DenseNet-121 and EfficientNet-B0, have no configs here; "
            '`WithAttention` takes them from MMPretrain.',
        ),
    ),
    2: PaperTable(
        title='Image classification, CIFAR-100, ResNets, 32 × 32',
        shape=CIFAR_SHAPE,
        groups=(
            _group(
                'ResNet-50',
                'ResNet-50',
                'r50_cifar100',
                ('Top-1',),
                """
                -    23.71 1.30G 77.60
                SE   28.75 1.31G 78.54
                CBAM 28.74 1.32G 78.65
                SA   23.71 1.31G 78.88
                CA   27.51 1.34G 78.95
                EAN  23.71 1.30G 79.45
                """,
            ),
            _group(
                'ResNet-101',
                'ResNet-101',
                'r101_cifar100',
                ('Top-1',),
                """
                -    42.70 2.52G 77.78
                SE   52.22 2.53G 78.96
                CBAM 52.18 2.54G 78.55
                SA   42.70 2.52G 79.44
                CA   49.90 2.59G 79.05
                EAN  42.70 2.52G 80.05
                """,
            ),
        ),
        notes=(
            "ResNets with a stem of stride 1, as MMPretrain has them for CIFAR. The paper's parameters fit ratio 8 for "
            'SE and CBAM and ratio 16 for CA.',
        ),
    ),
    3: PaperTable(
        title='Image classification, ImageNet-1K, 224 × 224',
        groups=(
            _group(
                'MobileNeXt',
                'MobileNeXt',
                'mobilenext_imagenet',
                ('Top-1',),
                """
                -     3.54 343.66M 72.45
                SE    4.19 345.95M 73.51
                CBAM  4.19 347.49M 73.67
                SGE   3.54 345.30M 73.58
                PdfAM 3.54 343.66M 73.60
                CA    4.39 356.50M 73.89
                EAN   3.54 343.66M 74.21
                """,
            ),
            _group(
                'MobileNetV2',
                'MobileNetV2',
                'mobilenet_v2_imagenet',
                ('Top-1',),
                """
                -     3.50 327.49M 71.53
                SE    4.08 331.40M 72.32
                CBAM  4.07 332.37M 72.35
                SGE   3.50 330.83M 72.45
                PdfAM 3.50 327.49M 72.38
                CA    4.37 346.59M 72.55
                EAN   3.50 327.49M 72.80
                """,
            ),
            _group(
                'ResNet-50',
                'ResNet-50',
                'r50_imagenet',
                ('Top-1',),
                """
                -     25.56 4.11G 76.45
                SE    28.09 4.12G 77.31
                CBAM  28.07 4.13G 77.42
                SGE   25.56 4.12G 77.23
                PdfAM 25.56 4.11G 77.33
                CA    28.08 4.16G 77.40
                EAN   25.56 4.11G 77.87
                """,
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
        number: 1 to 5.
        configs: Folder of the configs.
    """
    table = TABLES[number]
    for group in table.groups:
        plain = None
        for row in group:
            complexity = count_row(row, configs, table.shape)
            plain = plain or complexity
            yield CountedRow(row, complexity, plain, group[0])


def count_row(row: PaperRow, configs: Path, shape: tuple[int, int] | None = None) -> Complexity:
    """Count the network of one row on an image of ``shape``, (height, width), or of the size its config tests on."""
    config = Config.fromfile(configs / f'{row.config}.py')
    return count_model(build_model(config), shape or input_shape(config)).count()
