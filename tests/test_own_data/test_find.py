"""What is found in each export, and the message of each layout that is refused or ambiguous."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ean_mmdet.errors import InputError
from ean_mmdet.own_data.find import assign_roles, find
from ean_mmdet.own_data.found import Options, role_of
from ean_mmdet.own_data.parts import CocoPart, VocPart
from tests.test_own_data import exports

NAMES = {'train': 'train', 'val': 'valid'}


def stamp(folder: Path) -> dict:
    """What a folder holds, to see that nothing in it changes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*')) if path.is_file()
    }  # fmt: skip


def boxes_of(part) -> dict[str, list]:
    """Class and box of each object by the name of the image, in pixels from 0 on, read here and not by the package."""
    if isinstance(part, VocPart):
        root = part.root
        found = {}
        for stem in part.stems:
            from xml.etree import ElementTree

            tree = ElementTree.parse(root / part.ann_subdir / f'{stem}.xml').getroot()
            found[stem] = [
                (box.findtext('name'), *(int(box.findtext(f'bndbox/{key}')) - 1 for key in ('xmin', 'ymin')),
                 *(int(box.findtext(f'bndbox/{b}')) - int(box.findtext(f'bndbox/{a}'))
                   for a, b in (('xmin', 'xmax'), ('ymin', 'ymax'))))
                for box in tree.iter('object')
            ]  # fmt: skip
        return found
    names = {category['id']: category['name'] for category in part.content['categories']}
    images = {image['id']: Path(image['file_name']).stem for image in part.content['images']}
    found = {name: [] for name in images.values()}
    for box in part.content['annotations']:
        found[images[box['image_id']]].append((names[box['category_id']], *box['bbox']))
    return found


def assert_holds(part, pictures) -> None:
    found = boxes_of(part)
    assert list(found) == [picture.path.stem for picture in pictures]
    for picture in pictures:
        mine, theirs = found[picture.path.stem], picture.boxes
        assert [box[0] for box in mine] == [box[0] for box in theirs]
        mine, theirs = (np.array([box[1:] for box in boxes], dtype=float).reshape(-1, 4) for boxes in (mine, theirs))
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert all(path.is_file() for path in part.paths())


@pytest.fixture
def splits(train, val):
    return {'train': train, 'valid': val}


@pytest.mark.parametrize(
    ('make', 'kind'),
    [
        ('coco_roboflow', 'coco'), ('coco_folders', 'coco'), ('voc_roboflow', 'voc'), ('voc', 'voc'),
        ('yolo_roboflow', 'yolo'), ('yolo_split', 'yolo'),
    ],
)  # fmt: skip
def test_splits_classes_and_boxes_of_an_export(make, kind, splits, classes, tmp_path):
    if make in ('voc', 'coco_folders'):
        splits = dict(train=splits['train'], val=splits['valid'])
    arguments = () if kind == 'voc' else (classes,)
    data = getattr(exports, make)(tmp_path / 'data', splits, *arguments)
    before = stamp(data)
    found = find(data, Options(classes=tuple(classes) if make == 'yolo_split' else ()))
    parts = assign_roles(found, Options())
    assert found.format == kind
    assert found.classes == tuple(sorted(classes) if kind == 'voc' else classes)
    assert_holds(parts['train'], splits['train'])
    assert_holds(parts['val'], splits.get('valid') or splits['val'])
    assert parts['test'] is parts['val']
    assert stamp(data) == before


@pytest.mark.parametrize(('make', 'kind'), [('coco_label_studio', 'coco'), ('yolo_label_studio', 'yolo')])
def test_label_studio_has_no_split(make, kind, train, classes, tmp_path):
    data = getattr(exports, make)(tmp_path / 'data', train, classes)
    before = stamp(data)
    found = find(data)
    assert found.format == kind and found.classes == tuple(classes)
    parts = assign_roles(found, Options())
    assert list(parts) == ['train']
    assert_holds(parts['train'], train)
    assert stamp(data) == before


