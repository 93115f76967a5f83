from __future__ import annotations

import pytest

from ean_mmdet.datasets import CLASSES
from tests.test_own_data.exports import Picture, pictures_of_coco


@pytest.fixture(scope='session')
def classes() -> list[str]:
    return list(CLASSES)


@pytest.fixture(scope='session')
def train(sample_data) -> list[Picture]:
    return pictures_of_coco(sample_data / 'annotations/instances_train.json', sample_data / 'JPEGImages', 8)


@pytest.fixture(scope='session')
def val(sample_data) -> list[Picture]:
    return pictures_of_coco(sample_data / 'annotations/instances_val.json', sample_data / 'JPEGImages', 4)
