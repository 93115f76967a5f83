"""Settings of all stock configs: which of them the check of settings tells of.

``python -m tests.stock_settings`` prints every message over our configs and MMDetection's; none should be false.
"""

from pathlib import Path

import mmdet
from mmengine.config import Config

from ean_mmdet.engine import settings
from ean_mmdet.errors import InputError
from tests.conftest import ROOT

STOCK = Path(mmdet.__path__[0], '.mim', 'configs')
# What MMDetection cannot build itself: a metric of another name, an argument that FPN doesn't take.
WRONG = {
    'bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot20train_test-mot20test.py': 'there is no MOTChallengeMetrics',
    'bytetrack/bytetrack_yolox_x_8xb4-amp-80e_crowdhuman-mot20train_test-mot20test.py': 'there is no MOTChallengeMetr',
    'v3det/fcos_swinb_fpn_8x4_sample1e-3_mstrain_v3det_2x.py': "FPN takes no argument 'force_grad_on_level'",
}


def config_files(folder: Path) -> list[Path]:
    """The configs in a folder that are whole."""
    return sorted(path for path in folder.rglob('*.py') if '_base_' not in path.parts)


def message(path: Path) -> str | None:
    """What the check says of a config; None: nothing, or it can't be read at all."""
    try:
        config = Config.fromfile(path)
    except (OSError, KeyError):  # four that name a base which MMDetection doesn't ship
        return None
    try:
        settings.check_settings(config, {}, config)
    except InputError as error:
        return str(error)
    return None


if __name__ == '__main__':
    files = config_files(STOCK) + config_files(ROOT / 'configs')
    found = {path: said for path in files if (said := message(path))}
    print(f'{len(files)} configs, {len(found)} with a message')
    for path, said in found.items():
        print(f'{path}: {said}')