def test_names_of_another_machine_are_found_by_their_last_part(train, classes, tmp_path):
    data = exports.coco_label_studio(tmp_path / 'data', train, classes, '/data/upload/7/')
    found = find(data)
    (part,) = found.parts.values()
    assert_holds(part, train)
    assert part.file is None  # a copy is to be written
    assert any('found by their last part' in note for note in found.notes)


def test_voc_without_lists_is_one_split(train, tmp_path):
    found = find(exports.voc(tmp_path / 'data', dict(train=train), lists=False))
    (part,) = found.parts.values()
    assert_holds(part, sorted(train, key=lambda picture: picture.path.stem))


def test_voc_with_png_becomes_coco_as_mmdetection_reads_jpg_alone(train, tmp_path):
    train[0].difficult = True
    try:
        found = find(exports.voc(tmp_path / 'data', dict(train=train), suffix='.png'))
    finally:
        train[0].difficult = False
    (part,) = found.parts.values()
    assert isinstance(part, CocoPart) and part.paths()[0].suffix == '.png'
    assert_holds(part, train)
    hard = [box['iscrowd'] for box in part.content['annotations'] if box['image_id'] == 0]
    assert hard and all(hard) and not all(box['iscrowd'] for box in part.content['annotations'])
    assert any('.jpg alone' in note for note in found.notes)


def test_the_customs_of_voc_where_lists_overlap(train, val, tmp_path):
    lists = dict(train=train[:5], val=train[5:], trainval=train, test=val)
    data = exports.voc(tmp_path / 'data', lists)
    found = find(data)
    parts = assign_roles(found, Options())
    assert [parts[role].name for role in ('train', 'val', 'test')] == ['trainval', 'test', 'test']
    assert any('by the custom of VOC' in note for note in found.notes)
    chosen = assign_roles(find(data), Options(splits=dict(train='train', val='val', test='test')))
    assert [part.name for part in chosen.values()] == ['train', 'val', 'test']


def test_a_validation_and_a_test_split(train, val, classes, tmp_path):
    data = exports.yolo_roboflow(tmp_path / 'data', dict(train=train, valid=val[:2], test=val[2:]), classes)
    parts = assign_roles(find(data), Options())
    assert [len(parts[role].names()) for role in ('train', 'val', 'test')] == [8, 2, 2]


@pytest.mark.parametrize(
    ('name', 'role'),
    [
        ('train', 'train'), ('instances_train2017', 'train'), ('valid', 'val'), ('Validation', 'val'), ('dev', 'val'),
        ('test-dev', None), ('trainval', 'trainval'), ('batch_3', None), ('training set', 'train'),
    ],
)  # fmt: skip
def test_the_role_that_a_name_says(name, role):
    assert role_of(name) == role


def test_roboflows_project_is_no_class(splits, classes, tmp_path):
    found = find(exports.coco_roboflow(tmp_path / 'a', splits, classes))
    assert 'shapes' not in found.classes and any("'shapes' without a box" in note for note in found.notes)
    assert found.parts['train/_annotations.coco' if 'train/_annotations.coco' in found.parts else 'train'].file
    # called like a class, MMDetection would take both for one: the copy is without it
    found = find(exports.coco_roboflow(tmp_path / 'b', splits, classes, project='circle'))
    assert found.classes == tuple(classes)
    assert all(part.file is None for part in found.parts.values())


def test_another_order_of_categories_is_put_right(train, val, classes, tmp_path):
    data = exports.coco_folders(tmp_path / 'data', dict(train=train, val=val), classes)
    file = data / 'annotations/instances_val2017.json'
    content = json.loads(file.read_text())
    content['categories'].reverse()
    file.write_text(json.dumps(content))
    found = find(data)
    assert found.classes == tuple(classes)
    part = assign_roles(found, Options())['val']
    assert part.class_names() == classes and part.file is None
    assert_holds(part, val)


