"""Data that was called good and made a run wrong, and data that was right and was refused: what MMDetection makes of
each, and what the check says of it."""

import json
import shutil
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from ean_mmdet.datasets import CLASSES, check_data, images_check
from ean_mmdet.errors import InputError

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path, sample_data):
    """A copy of the sample data set that a test may spoil."""
    return shutil.copytree(sample_data, tmp_path / 'data')


def dataset(root, split, classes=CLASSES, kind='CocoDataset', **options):
    return dict(
        type=kind,
        data_root=str(root),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=classes),
        test_mode=split == 'val',
        **options,
    )


def config(root, **options):
    """Training and validation of the sample data, as configs have it."""
    return Config(
        dict(
            train_dataloader=dict(dataset=dataset(root, 'train', **options)),
            val_dataloader=dict(dataset=dataset(root, 'val', **options)),
            val_evaluator=dict(type='CocoMetric', ann_file=f'{root}/annotations/instances_val.json', metric='bbox'),
        )
    )


def change(root, function, split='val'):
    file = root / f'annotations/instances_{split}.json'
    content = json.loads(file.read_text())
    function(content)
    file.write_text(json.dumps(content))


def refuses(config, *messages, splits=('train', 'val')):
    with pytest.raises(InputError) as caught:
        check_data(config, splits)
    for message in messages:
        assert message in str(caught.value)


def held(part):
    """What MMDetection makes of a data set, without this project's check."""
    init_default_scope('mmdet')
    return DATASETS.build(dict(part, pipeline=[]))


def trained_boxes(part):
    built = held(part)
    return sum(
        not entry['ignore_flag'] for index in range(len(built)) for entry in built.get_data_info(index)['instances']
    )


