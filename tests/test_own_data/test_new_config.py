"""Configs that are written: the data they hold, that they are the same again, and what happens to DATA and to --out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from ean_mmdet.datasets.config_parts import datasets_of
from ean_mmdet.datasets.held import hold
from ean_mmdet.engine import build_model, load_config
from ean_mmdet.errors import InputError
from ean_mmdet.own_data import Options, Settings, new_config
from tests.conftest import ROOT
from tests.test_own_data import exports
from tests.test_own_data.test_find import stamp

CONFIGS = ROOT / 'configs'


def make(data: Path, out: Path, options: Options | None = None, **settings):
    return new_config(data, out, CONFIGS, options, Settings(start='none', rehearsal=False, **settings))


def held_boxes(config: Config, split: str) -> dict[str, list]:
    """What MMDetection makes of a config's data: class and box of each object by the name of the image."""
    (part,) = datasets_of(config, split)
    part = {key: value for key, value in part.items() if key != 'filter_cfg'}
    held = hold(config, part, split)
    return {
        Path(info['img_path']).stem: sorted(
            (held.classes[box['bbox_label']], *np.round(np.array(box['bbox'], dtype=float), 3).tolist())
            for box in info['instances'] if min(np.subtract(box['bbox'][2:], box['bbox'][:2])) >= 1
        )
        for info in held.loaded
    }  # fmt: skip


def test_bccd_in_three_formats_is_the_same_data_and_network(shared_data, tmp_path):
    root = shared_data / 'bccd/BCCD'
    classes = ['Platelets', 'RBC', 'WBC']
    voc = make(root, tmp_path / 'voc.py', attention='EAN')
    splits = {name: exports.pictures_of_voc(root, list_) for name, list_ in (('train', 'trainval'), ('valid', 'test'))}
    linked = {
        split: [exports.Picture(picture.path, picture.size, [box for box in picture.boxes if min(box[3:]) > 0])
                for picture in pictures]
        for split, pictures in splits.items()
    }  # fmt: skip
    coco = make(exports.coco_roboflow(tmp_path / 'coco', splits, classes), tmp_path / 'coco.py', attention='EAN')
    yolo = make(exports.yolo_roboflow(tmp_path / 'yolo', linked, classes), tmp_path / 'yolo.py', attention='EAN')
    for split, number, count in (('train', 292, 3941), ('val', 72, 945), ('test', 72, 945)):
        theirs = held_boxes(voc.config, split)
        assert len(theirs) == number and sum(map(len, theirs.values())) == count
        for other in (coco, yolo):
            mine = held_boxes(other.config, split)
            assert mine.keys() == theirs.keys()
            for name, boxes in theirs.items():
                assert [box[0] for box in mine[name]] == [box[0] for box in boxes]
                np.testing.assert_allclose([b[1:] for b in mine[name]], [b[1:] for b in boxes], atol=2e-3)
    assert coco.config.model.to_dict() == voc.config.model.to_dict() == yolo.config.model.to_dict()
    for key in ('train_cfg', 'optim_wrapper', 'param_scheduler', 'input_size'):
        assert coco.config[key] == voc.config[key] == yolo.config[key], key


def test_the_same_input_gives_the_same_file_and_data_stays_as_it_is(train, classes, tmp_path):
    data = exports.yolo_label_studio(tmp_path / 'data', train, classes)
    before = stamp(data)
    first = make(data, tmp_path / 'a/config.py')
    second = make(data, tmp_path / 'b/config.py')
    assert first.path.read_bytes() == second.path.read_bytes()
    assert stamp(first.path.with_name('config_data')) == stamp(second.path.with_name('config_data'))
    assert stamp(data) == before
    assert first.picture.read_bytes()[:2] == b'\xff\xd8'