def test_keys_that_an_export_lacks_are_filled_in(train, classes, tmp_path):
    data = exports.coco_label_studio(tmp_path / 'data', train, classes, 'images/')
    content = json.loads((data / 'result.json').read_text())
    for box in content['annotations']:
        del box['iscrowd'], box['area']
    (data / 'result.json').write_text(json.dumps(content))
    (part,) = find(data).parts.values()
    assert part.file is None
    assert all(
        box['iscrowd'] == 0 and box['area'] == box['bbox'][2] * box['bbox'][3] for box in part.content['annotations']
    )


ROW = '1 0.5 0.5 0.25 0.25\n'


@pytest.mark.parametrize(
    ('rows', 'boxes', 'note'),
    [
        (ROW + '\n\n', [(120, 90, 80, 60)], None),
        ('', [], 'empty label file'),
        (None, [], 'no label file'),
        ('1 0.5 0.5 0.25 0.25 0.9\n', [(120, 90, 80, 60)], 'sixth number'),
        ('1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n', [(80, 60, 80, 60)], 'outlines'),
        ('1.0 0.5 0.5 0.25 0.25\n', [(120, 90, 80, 60)], None),
    ],
)  # fmt: skip
def test_rows_of_yolo(rows, boxes, note, train, classes, tmp_path):
    data = exports.yolo_label_studio(tmp_path / 'data', train, classes)
    label = data / 'labels' / f'{train[0].path.stem}.txt'
    label.unlink() if rows is None else label.write_text(rows)
    found = find(data)
    (part,) = found.parts.values()
    assert boxes_of(part)[train[0].path.stem] == [(classes[1], *box) for box in boxes]
    assert note is None or any(note in line for line in found.notes)


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ('9 0.5 0.5 0.25 0.25\n', r'line 1: class 9, but .* has 5 names, so the highest is 4'),
        (ROW + '1 0.5 0.5 0.25\n', r"line 2: '1 0.5 0.5 0.25' is no row of YOLO's"),
        ('circle 0.5 0.5 0.25 0.25\n', r'line 1: .* is no row'),
        ('1 0.5 nan 0.25 0.25\n', r'line 1: .* is no row'),
        ('1 160 120 80 60\n', r'line 1: the box 160 120 80 60 reaches beyond the image, and seems to be in pixels'),
        ('1 0.9 0.5 0.5 0.25\n', r'line 1: .* reaches beyond the image'),
        ('1 0.5 0.5 -0.2 0.25\n', r'line 1: .* reaches beyond the image'),
    ],
)  # fmt: skip
def test_rows_that_are_refused(rows, message, train, classes, tmp_path):
    data = exports.yolo_label_studio(tmp_path / 'data', train, classes)
    (data / 'labels' / f'{train[3].path.stem}.txt').write_text(rows)
    with pytest.raises(InputError, match=message):
        find(data)


def test_labels_without_an_image_are_said(train, classes, tmp_path):
    data = exports.yolo_label_studio(tmp_path / 'data', train, classes)
    (data / 'labels/gone.txt').write_text(ROW)
    assert any('1 label files have no image' in note and 'gone.txt' in note for note in find(data).notes)


def refused(message: str, data: Path, **options) -> None:
    with pytest.raises(InputError, match=message):
        assign_roles(find(data, Options(**options)), Options(**options))


def test_no_folder_and_no_annotations(train, tmp_path):
    refused('DATA must be a folder, got .*gone, which is missing', tmp_path / 'gone')
    exports.put(train[0], tmp_path / 'images')
    refused('has 1 images and no annotations in COCO, VOC or YOLO format. They are', tmp_path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([dict(id=1, data=dict(image='x.jpg'), annotations=[])], "is Label Studio's own JSON: export as COCO or YOLO"),
        ([dict(image='x.jpg', annotations=[])], "is CreateML's"),
        ([dict(image_id=1, category_id=1, bbox=[0, 0, 1, 1], score=1.0)], 'is a list of COCO results'),
        (dict(shapes=[], imagePath='x.jpg'), "is labelme's"),
        (dict(images=[], annotations=[]), 'but no categories'),
    ],
)  # fmt: skip
def test_other_formats_are_named(content, message, tmp_path):
    (tmp_path / 'x.json').write_text(json.dumps(content))
    refused(message, tmp_path)


