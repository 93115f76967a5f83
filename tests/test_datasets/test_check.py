import json
import shutil

import pytest
from mmengine.config import Config

from ean_mmdet.datasets import CLASSES, check_data
from ean_mmdet.errors import InputError
from tests.conftest import ROOT


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
    check_data(kind(data, _scope_='mmdet'))  # as a base named mmdet::… has it


@pytest.mark.parametrize('kind', [coco, voc])
def test_missing_root(tmp_path, kind):
    refuses(kind(tmp_path / 'nowhere'), r"train data: no folder .*nowhere.*'Data' in docs/detectors\.md")


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
    config = Config(dict(default_scope='mmpretrain', train_dataloader=dict(dataset=dataset)))
    with pytest.raises(InputError, match=rf'train data: no folder {tmp_path}/train'):
        check_data(config)
    (tmp_path / 'train').mkdir()
    with pytest.raises(InputError, match=r'no folders of images per class, nor is there a list .*meta/train.txt'):
        check_data(config)
    (tmp_path / 'train' / 'cat').mkdir()
    assert check_data(config)['train'][0].unchecked == [f'the images of {type}']
    config.train_dataloader.dataset.ann_file = 'meta/mine.txt'
    with pytest.raises(InputError, match=r'no annotation file .*meta/mine.txt'):
        check_data(config)


def annotations(data, change, name='instances_train.json'):
    """Change the content of an annotation file."""
    file = data / 'annotations' / name
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def set_in(entry, **values):
    return lambda content: content[entry][3].update(values)


def remove_from(entry, key):
    return lambda content: content[entry][3].pop(key)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['images'].append(dict(c['images'][0])), r'1 image ids given twice \(1: '),
        (lambda c: c['annotations'].append(dict(c['annotations'][0])), '1 annotation ids given twice'),
        (set_in('annotations', bbox=[1.0, 2.0, float('nan'), 4.0]), '1 boxes with NaN or infinity'),
        (set_in('annotations', bbox='1,2,3,4'), '1 boxes that are not four numbers'),
        (set_in('annotations', bbox=[1, 2, 3]), '1 boxes that are not four numbers'),
        (remove_from('annotations', 'bbox'), '1 annotations without bbox'),
        (remove_from('annotations', 'area'), '1 annotations without area'),
        (remove_from('images', 'width'), 'an entry of its images lacks width'),
        (remove_from('categories', 'name'), 'an entry of its categories lacks name'),
        (set_in('images', width=7), r'1 of the 24 images have another size .* is 320 × 240, not 7 × 240'),
    ],
)
def test_annotations_that_would_make_a_run_wrong(data, change, message):
    annotations(data, change)
    refuses(coco(data), message)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (set_in('annotations', image_id=999), '1 annotations of images that it does not list'),
        (set_in('annotations', category_id=999), '1 annotations of categories that it does not list'),
        (set_in('annotations', bbox=[5, 5, -3, 4]), '1 boxes of negative width or height'),
        (set_in('annotations', bbox=[5, 5, 0, 4]), '1 boxes of less than a pixel'),
    ],
)
def test_annotations_that_mmdetection_leaves_out_are_told(data, change, message, capfd):
    annotations(data, change)
    check_data(coco(data))
    output = ''.join(capfd.readouterr())
    assert message in output and 'MMDetection leaves them out' in output


def test_a_byte_order_mark(data):
    file = data / 'annotations/instances_train.json'
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
    refuses(coco(data), 'starts with a byte-order mark')


def test_validation_without_annotations(data):
    annotations(data, lambda content: content.update(annotations=[]), 'instances_val.json')
    dataset = coco(data, ann_file='annotations/instances_val.json').train_dataloader.dataset
    with pytest.raises(InputError, match=r'val data: .* has no annotations, so there is nothing to validate on'):
        check_data(Config(dict(val_dataloader=dict(dataset=dataset))))


@pytest.mark.parametrize('kind', [coco, voc])
@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda path: path.write_bytes(b''), r'1 of the 24 images .* cannot be used: 1 empty \(.*000003\.jpg\)'),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), r'1 (damaged|no image|truncated)'),
        (lambda path: path.write_text('an error page'), '1 no image'),
        (lambda path: (path.unlink(), path.mkdir()), '1 a folder'),
        (lambda path: (path.unlink(), path.symlink_to('nowhere.jpg')), '1 links to nothing'),
        (lambda path: (path.unlink(), path.symlink_to(path.name)), '1 unreadable, Too many levels of symbolic links'),
    ],
)
def test_images_that_cannot_be_read(data, kind, spoil, message):
    spoil(data / 'JPEGImages/000003.jpg')
    refuses(kind(data), message)


def test_num_classes_that_differ(data):
    config = coco(data)
    config.model = Config.fromfile(ROOT / 'configs/sample/ssdlite192_ean_mobilenext_sample.py').model
    check_data(config)
    config.model.bbox_head.num_classes = 80
    refuses(config, r'its data set has 5 classes .* SSDLiteHead with num_classes=80; they must agree')
    del config.model.bbox_head['num_classes']  # 80 by default
    refuses(config, r'SSDLiteHead with num_classes=80; they must agree')


def test_valid_configs_that_are_written_otherwise(data, tmp_path):
    from mmdet.datasets import CocoDataset

    names = tmp_path / 'classes.txt'
    names.write_text('\n'.join(CLASSES) + '\n')
    check_data(coco(data, metainfo=dict(classes=str(names))))
    dataset = dict(coco(data).train_dataloader.dataset, type=CocoDataset)
    check_data(Config(dict(train_dataloader=dict(dataset=dataset))))
    dataset = coco(data).train_dataloader.dataset
    del dataset['ann_file']
    refuses(Config(dict(train_dataloader=dict(dataset=dataset))), 'names no annotation file: set its ann_file')
