import pickle

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS
from mmpretrain.datasets import CIFAR10

from ean_mmdet.datasets import cifar
from ean_mmdet.errors import InputError

CLASSES = CIFAR10.METAINFO['classes']


def image(seed):
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two images per class and split, in RGB, without loss."""
    for split, offset in (('train', 0), ('test', 100)):
        for label, name in enumerate(CLASSES):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                path = tmp_path / split / name / f'{number}.png'
                cv2.imwrite(str(path), image(offset + 2 * label + number)[..., ::-1])
    return tmp_path


def build(root, split='train', type='CIFAR10FolderOrBinary'):
    return DATASETS.build(dict(type=type, data_root=str(root), split=split, pipeline=[]))


def test_a_folder_of_images_per_class(folder):
    for split, offset in (('train', 0), ('test', 100)):
        dataset = build(folder, split)
        assert len(dataset) == 20 and tuple(dataset.metainfo['classes']) == CLASSES
        for index, sample in enumerate(dataset):
            assert sample['gt_label'] == index // 2
            np.testing.assert_array_equal(sample['img'], image(offset + index))


@pytest.fixture
def binaries(tmp_path, monkeypatch):
    """The layout of the original files, with two images each; only their checksums are other ones."""
    root = tmp_path / 'cifar-10-batches-py'
    root.mkdir()
    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    for number, name in enumerate(names):
        flat = np.stack([image(2 * number + i).transpose(2, 0, 1).reshape(-1) for i in range(2)])
        (root / name).write_bytes(pickle.dumps(dict(data=flat, labels=[number, number + 1])))
    (root / 'batches.meta').write_bytes(pickle.dumps(dict(label_names=list(CLASSES))))
    for key, files in (('train_list', names[:-1]), ('test_list', names[-1:])):
        monkeypatch.setattr(cifar.CIFAR10FolderOrBinary, key, [[name, None] for name in files])
    return tmp_path


def test_the_original_binaries(binaries):
    dataset = build(binaries)
    assert len(dataset) == 10 and len(build(binaries, 'test')) == 2
    for index, sample in enumerate(dataset):
        np.testing.assert_array_equal(sample['img'], image(index))
    assert [sample['gt_label'] for sample in dataset][:4] == [0, 1, 1, 2]


def test_nothing_there(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise cifar.URLError('no network')

    monkeypatch.setattr('mmpretrain.datasets.cifar.download_and_extract_archive', offline)
    with pytest.raises(
        InputError, match=r'no CIFAR-10 in .*neither .*train/airplane/.*cifar-10-batches-py.*no network'
    ):
        build(tmp_path)
    with pytest.raises(InputError, match='no CIFAR-100 in'):
        build(tmp_path, type='CIFAR100FolderOrBinary')


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda root: (root / 'train/bird').rename(root / 'train/brid'), 'missing: bird; unknown: brid'),
        (lambda root: [path.unlink() for path in (root / 'train/cat').iterdir()], r'train/cat holds no image'),
        (lambda root: (root / 'train/dog/0.png').write_bytes(b'no image'), r'dog/0.png cannot be read'),
        (lambda root: (root / 'train/dog/1.png').write_bytes(b''), r'dog/1.png cannot be read'),
        (
            lambda root: cv2.imwrite(str(root / 'train/dog/0.png'), np.zeros((20, 40, 3), np.uint8)),
            r'dog/0.png is 40 × 20; CIFAR images are 32 × 32',
        ),
    ],
)
def test_bad_folders_are_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(InputError, match=message):
        build(folder)


def test_all_of_the_real_test_images(shared_data, tmp_path):
    import tarfile

    with tarfile.open(shared_data / 'cifar10_jpeg.tar.gz') as archive:
        members = [member for member in archive if member.name.startswith('test/')]
        archive.extractall(tmp_path, members, filter='data')
    dataset = build(tmp_path, 'test')
    labels = [sample['gt_label'] for sample in dataset]
    assert np.bincount(labels).tolist() == [1000] * 10
    mean = np.stack([dataset[i]['img'] for i in range(0, 10_000, 20)]).mean((0, 1, 2))
    # the mean that the configs subtract, in RGB: blue is the darkest
    np.testing.assert_allclose(mean, [125.3, 123.0, 113.9], atol=3)
