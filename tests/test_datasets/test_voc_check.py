"""Lists and annotations of VOC that MMDetection can't read, and what it leaves out of those that it can."""

import shutil

import pytest
from mmengine.config import Config

from ean_mmdet.datasets import CLASSES, check_data
from ean_mmdet.errors import InputError


@pytest.fixture
def data(tmp_path, sample_data):
    """A copy of the sample data set that a test may spoil."""
    return shutil.copytree(sample_data, tmp_path / 'data')


def voc(root, **options):
    part = dict(
        type='VOCDataset',
        data_root=str(root),
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=CLASSES),
    )
    return Config(dict(train_dataloader=dict(dataset=dict(part, **options))))


def refuses(root, *messages, **options):
    with pytest.raises(InputError) as caught:
        check_data(voc(root, **options), ('train',))
    for message in messages:
        assert message in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('change', 'messages'),
    [
        (lambda lines: [*lines, ''], ('line 25 of', 'is blank')),
        (lambda lines: [f'{lines[0]} ', *lines[1:]], ('line 1 of', "'000001 '", "the name '000001'")),
        (lambda lines: [f'{line}  1' for line in lines], ('line 1 of', "'000001  1'", '24 of its 24 lines')),
        (lambda lines: ['\ufeff' + lines[0], *lines[1:]], ('line 1 of', 'byte-order mark', 'UTF-8 without one')),
        (lambda lines: [*lines, '000999'], ('1 of the 25 annotations', '000999.xml')),
        (lambda lines: [], ('lists no images',)),
    ],
)
def test_lists_as_mmdetection_reads_them(data, change, messages):
    file = data / 'ImageSets/Main/train.txt'
    file.write_text(''.join(f'{line}\n' for line in change(file.read_text().split())))
    refuses(data, *messages)


def replace(data, old, new):
    path = data / 'Annotations/000002.xml'
    text = path.read_text()
    start, end = (text.index(part) for part in (f'<{old}>', f'</{old}>'))
    path.write_text(text[:start] + new + text[end + len(old) + 3 :])


@pytest.mark.parametrize(
    ('field', 'new', 'message'),
    [
        ('difficult', '<difficult></difficult>', 'object 1/difficult is empty'),
        ('difficult', '<difficult>no</difficult>', "object 1/difficult is 'no', not a whole number"),
        ('name', '', 'object 1/name is missing'),
        ('xmin', '<xmin/>', 'object 1/bndbox/xmin is empty'),
        ('ymax', '<ymax>ten</ymax>', "object 1/bndbox/ymax is 'ten', not a number"),
        ('ymax', '<ymax>inf</ymax>', "object 1/bndbox/ymax is 'inf'"),
        ('width', '<width>320.0</width>', "size/width is '320.0', not a whole number"),
        ('height', '', 'size/height is missing'),
        ('width', '<width>240</width>', 'is 320 × 240, not 240 × 240'),
    ],
)
def test_fields_are_named_with_their_file(data, field, new, message):
    replace(data, field, new)
    refuses(data, '000002', message)


def test_sides_that_are_swapped(data):
    replace(data, 'xmin', '<xmin>400</xmin>')
    refuses(data, '1 boxes have no width or height', '000002.xml')


def test_a_size_of_zero(data, capfd):
    """Without a least size of images it changes nothing; with one the image is gone."""
    replace(data, 'width', '<width>0</width>')
    (checked,) = check_data(voc(data), ('train',))['train']
    assert checked.images == 24
    error = capfd.readouterr().err
    assert '1 of 24 annotations say a size of 0' in error and '000002.xml' in error
    (checked,) = check_data(voc(data, filter_cfg=dict(min_size=32)), ('train',))['train']
    assert checked.images == 23 and 'in images that filter_cfg leaves out' in capfd.readouterr().err


def test_difficult_and_small_boxes_are_counted(data, capfd):
    replace(data, 'difficult', '<difficult>1</difficult>')
    (checked,) = check_data(voc(data), ('train',))['train']
    assert checked.kept == checked.boxes - 1
    assert '1 marked as difficult' in capfd.readouterr().err
    refuses(data, 'none is left to train on', 'smaller than bbox_min_size', filter_cfg=dict(bbox_min_size=1000))


def test_a_class_without_a_box_is_no_wrong_name(data):
    check_data(voc(data, metainfo=dict(classes=('star', 'stars', 'zebra'))), ('train',))
    refuses(data, "'Circle' for 'circle'", metainfo=dict(classes=('star', 'Circle')))
