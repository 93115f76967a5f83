"""Finding images as people have them, and places for what is drawn of them."""

from pathlib import Path

import pytest

from ean_mmdet.errors import InputError
from ean_mmdet.files import claim, find_images, has_mark, left_out, picture_names, read_text


def test_hidden_files_are_passed_over(tmp_path):
    for name in ('b.JPG', 'a/1.png', '._b.jpg', '.thumbnails/b.png', '__MACOSX/b.jpg', '@eaDir/b.jpg', 'Thumbs.db'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / 'a/1.png', tmp_path / 'b.JPG']
    # what is asked for by its name, and what is below a hidden folder, is taken
    assert find_images(tmp_path / '._b.jpg') == [tmp_path / '._b.jpg']
    assert find_images(tmp_path / '.thumbnails') == [tmp_path / '.thumbnails/b.png']


def test_no_two_pictures_have_one_place():
    names = ['a/1.jpg', 'b/1.jpg', 'c.jpg', 'c.png', 'c.png.jpg', 'c.jpg.png', 'd.v1.2.jpg', 'd.v1.3.jpg', 'e.bmp']
    images = [Path('in', name) for name in names]
    places = picture_names(images, Path('in'))
    assert len(set(places.values())) == len(images)
    assert [str(places[Path('in', name)]) for name in ('a/1.jpg', 'b/1.jpg', 'c.png', 'd.v1.2.jpg', 'e.bmp')] == [
        'a/1.jpg', 'b/1.jpg', 'c.png.jpg', 'd.v1.2.jpg', 'e.jpg',
    ]  # fmt: skip


def test_what_is_left_out_is_named():
    left_out([], 3)
    with pytest.raises(InputError, match='1 of the 3 files named as images are left out: x is empty'):
        left_out(['x is empty'], 3)


def test_a_folder_with_the_results_of_other_inputs(tmp_path):
    default, images = tmp_path / 'outputs', tmp_path / 'images'
    assert claim(None, default, images=images, checkpoint='a.pth') == default
    assert claim(None, default, images=images, checkpoint='b.pth') == tmp_path / 'outputs-2'
    assert claim(None, default, images=[images], checkpoint='b.pth') == tmp_path / 'outputs-3'
    # the same inputs write over their own
    assert claim(None, default, images=images, checkpoint='b.pth') == tmp_path / 'outputs-2'
    assert claim(default, default, images=images, checkpoint='a.pth') == default
    with pytest.raises(InputError, match=f'{default} holds the results of checkpoint a.pth, which would be written'):
        claim(default, default, images=images, checkpoint='b.pth')
    # a folder that no tool wrote
    (tmp_path / 'mine').mkdir()
    assert claim(tmp_path / 'mine', default, images=images) == tmp_path / 'mine'


def test_a_file_with_the_results_of_other_inputs(tmp_path):
    default = tmp_path / 'runs_model.groups.png'
    default.touch()  # whoever's
    second = tmp_path / 'runs_model.groups-2.png'
    assert claim(None, default, runs=['a']) == second
    second.touch()
    assert claim(None, default, runs=['a']) == second
    assert claim(None, default, runs=['a', 'b']) == tmp_path / 'runs_model.groups-3.png'
    assert claim(default, default, runs=['b']) == default  # asked for by its name


def test_texts_are_read_as_utf8_and_others_refused_by_name(tmp_path):
    path = tmp_path / 'classes.txt'
    for encoding, mark in (('utf-8', False), ('utf-8-sig', True)):
        path.write_bytes('红细胞'.encode(encoding))
        assert (read_text(path), has_mark(path)) == ('红细胞', mark)
    for encoding in ('gbk', 'utf-16'):
        path.write_bytes('红细胞'.encode(encoding))
        with pytest.raises(InputError, match=r'classes\.txt is not in UTF-8 .*save it as UTF-8'):
            read_text(path)
    with pytest.raises(InputError, match='cannot be read'):
        read_text(tmp_path)