def test_a_config_moves_with_its_files(train, classes, tmp_path):
    data = exports.yolo_label_studio(tmp_path / 'data', train, classes)
    old = make(data, tmp_path / 'old/config.py')
    theirs = {split: held_boxes(old.config, split) for split in ('train', 'val')}
    shutil.move(tmp_path / 'old', tmp_path / 'new')
    moved = load_config(str(tmp_path / 'new/config.py'))
    assert {split: held_boxes(moved, split) for split in ('train', 'val')} == theirs
    assert moved.val_evaluator.ann_file == str(tmp_path / 'new/config_data/val.json')


def test_a_split_is_written_as_lists(train, classes, tmp_path):
    new = make(exports.voc(tmp_path / 'data', dict(all=train), lists=False), tmp_path / 'config.py')
    names = {
        role: (tmp_path / f'config_data/{role}.txt').read_text().split() for role in ('train', 'val')
    }  # fmt: skip
    assert sorted(names['train'] + names['val']) == sorted(picture.path.stem for picture in train)
    assert list(held_boxes(new.config, 'val')) == names['val']
    text = ' '.join(note for table in new.tables for note in table.notes)
    assert 'no split in the data: ' in text and 'by seed 0' in text and '8 images are few' in text


def test_an_existing_file_is_kept_and_data_is_no_place_for_one(train, classes, tmp_path):
    data = exports.coco_label_studio(tmp_path / 'data', train, classes, 'images/')
    out = tmp_path / 'config.py'
    out.write_text('mine = True\n')
    with pytest.raises(InputError, match='is there already; --force overwrites it'):
        make(data, out)
    assert out.read_text() == 'mine = True\n'
    make(data, out, force=True)
    assert 'CocoDataset' in out.read_text()
    with pytest.raises(InputError, match='lies in DATA, in which nothing is written'):
        make(data, data / 'config.py')
    with pytest.raises(InputError, match=r'ends in \.py'):
        make(data, tmp_path / 'config.yaml')


@pytest.mark.parametrize(
    ('detector', 'attention', 'kind'),
    [
        ('faster_rcnn', 'EAN', 'EANResNet'), ('faster_rcnn', 'none', 'ResNet'), ('retinanet', 'SE(ratio=8)', 'ResNet'),
        ('yolox', 'EAN', 'WithAttention'), ('ssdlite', 'CA(ratio=16)', 'MobileNeXt'),
    ],
)  # fmt: skip
def test_every_detector_has_the_classes_everywhere(detector, attention, kind, train, val, classes, tmp_path):
    data = exports.voc(tmp_path / 'data', dict(train=train, val=val))
    new = make(data, tmp_path / 'config.py', detector=detector, attention=attention)
    config = new.config
    assert config.model.backbone.type == kind
    head = config.model.roi_head.bbox_head if detector == 'faster_rcnn' else config.model.bbox_head
    assert head.num_classes == len(classes)
    for split in ('train', 'val', 'test'):
        (part,) = datasets_of(config, split)
        assert part.metainfo.classes == tuple(sorted(classes))
    names = {type(module).__name__ for module in build_model(config).modules()}
    assert attention == 'none' or attention.partition('(')[0] in names


@pytest.mark.parametrize(('factor', 'attention'), [(0.5, 'EAN'), (0.35, 'SE')])
def test_a_narrower_ssdlite_for_a_short_schedule(factor, attention, train, val, classes, tmp_path):
    data = exports.coco_folders(tmp_path / 'data', dict(train=train, val=val), classes)
    new = make(data, tmp_path / 'config.py', attention=attention, width=factor, iterations=2, input_size=64)
    usual = make(data, tmp_path / 'usual.py', attention=attention, input_size=64)
    small, full = (build_model(config) for config in (new.config, usual.config))
    parameters = [sum(p.numel() for p in model.parameters()) for model in (small, full)]
    assert parameters[0] < (factor + 0.1) * parameters[1]
    scores, _ = small.eval()(torch.zeros(1, 3, 64, 64), mode='tensor')
    assert len(scores) == 6 and scores[0].shape[1] % (len(classes) + 1) == 0
    for config, count in ((new.config, 0), (usual.config, 1)):
        (part,) = datasets_of(config, 'train')
        assert sum(step['type'] == 'Expand' for step in part.pipeline) == count
    for wrong, message in ((dict(width=0), 'above 0'), (dict(width=0.5, detector='yolox'), "--width is of ssdlite's")):
        with pytest.raises(InputError, match=message):
            make(data, tmp_path / 'x.py', **wrong)


