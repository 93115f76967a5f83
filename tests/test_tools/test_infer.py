import json

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from tests.conftest import ROOT
from tests.test_tools.test_train_and_test import tiny, trained  # noqa: F401, fixtures

pytestmark = pytest.mark.slow


def test_folder_to_pictures_and_json(trained, tiny, sample_data, tmp_path, run_tool):  # noqa: F811
    images = tmp_path / 'images'
    (images / 'sub').mkdir(parents=True)
    for source, name in (('000001', 'a.jpg'), ('000002', 'sub/b.jpg')):
        (images / name).write_bytes((sample_data / f'JPEGImages/{source}.jpg').read_bytes())
    out = tmp_path / 'out'
    result = run_tool('infer.py', images, tiny, trained / 'iter_6.pth', '--out-dir', out, '--device', 'cpu')
    assert f'2 pictures are in {out}/vis' in result.stdout
    assert 'COCO classes' not in result.stderr + result.stdout and 'Warning' not in result.stderr
    info = json.loads((out / 'detections.json').read_text())['info']
    assert info['checkpoint'] == str(trained / 'iter_6.pth') and info['iteration'] == 6
    content = json.loads((out / 'detections.json').read_text())
    assert [image['file_name'] for image in content['images']] == ['a.jpg', 'sub/b.jpg']
    assert [category['name'] for category in content['categories']] == ['circle', 'square', 'triangle', 'star', 'cross']
    assert content['annotations'] and all(0 <= box['score'] <= 1 for box in content['annotations'])
    assert COCO(str(out / 'detections.json')).getAnnIds()
    with Image.open(out / 'vis/sub/b.jpg') as picture:
        assert picture.size == (320, 240)


def test_unreadable_images_are_named_and_the_others_done(trained, tiny, sample_data, tmp_path, run_tool):  # noqa: F811
    images = tmp_path / 'images'
    images.mkdir()
    (images / 'good.jpg').write_bytes((sample_data / 'JPEGImages/000001.jpg').read_bytes())
    with Image.open(images / 'good.jpg') as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images / 'good.png')
    (images / 'bad.jpg').write_bytes(b'no image')
    (images / 'empty.jpg').touch()
    (images / 'folder.jpg').mkdir()
    (images / 'link.jpg').symlink_to('nothing.jpg')
    arguments = [images, tiny, trained / 'iter_6.pth', '--out-dir', tmp_path / 'out', '--device', 'cpu']
    result = run_tool('infer.py', *arguments, check=False)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert '4 of the 6 files named as images are left out' in result.stderr
    for problem in ('bad.jpg is no image', 'empty.jpg is empty', 'folder.jpg is a folder', 'link.jpg is a link'):
        assert problem in result.stderr
    # two images of one stem are two pictures
    first, second = ((tmp_path / 'out/vis' / name).read_bytes() for name in ('good.jpg.jpg', 'good.png.jpg'))
    assert first != second
    content = json.loads((tmp_path / 'out/detections.json').read_text())
    assert [image['file_name'] for image in content['images']] == ['good.jpg', 'good.png']


def test_other_inputs_results_are_not_written_over(trained, tiny, sample_data, tmp_path, run_tool):  # noqa: F811
    """Two folders with images of one name."""
    for number, name in enumerate('ab', 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / '1.jpg').write_bytes((sample_data / f'JPEGImages/00000{number}.jpg').read_bytes())
    arguments = (tiny, trained / 'iter_6.pth', '--out-dir', tmp_path / 'out')
    run_tool('infer.py', tmp_path / 'a', *arguments)
    first = {path: path.read_bytes() for path in (tmp_path / 'out').rglob('*') if path.is_file()}
    assert len(first) == 3
    result = run_tool('infer.py', tmp_path / 'b', *arguments, check=False)
    assert result.returncode == 2 and f'out holds the results of images {tmp_path}/a' in result.stderr
    assert first == {path: path.read_bytes() for path in (tmp_path / 'out').rglob('*') if path.is_file()}
    run_tool('infer.py', tmp_path / 'a', *arguments)  # the same again


def test_category_ids_are_the_data_sets(trained, tiny, sample_data, tmp_path, run_tool):  # noqa: F811
    file = tmp_path / 'annotations.json'
    content = json.loads((sample_data / 'annotations/instances_val.json').read_text())
    for category in content['categories']:
        category['id'] += 100
    file.write_text(json.dumps(content))
    run_tool(
        'infer.py', sample_data / 'JPEGImages/000001.jpg', tiny, trained / 'iter_6.pth', '--out-dir', tmp_path / 'out',
        '--cfg-options', f'test_dataloader.dataset.ann_file={file}',
    )  # fmt: skip
    content = json.loads((tmp_path / 'out/detections.json').read_text())
    assert {category['id'] for category in content['categories']} == {101, 102, 103, 104, 105}
    assert {box['category_id'] for box in content['annotations']} <= {101, 102, 103, 104, 105}


@pytest.mark.parametrize('tool', ['test.py', 'infer.py'])
def test_a_checkpoint_of_another_width_is_refused(tool, trained, tiny, sample_data, tmp_path, run_tool):  # noqa: F811
    """Its counters of batches fit, and nothing else does."""
    config = Config.fromfile(tiny)
    config.model.backbone.update(widen_factor=0.5, last_channels=640)
    channels = (144, 288, 640, 64)
    config.model.neck.update(in_channels=channels[:3], out_channels=channels)
    config.model.bbox_head.in_channels = channels
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict(), meta={}), tmp_path / 'half.pth')
    images = [sample_data / 'JPEGImages/000001.jpg'] if tool == 'infer.py' else []
    result = run_tool(tool, *images, tiny, tmp_path / 'half.pth', check=False)
    assert result.returncode == 2 and 'Traceback' not in result.stderr and 'size mismatch' not in result.stderr
    assert 'another width' in result.stderr


def test_an_unknown_device(trained, tiny, sample_data, run_tool):  # noqa: F811
    image = sample_data / 'JPEGImages/000001.jpg'
    result = run_tool('infer.py', image, tiny, trained / 'iter_6.pth', '--device', 'foo', check=False)
    assert result.returncode == 2 and '--device foo cannot be used here' in result.stderr


def test_a_classifier_is_no_detector(trained, sample_data, tmp_path, run_tool):  # noqa: F811
    image, config = sample_data / 'JPEGImages/000001.jpg', ROOT / 'configs/pretrain/ean_mobilenext_cifar10.py'
    result = run_tool('infer.py', image, config, trained / 'iter_6.pth', '--out-dir', tmp_path, check=False)
    assert result.returncode == 2 and 'the model of the config, ImageClassifier, is no detector' in result.stderr


@pytest.mark.parametrize('name', ['empty'])
def test_a_folder_without_images_is_named(name, trained, tiny, tmp_path, run_tool):  # noqa: F811
    (tmp_path / name).mkdir()
    result = run_tool('infer.py', tmp_path / name, tiny, trained / 'iter_6.pth', check=False)
    assert result.returncode == 2 and 'holds no image' in result.stderr