def test_two_formats(sample_data, tmp_path):
    refused('annotations in 2 formats: coco .*; voc .*Say which to use: --format coco or --format voc', sample_data)
    assert find(sample_data, Options(format='coco')).format == 'coco'
    assert find(sample_data, Options(format='voc')).format == 'voc'
    refused('--format yolo: .* has annotations in the format coco and voc alone', sample_data, format='yolo')


def test_splits_whose_names_do_not_tell(train, val, classes, tmp_path):
    data = exports.yolo_split(tmp_path / 'data', dict(train=train, val=val), classes)
    for kind in ('images', 'labels'):
        shutil.move(data / kind / 'val', data / kind / 'training')
    names = dict(classes=tuple(classes))
    refused(
        'has the splits train, training, .*train: train and training.*--splits train=train val=training', data, **names
    )
    given = Options(splits=dict(train='training', val='train'), **names)
    assert len(assign_roles(find(data, given), given)['train'].names()) == len(val)
    refused(
        '--splits val=valid: .* has the splits train, training', data, splits=dict(train='train', val='valid'), **names
    )
    refused('a role is train, val or test', data, splits=dict(training='train'), **names)
    refused('must say what to train on', data, splits=dict(val='train'), **names)


def test_yolo_without_names_of_classes(train, val, classes, tmp_path):
    data = exports.yolo_split(tmp_path / 'data', dict(train=train, val=val), classes)
    refused(r'neither data.yaml nor classes.txt .* --classes NAME …, 5 names', data)
    assert find(data, Options(classes=tuple(classes))).classes == tuple(classes)


def test_yolo_with_two_lists_of_names(train, classes, tmp_path):
    data = exports.yolo_label_studio(tmp_path / 'data', train, classes)
    (data / 'classes.txt').write_text('\n'.join(reversed(classes)))
    refused('names its classes differently: classes.txt has cross, .*; notes.json has circle, .*--classes NAME', data)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(val='../valid/pictures'), r"its val split '../valid/pictures' is not there"),
        (dict(names={0: 'a', 2: 'b'}), 'must number its classes from 0 on without a gap'),
        (dict(names='circle'), 'names must be a list'),
    ],
)  # fmt: skip
def test_a_data_yaml_that_is_refused(change, message, splits, classes, tmp_path):
    import yaml

    data = exports.yolo_roboflow(tmp_path / 'data', splits, classes)
    content = yaml.safe_load((data / 'data.yaml').read_text())
    (data / 'data.yaml').write_text(yaml.safe_dump({**content, **change}))
    refused(message, data)
    (data / 'other.yaml').write_text(yaml.safe_dump(content))
    refused(r'has 2 files with names of classes, .*--annotations .*data.yaml', data)
    assert find(data, Options(annotations=(data / 'other.yaml',))).classes == tuple(classes)


def test_a_data_yaml_with_numbers_and_a_test_split_that_is_not_there(splits, classes, tmp_path):
    import yaml

    data = exports.yolo_roboflow(tmp_path / 'data', splits, classes)
    content = yaml.safe_load((data / 'data.yaml').read_text())
    content.update(names=dict(enumerate(classes)), test='../test/images')
    (data / 'data.yaml').write_text(yaml.safe_dump(content))
    found = find(data)
    assert found.classes == tuple(classes) and list(found.parts) == ['train', 'val']
    assert any("'../test/images' is not there and is left out" in note for note in found.notes)