def mean_precision(config, root):
    """The mAP of a detector that has learned the training labels and finds every box, by the config's evaluator."""
    names = held(config.train_dataloader.dataset)
    label_of = {}  # by what a label was trained on
    content = json.loads((root / 'annotations/instances_train.json').read_text())
    for category in content['categories']:
        label_of[category['name']] = names.cat2label.get(category['id'])
    images = json.loads((root / 'annotations/instances_val.json').read_text())
    by_id = {category['id']: category['name'] for category in images['categories']}
    metric = CocoMetric(ann_file=config.val_evaluator.ann_file)
    metric.dataset_meta = held(config.val_dataloader.dataset).metainfo
    for image in images['images']:
        boxes = [box for box in images['annotations'] if box['image_id'] == image['id']]
        corners = np.array([box['bbox'] for box in boxes], dtype=np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        labels = np.array([label_of[by_id[box['category_id']]] for box in boxes], dtype=int)
        result = dict(img_id=image['id'], bboxes=corners, scores=np.ones(len(boxes)), labels=labels)
        metric.results.append((dict(img_id=image['id'], width=image['width'], height=image['height']), result))
    return metric.compute_metrics(metric.results)['bbox_mAP']


def test_categories_in_another_order(data):
    right = config(data)
    check_data(right)
    assert mean_precision(right, data) == 1
    change(data, lambda content: content['categories'].reverse())
    assert mean_precision(right, data) < 0.5
    refuses(
        right,
        'instances_val.json lists its categories in another order',
        "'cross' becomes label 0, 'circle'",
        f'classes={tuple(reversed(CLASSES))!r}',
    )
    # the same order everywhere, with the tuple of the message
    change(data, lambda content: content['categories'].reverse(), 'train')
    mended = config(data, classes=tuple(reversed(CLASSES)))
    check_data(mended)
    assert mean_precision(mended, data) == 1


def test_classes_in_another_order(data):
    wrong = ('square', 'circle', 'triangle', 'star', 'cross')
    assert held(dataset(data, 'train', wrong)).cat2label[1] == 0  # a circle, of which it prints 'square'
    refuses(config(data, classes=wrong), "'circle' becomes label 0, 'square'", f'classes={CLASSES!r}')


def test_classes_of_two_splits_in_two_orders(data):
    turned = config(data)
    change(data, lambda content: content['categories'].reverse())
    turned.val_dataloader.dataset.metainfo.classes = tuple(reversed(CLASSES))
    refuses(turned, 'those of the training data in another order', f'classes={CLASSES!r}')


def test_a_super_category_with_the_name_of_a_class(data):
    for split in ('train', 'val'):
        change(data, lambda c: c['categories'].insert(0, dict(id=0, name='circle', supercategory='none')), split)
    labels = held(dataset(data, 'train')).cat2label
    assert labels[1] == 1 and max(labels.values()) == 5  # six labels of five classes: the last is background
    refuses(config(data), "gives the name 'circle' to 2 categories, ids 0, 1", 'No annotation has 0')
    for split in ('train', 'val'):
        change(data, lambda content: content['categories'].pop(0), split)
    check_data(config(data))


@pytest.mark.parametrize('change_file', ['images', 'ids'])
def test_an_evaluator_of_other_data(data, change_file):
    wrong = config(data)
    if change_file == 'images':
        wrong.val_evaluator.ann_file = f'{data}/annotations/instances_train.json'
        message = 'images are not in the first'
    else:
        other = data / 'annotations/other.json'
        content = json.loads((data / 'annotations/instances_val.json').read_text())
        numbers = [category['id'] for category in content['categories']]
        for category, number in zip(content['categories'], reversed(numbers)):
            category['id'] = number
        other.write_text(json.dumps(content))
        wrong.val_evaluator.ann_file = str(other)
        assert mean_precision(wrong, data) < 0.5
        message = 'a label is another category there'
    refuses(wrong, 'val_evaluator: CocoMetric has the annotation file', message)
    wrong.val_evaluator.ann_file = str(data / 'nowhere.json')
    refuses(wrong, 'CocoMetric has no annotation file', 'instances_val.json')


def turn(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


def test_photos_turned_by_their_orientation(data, capfd, monkeypatch):
    turn(data / 'JPEGImages/000003.jpg', 6)
    refuses(config(data), '1 of the 24 images are turned by their EXIF orientation', '240 × 320, not 320 × 240')
    with monkeypatch.context() as patch:  # one of thousands is told, and no reason to refuse them
        patch.setattr(images_check, 'FEW', 0.05)
        check_data(config(data))
    assert 'warning: train data: 1 of the 24 images are turned' in capfd.readouterr().err
    stored = config(data, pipeline=[dict(type='LoadImageFromFile', color_type='color_ignore_orientation')])
    check_data(stored)
    change(data, lambda content: content['images'][2].update(width=240, height=320), 'train')
    refuses(stored, 'another size', '320 × 240, not 240 × 320')
    # a right pair of size and orientation
    change(
        data,
        lambda c: c.update(annotations=[box for box in c['annotations'] if box['image_id'] != 3]),
        'train',
    )
    check_data(config(data))
    turn(data / 'JPEGImages/000003.jpg', 1)
    change(data, lambda content: content['images'][2].update(width=320, height=240), 'train')
    turn(data / 'JPEGImages/000005.jpg', 3)
    capfd.readouterr()
    check_data(config(data))
    assert '1 images are turned or mirrored' in capfd.readouterr().err


def in_all(**values):
    return lambda content: [box.update(values) for box in content['annotations']]


def as_corners(content):
    for box in content['annotations']:
        x, y, width, height = box['bbox']
        box['bbox'] = [x, y, x + width, y + height]


def as_fractions(content):
    for box in content['annotations']:
        box['bbox'] = [side / whole for side, whole in zip(box['bbox'], (320, 240, 320, 240))]


@pytest.mark.parametrize(
    ('function', 'message', 'used'),
    [
        (in_all(area=0), 'boxes, and none is left to train on: {} with an area of 0 (annotation 1 of 000001.jpg', 0),
        (in_all(iscrowd=1), 'none is left to train on: {} crowds', 0),
        (in_all(ignore=1), 'none is left to train on: {} marked ignore', 0),
        (as_fractions, "fractions of the image's width and height", 0),
        (as_corners, 'would be right as x1, y1, x2, y2', None),
    ],
)
def test_boxes_that_are_not_trained_on_or_wrong(data, function, message, used):
    count = len(json.loads((data / 'annotations/instances_train.json').read_text())['annotations'])
    change(data, function, 'train')
    if used is not None:
        assert trained_boxes(dataset(data, 'train')) == used
    refuses(config(data), message.format(count))


def test_how_many_are_left_out_is_told(data, capfd):
    def some(content):
        boxes = content['annotations']
        boxes[0].update(area=0)
        boxes[1].update(iscrowd=1)
        boxes[2].update(bbox=[-50, 0, 20, 20])
        boxes[3].update(ignore=1)

    change(data, some, 'train')
    (checked,) = check_data(config(data), ('train',))['train']
    assert checked.kept == trained_boxes(dataset(data, 'train')) == checked.boxes - 4
    message = capfd.readouterr().err
    for reason in ('1 with an area of 0', '1 crowds', '1 off their image', '1 marked ignore'):
        assert reason in message


def test_an_area_of_zero_does_not_keep_from_evaluating(data):
    before = mean_precision(config(data), data)
    change(data, in_all(area=0))
    assert mean_precision(config(data), data) == before
    check_data(config(data))


class OwnDataset(CocoDataset):
    """As MMDetection's docs teach: other classes."""

    METAINFO: ClassVar = dict(classes=CLASSES)


class OwnReading(CocoDataset):
    """One that reads its file by itself, and numbers classes in a way of its own."""

    METAINFO: ClassVar = dict(classes=CLASSES)
    turned = True

    def __init__(self, ann_file, data_root, data_prefix, pipeline=(), test_mode=False):
        super().__init__(
            ann_file=ann_file, data_root=data_root, data_prefix=data_prefix, pipeline=pipeline, test_mode=test_mode
        )

    def load_data_list(self):
        with open(self.ann_file) as file:
            content = json.load(file)
        self.cat_ids, self.cat_img_map = [], {}
        infos = {}
        for image in content['images']:
            path = f'{self.data_prefix["img"]}/{image["file_name"]}'
            infos[image['id']] = dict(
                img_path=path, img_id=image['id'], width=image['width'], height=image['height'], instances=[]
            )
        for box in content['annotations']:
            x, y, width, height = box['bbox']
            label = 5 - box['category_id'] if self.turned else box['category_id'] - 1
            infos[box['image_id']]['instances'].append(
                dict(bbox=[x, y, x + width, y + height], bbox_label=label, ignore_flag=0)
            )
        return list(infos.values())


def test_two_classes_in_one_place(data, monkeypatch):
    monkeypatch.setattr(OwnReading, 'turned', False)
    same = dict(bbox=[10, 10, 50, 40], area=2000)
    change(data, lambda content: [box.update(same) for box in content['annotations'][:2]], 'train')
    change(data, lambda content: content['annotations'][1].update(category_id=5, image_id=1), 'train')
    part = dataset(data, 'train', kind=OwnReading)
    del part['metainfo']
    check_data(Config(dict(train_dataloader=dict(dataset=part))), ('train',))


@pytest.mark.parametrize('kind', [OwnDataset, OwnReading])
def test_a_data_set_of_the_users(data, kind, monkeypatch):
    part = dataset(data, 'train', kind=kind)
    del part['metainfo']
    own = Config(dict(train_dataloader=dict(dataset=part)))
    if kind is OwnReading:
        refuses(own, "'circle' becomes label 4, 'cross'", splits=('train',))
        monkeypatch.setattr(OwnReading, 'turned', False)
    (checked,) = check_data(own, ('train',))['train']
    assert checked.images == 24 and checked.kept == checked.boxes > 24
    (data / 'JPEGImages/000003.jpg').unlink()
    refuses(own, '1 of the 24 images', '000003.jpg', splits=('train',))
    if kind is OwnDataset:
        monkeypatch.setattr(OwnDataset, 'METAINFO', dict(classes=('square', 'circle', *CLASSES[2:])))
        refuses(own, "'circle' becomes label 0, 'square'", splits=('train',))


class NeedsAPackage(CocoDataset):
    """As LVIS's, whose images have no file_name."""

    def load_data_list(self):
        raise ImportError('Package lvis is not installed')


def test_a_package_that_is_not_installed(data):
    change(data, lambda content: content['images'][0].pop('file_name'), 'train')
    part = Config(dict(train_dataloader=dict(dataset=dataset(data, 'train', kind=NeedsAPackage))))
    refuses(part, 'NeedsAPackage cannot read', 'Package lvis is not installed', splits=('train',))


def test_a_test_set_without_annotations(data):
    file = data / 'annotations/instances_val.json'
    content = json.loads(file.read_text())
    del content['annotations']
    file.write_text(json.dumps(content))
    part = Config(dict(test_dataloader=dict(dataset=dataset(data, 'val'))))
    part.test_evaluator = dict(type='CocoMetric', ann_file=str(file), metric='bbox')
    refuses(part, 'has no annotations, so there is nothing to evaluate on', splits=('test',))
    part.test_evaluator.update(format_only=True, outfile_prefix=str(data / 'results'))
    (checked,) = check_data(part, ('test',))['test']
    assert checked.images == 8 and checked.kept == 0


def test_a_string_of_classes_is_refused_with_the_tuple_that_was_meant(data):
    refuses(config(data, classes=('circle')), "classes is the string 'circle'", "classes=('circle',)")


def voc(root, **options):
    part = dict(type='VOCDataset', data_root=str(root), data_prefix=dict(sub_data_root=''))
    part.update(ann_file='ImageSets/Main/train.txt', metainfo=dict(classes=CLASSES), **options)
    return Config(dict(train_dataloader=dict(dataset=part)))


def set_corners(root, name, *corners):
    """Set the first box of a VOC annotation."""
    path = root / f'Annotations/{name}.xml'
    tree = ElementTree.parse(path)
    for key, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), corners):
        tree.find(f'object/bndbox/{key}').text = str(value)
    tree.write(path)


def test_voc_boxes_off_the_image(data, capfd):
    set_corners(data, '000002', 330, 10, 360, 40)
    part = voc(data).train_dataloader.dataset
    steps = [dict(type='LoadAnnotations', with_bbox=True), dict(type='Resize', scale=(96, 96), keep_ratio=False)]
    loaded = dict(held(part).get_data_info(1), img=np.zeros((240, 320, 3), np.uint8))
    boxes = Compose(steps)(loaded)['gt_bboxes'].tensor
    assert boxes[0, 0] == boxes[0, 2]  # clipped to nothing: the logarithm of its width is what is learned
    refuses(voc(data), '1 boxes have no width or height inside their image', '000002.xml', splits=('train',))
    check_data(voc(data, pipeline=[dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1))]), ('train',))
    assert 'leaves them out' in capfd.readouterr().err
    set_corners(data, '000002', 300, 10, 360, 40)
    check_data(voc(data), ('train',))
