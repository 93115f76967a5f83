"""Pictures of images of one name in several folders, with others between that are none."""

import json
import shutil

import pytest

from tests.test_tools.test_train_and_test import tiny, trained  # noqa: F401, fixtures

pytestmark = pytest.mark.slow


@pytest.fixture
def images(tmp_path, sample_data):
    """Two images of one name, one that is none, and what macOS leaves."""
    for number, name in enumerate(('a/1.jpg', 'b/1.jpg'), 1):
        (tmp_path / 'images' / name).parent.mkdir(parents=True)
        shutil.copy(sample_data / f'JPEGImages/00000{number}.jpg', tmp_path / 'images' / name)
    (tmp_path / 'images/._1.jpg').write_bytes(b'attributes')
    (tmp_path / 'images/broken.jpg').write_bytes(b'no image')
    return tmp_path / 'images'


@pytest.mark.parametrize('tool', ['cam.py', 'attention_maps.py'])
def test_one_bad_image_is_told_and_the_others_are_done(tool, images, trained, tiny, tmp_path, run_tool):  # noqa: F811
    arguments = (images, tiny, trained / 'iter_6.pth', '--out-dir', tmp_path / 'out')
    if tool == 'attention_maps.py':
        arguments = (tiny, trained / 'iter_6.pth', '--images', images, '--out', tmp_path / 'out.png', '--batches', 1)
    result = run_tool(tool, *arguments, check=False)
    assert result.returncode == 2 and '1 of the 3 files named as images are left out' in result.stderr, result.stderr
    assert 'broken.jpg is no image' in result.stderr and 'Traceback' not in result.stderr
    pictures = sorted((tmp_path / 'out').rglob('*.png'))
    assert [str(path.relative_to(tmp_path / 'out')) for path in pictures] == ['a/1.png', 'b/1.png']


def test_a_tests_pictures_keep_their_folders(images, trained, tiny, sample_data, tmp_path, run_tool):  # noqa: F811
    file = tmp_path / 'annotations.json'
    content = json.loads((sample_data / 'annotations/instances_val.json').read_text())
    content['images'] = content['images'][:2]
    ids = [image['id'] for image in content['images']]
    content['annotations'] = [box for box in content['annotations'] if box['image_id'] in ids]
    for image, name in zip(content['images'], ('a/1.jpg', 'b/1.jpg')):
        image['file_name'] = name
    file.write_text(json.dumps(content))
    run_tool(
        'test.py', tiny, trained / 'iter_6.pth', '--work-dir', tmp_path / 'work', '--show-dir', 'drawn',
        '--cfg-options', f'test_dataloader.dataset.ann_file={file}', f'test_evaluator.ann_file={file}',
        f'test_dataloader.dataset.data_prefix.img={images}',
    )  # fmt: skip
    (folder,) = (tmp_path / 'work').glob('*/drawn')
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob('*.jpg')) == ['a/1.jpg', 'b/1.jpg']
