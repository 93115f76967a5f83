import json

import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.test_tools.test_train_and_test import tiny, trained  # noqa: F401, fixtures


def test_folder_to_pictures_and_json(trained, tiny, sample_data, tmp_path, run_tool):  # noqa: F811
    images = tmp_path / 'images'
    (images / 'sub').mkdir(parents=True)
    for source, name in (('000001', 'a.jpg'), ('000002', 'sub/b.jpg')):
        (images / name).write_bytes((sample_data / f'JPEGImages/{source}.jpg').read_bytes())
    out = tmp_path / 'out'
    result = run_tool('infer.py', images, tiny, trained / 'iter_6.pth', '--out-dir', out, '--device', 'cpu')
    assert f'2 pictures are in {out}/vis' in result.stdout
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
    (images / 'bad.jpg').write_bytes(b'no image')
    arguments = [images, tiny, trained / 'iter_6.pth', '--out-dir', tmp_path / 'out', '--device', 'cpu']
    result = run_tool('infer.py', *arguments, check=False)
    assert result.returncode == 2 and '1 files could not be read as images' in result.stderr
    assert 'bad.jpg' in result.stderr
    assert (tmp_path / 'out/vis/good.jpg').is_file()


@pytest.mark.parametrize('name', ['empty'])
def test_a_folder_without_images_is_named(name, trained, tiny, tmp_path, run_tool):  # noqa: F811
    (tmp_path / name).mkdir()
    result = run_tool('infer.py', tmp_path / name, tiny, trained / 'iter_6.pth', check=False)
    assert result.returncode == 2 and 'holds no image' in result.stderr