def test_images_that_are_not_there(train, classes, tmp_path):
    data = exports.coco_label_studio(tmp_path / 'data', train, classes, 'images/')
    shutil.move(data / 'images', tmp_path / 'elsewhere')
    refused(r"8 of them are nowhere below .*, such as '000\d+.jpg'. Name their folder: --images FOLDER", data)
    (part,) = find(data, Options(images=tmp_path / 'elsewhere')).parts.values()
    assert_holds(part, train)


def test_voc_annotations_without_images(train, tmp_path):
    data = exports.voc(tmp_path / 'data', dict(train=train))
    (data / 'JPEGImages' / train[0].path.name).unlink()
    refused(f'1 of the 8 annotations in .*Annotations have no image in .*JPEGImages: {train[0].path.stem}', data)
    shutil.rmtree(data / 'JPEGImages')
    refused('no image with the name of one, .*Name their folder: --images FOLDER', data)


def test_a_voc_list_with_more_than_names(train, tmp_path):
    data = exports.voc(tmp_path / 'data', dict(train=train))
    (data / 'ImageSets/Main/train.txt').write_text(f'{train[0].path.name}\n')
    refused(r'lists 1 names of 1 without an annotation or image: .*one name a line, without .jpg', data)


def test_a_damaged_annotation(train, tmp_path):
    data = exports.voc(tmp_path / 'data', dict(train=train))
    path = data / 'Annotations' / f'{train[0].path.stem}.xml'
    path.write_text(path.read_text()[:-40])
    refused('is no valid VOC annotation, perhaps truncated', data)


def test_two_voc_data_sets(train, val, tmp_path):
    exports.voc(tmp_path / 'VOC2007', dict(train=train))
    exports.voc(tmp_path / 'VOC2012', dict(train=val))
    refused('holds 2 VOC data sets, VOC2007, VOC2012: give one of them as DATA', tmp_path)


def test_classes_that_are_not_there(train, tmp_path):
    data = exports.voc(tmp_path / 'data', dict(train=train))
    refused('--classes triangel: the annotations have circle, ', data, classes=('circle', 'triangel'))
    found = find(data, Options(classes=('star', 'circle')))
    assert found.classes == ('star', 'circle') and any('left out by --classes' in note for note in found.notes)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"images": [], "annotations": [], "categories": ', 'cannot be read as JSON'),
        ('{"images": [], "annotations": {}, "categories": []}', 'its annotations must be a list of objects, got {}'),
        (
            '{"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": [], "categories": []}',
            'an entry of its images lacks width, height',
        ),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', 'list no images'),
    ],
)  # fmt: skip
def test_coco_files_that_are_refused(content, message, tmp_path):
    (tmp_path / 'x.json').write_text(content)
    refused(message, tmp_path)


def test_no_boxes_at_all(train, classes, tmp_path):
    bare = [exports.Picture(picture.path, picture.size, []) for picture in train]
    refused('not one box in its annotations', exports.voc(tmp_path / 'data', dict(train=bare)))


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('data.yaml', 'names: [红]'.encode('gbk'), r'data\.yaml is not in UTF-8'),
        ('data.yaml', b'names: [a, b\ntrain: x', r'data\.yaml is no valid YAML: .*expected'),
        ('classes.txt', '红'.encode('gbk'), r'classes\.txt is not in UTF-8'),
        ('notes.json', b'{"categories": [{"id": 0}]}', r"notes\.json is not Label Studio's, .*KeyError\('name'\)"),
        ('notes.json', b'[]', r"notes\.json is not Label Studio's"),
        ('labels/{stem}.txt', bytes(range(128, 256)), r'labels/\w+\.txt is not in UTF-8'),
    ],
)
def test_texts_of_yolo_that_cannot_be_read_are_named(name, content, message, train, classes, tmp_path):
    data = exports.yolo_label_studio(tmp_path / 'data', train, classes)
    for other in ('classes.txt', 'notes.json'):
        if name != 'labels/{stem}.txt':
            (data / other).unlink(missing_ok=True)
    (data / name.format(stem=next((data / 'labels').iterdir()).stem)).write_bytes(content)
    with pytest.raises(InputError, match=message):
        find(data)


