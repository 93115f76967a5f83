import json
import shutil

import pytest
from mmengine.config import Config

from ean_mmdet.datasets import CLASSES, check_data
from ean_mmdet.errors import InputError


@pytest.fixture
def data(tmp_path, sample_data):
    """A copy of the sample data set that a test may spoil."""
    return shutil.copytree(sample_data, tmp_path / 'data')


def coco(root, classes=CLASSES, **options):
    dataset = dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=classes),
    )
    return Config(dict(train_dataloader=dict(dataset=dict(dataset, **options))))


def voc(root, classes=CLASSES, **options):
    dataset = dict(
        type='mmdet.VOCDataset',
        data_root=str(root),
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=classes),
    )
    return Config(dict(train_dataloader=dict(dataset=dict(dataset, **options))))


def refuses(config, message):
    with pytest.raises(InputError, match=message):
        check_data(config)


@pytest.mark.parametrize('kind', [coco, voc])
def test_good_data_passes(data, kind):
    check_data(kind(data))
    inner = kind(data).train_dataloader.dataset
    wrapped = dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[inner, inner]))
    check_data(Config(dict(train_dataloader=dict(dataset=wrapped))))


@pytest.mark.parametrize('kind', [coco, voc])
def test_missing_root(tmp_path, kind):
    refuses(kind(tmp_path / 'nowhere'), r"train data: no folder .*nowhere.*'Data' in README\.md")


def test_missing_root_in_a_wrapper(data, tmp_path):
    datasets = [coco(root).train_dataloader.dataset for root in (data, tmp_path / 'nowhere')]
    refuses(Config(dict(train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=datasets)))), 'nowhere')


@pytest.mark.parametrize('kind', [coco, voc])
def test_missing_annotation_file(data, kind):
    refuses(kind(data, ann_file='annotations/train.json'), r'no annotation file .*train\.json.*instances_train\.json')


@pytest.mark.parametrize('kind', [coco, voc])
def test_missing_image(data, kind):
    (data / 'JPEGImages/000003.jpg').unlink()
    refuses(kind(data), r'1 of the 24 images .* missing.*000003\.jpg')


@pytest.mark.parametrize('kind', [coco, voc])
def test_other_classes(data, kind):
    refuses(kind(data, classes=('Circle', 'dog')), r"'circle', .*'Circle', 'dog' are not among them .*'Circle' for")


def test_default_classes_are_the_data_sets(data):
    refuses(coco(data, metainfo=None), "'person', 'bicycle'.* and 74 more are not among them")


def test_a_subset_of_the_classes_is_fine(data):
    check_data(coco(data, classes=('star',)))
    check_data(voc(data, classes=('star', 'circle')))


@pytest.mark.parametrize('content', ['', '{"images": [', '[]', '{"images": []}'])
def test_damaged_json(data, content):
    (data / 'annotations/instances_train.json').write_text(content)
    refuses(coco(data), 'no valid JSON|no COCO annotation file')


def test_damaged_xml(data):
    path = data / 'Annotations/000002.xml'
    path.write_text(path.read_text()[:200])
    refuses(voc(data), r'000002\.xml is no valid VOC annotation')


def test_empty_sets(data):
    file = data / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    file.write_text(json.dumps(dict(content, annotations=[])))
    refuses(coco(data), 'nothing to train on')
    file.write_text(json.dumps(dict(content, images=[], annotations=[])))
    refuses(coco(data), 'lists no images')
    (data / 'ImageSets/Main/train.txt').write_text('')
    refuses(voc(data), 'lists no images')


def test_boxes_without_area(data):
    path = data / 'Annotations/000002.xml'
    text = path.read_text()
    xmin = text.split('<xmin>')[1].split('<')[0]
    xmax = text.split('<xmax>')[1].split('<')[0]
    path.write_text(text.replace(f'<xmax>{xmax}<', f'<xmax>{xmin}<', 1))
    refuses(voc(data), r'boxes have no width or height.*000002\.xml.*bbox_min_size=1')
    check_data(voc(data, filter_cfg=dict(bbox_min_size=1)))


def test_data_elsewhere_is_not_looked_for():
    check_data(coco('s3://bucket/coco', backend_args=dict(backend='petrel')))


def test_real_data_passes(shared_data):
    check_data(
        voc(
            shared_data / 'bccd/BCCD',
            classes=('RBC', 'WBC', 'Platelets'),
            ann_file='ImageSets/Main/trainval.txt',
            filter_cfg=dict(bbox_min_size=1),
        )
    )
    check_data(
        coco(
            shared_data / 'coco_mini',
            metainfo=None,
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
        )
    )
    refuses(voc(shared_data / 'bccd/BCCD', metainfo=None), "'Platelets', 'RBC', 'WBC', but the config's 'aeroplane'")


@pytest.mark.parametrize('type', ['ImageNet', 'CustomDataset'])
def test_folders_of_images_per_class(type, tmp_path):
    split = dict(split='train') if type == 'ImageNet' else dict(data_prefix='train')
    dataset = dict(type=type, data_root=str(tmp_path), **split)
    config = Config(dict(train_dataloader=dict(dataset=dataset)))
    with pytest.raises(InputError, match=rf'train data: no folder {tmp_path}/train'):
        check_data(config)
    (tmp_path / 'train').mkdir()
    with pytest.raises(InputError, match=r'no folders of images per class, nor is there a list .*meta/train.txt'):
        check_data(config)
    (tmp_path / 'train' / 'cat').mkdir()
    check_data(config)
    dataset['ann_file'] = 'meta/mine.txt'
    with pytest.raises(InputError, match=r'no annotation file .*meta/mine.txt'):
        check_data(Config(dict(train_dataloader=dict(dataset=dataset))))