def test_a_checkpoint_of_another_width_is_told_at_once(train, val, classes, tmp_path):
    data = exports.coco_folders(tmp_path / 'data', dict(train=train, val=val), classes)
    settings = dict(attention='EAN', iterations=2, input_size=64)
    first = make(data, tmp_path / 'first.py', width=0.25, **settings)
    weights = tmp_path / 'first.pth'
    torch.save(dict(state_dict=build_model(first.config).state_dict()), weights)

    def start(width: float):
        return new_config(
            data, tmp_path / f'{width}.py', CONFIGS, None,
            Settings(start=str(weights), rehearsal=False, width=width, **settings),
        )  # fmt: skip

    assert start(0.25).config.load_from == str(weights)
    with pytest.raises(InputError, match=r'--width has to be that of the network in the file: .* fills 0\.\d%'):
        start(0.5)
    assert not (tmp_path / '0.5.py').exists()


def test_attention_that_cannot_be(train, classes, tmp_path):
    data = exports.coco_label_studio(tmp_path / 'data', train, classes, 'images/')
    for attention, message in {
        'EEAN': '--attention EEAN: .*there is no EEAN; did you mean EAN',
        'EAN(groups=7)': '--attention EAN',
        'EAN(8)': 'settings need their names',
        "EAN(shared='stage')": 'says where the module goes',
    }.items():
        with pytest.raises(InputError, match=message.replace('(', r'\(')):
            make(data, tmp_path / 'config.py', attention=attention)
        assert not (tmp_path / 'config.py').exists()


def test_classes_only_in_validation_have_a_place(train, val, classes, tmp_path):
    data = exports.coco_folders(tmp_path / 'data', dict(train=train, val=val), classes)
    for split, left in (('train', classes[0]), ('val', None)):
        file = data / f'annotations/instances_{split}2017.json'
        content = json.loads(file.read_text())
        gone = {category['id'] for category in content['categories'] if category['name'] == left}
        for key, number in (('categories', 'id'), ('annotations', 'category_id')):
            content[key] = [entry for entry in content[key] if entry[number] not in gone]
        file.write_text(json.dumps(content))
    config = make(data, tmp_path / 'config.py').config
    (part,) = datasets_of(config, 'val')
    assert part.metainfo.classes == (*classes[1:], classes[0])
    found = held_boxes(config, 'val')
    assert {box[0] for boxes in found.values() for box in boxes} == {box[0] for picture in val for box in picture.boxes}


def test_boxes_of_less_than_a_pixel_at_the_input(train, classes, tmp_path):
    data = exports.coco_label_studio(tmp_path / 'data', train, classes, 'images/')
    content = json.loads((data / 'result.json').read_text())
    for box in content['annotations']:
        box.update(bbox=[10, 10, 1, 1], area=1)
    (data / 'result.json').write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r'^none of the \d+ boxes has a pixel .* at the input of 64 × 64: .*--input-size'
    ):
        make(data, tmp_path / 'config.py', input_size=64)
    assert not (tmp_path / 'config.py').exists()


def test_a_folder_with_quotes_in_its_name(train, classes, tmp_path):
    """MMEngine puts a config's folder into its text as it is, so there the paths are whole."""
    data = exports.coco_label_studio(tmp_path / "it's" / 'data', train, classes, 'images/')
    out = tmp_path / "it's" / 'config.py'
    file = make(data, out).config.train_dataloader.dataset.ann_file
    assert file == f"{tmp_path}/it's/config_data/train.json" and 'fileDirname' not in out.read_text()
    assert 'fileDirname' in make(data, tmp_path / 'config.py').path.read_text()