def test_a_yaml_without_names_is_refused(train, classes, tmp_path):
    data = exports.yolo_label_studio(tmp_path / 'data', train, classes)
    (data / 'my.yaml').write_text('train: images')
    with pytest.raises(InputError, match=r'my\.yaml has no names: of its classes'):
        find(data, Options(annotations=(data / 'my.yaml',), format='yolo'))


def test_files_with_a_byte_order_mark_are_written_anew(splits, classes, tmp_path):
    data = exports.coco_roboflow(tmp_path / 'coco', splits, classes)
    whole = find(data)
    assert all(part.file for part in whole.parts.values())
    for part in whole.parts.values():
        part.file.write_bytes(b'\xef\xbb\xbf' + part.file.read_bytes())
    marked = find(data)
    assert [part.content for part in marked.parts.values()] == [part.content for part in whole.parts.values()]
    assert not any(part.file for part in marked.parts.values())
    data = exports.voc(tmp_path / 'voc', dict(train=splits['train'], val=splits['valid']))
    file = data / 'ImageSets/Main/val.txt'
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
    parts = find(data).parts
    assert parts['train'].file and parts['val'].file is None
    assert_holds(parts['val'], splits['valid'])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda content: content['annotations'][2].pop('category_id'), 'has 1 annotations without category_id'),
        (lambda content: content['annotations'][2].pop('bbox'), 'has 1 annotations without bbox'),
        (lambda content: content['annotations'][2].update(bbox=[1, 2, 3]), 'has 1 boxes that are not four numbers'),
        (lambda content: content['annotations'][2].update(bbox=['1', 2, {}, 3]), 'that are not four numbers'),
        (lambda content: content['annotations'][2].update(category_id={}), 'category_id is not a whole number'),
        (lambda content: content['annotations'].append(7), 'its annotations must be a list of objects, got .7.'),
        (lambda content: content['images'].append('x'), "its images must be a list of objects, got .'x'"),
        (lambda content: content['images'][0].update(file_name=True), 'file_name is not a string'),
        (lambda content: content['images'][0].pop('width'), 'an entry of its images lacks width'),
        (lambda content: content['categories'][0].update(name=1.5), 'name is not a string'),
        (lambda content: content['categories'][0].update(id=[]), 'id is not a whole number or a string'),
        (lambda content: content['categories'].append(dict(content['categories'][0], id=77)), 'is there twice by'),
        (lambda content: content.update(images=0), 'its images must be a list of objects, got 0'),
    ],
)
@pytest.mark.parametrize('lacking', [(), ('area', 'id', 'iscrowd')])
def test_what_is_wrong_with_a_coco_file_is_named(change, message, lacking, train, classes, tmp_path):
    data = exports.coco_label_studio(tmp_path / 'data', train, classes)
    content = json.loads((data / 'result.json').read_text())
    for box in content['annotations']:
        for key in lacking:
            box.pop(key)
    change(content)
    (data / 'result.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        find(data)


def test_a_split_of_a_yaml_that_is_no_folder_is_refused(splits, classes, tmp_path):
    data = exports.yolo_roboflow(tmp_path / 'data', splits, classes)
    text = (data / 'data.yaml').read_text()
    (data / 'data.yaml').write_text(re.sub('(?m)^train:.*$', 'train: [7]', text))
    with pytest.raises(InputError, match=r'its train split must be a folder or a list of folders, got \[7\]'):
        find(data)


def test_an_object_of_voc_without_a_name_is_named(train, tmp_path):
    data = exports.voc(tmp_path / 'data', dict(train=train))
    path = data / 'Annotations' / f'{train[1].path.stem}.xml'
    path.write_text(re.sub('<name>.*?</name>', '<name></name>', path.read_text(), count=1))
    with pytest.raises(InputError, match=rf'{path.name} is no valid VOC annotation: object 1/name is empty'):
        find(data)
