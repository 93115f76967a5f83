"""Where ``mmcv._ext`` comes from: ours where mmcv has none compiled, whatever is imported first."""

import inspect
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mmcv
import pytest

from ean_mmdet import mmcv_ops
from tests.conftest import ROOT

CODE = """
import sys
import mmcv.ops, mmengine.utils.dl_utils
extension = sys.modules['mmcv._ext']
print(extension.__file__, mmengine.utils.dl_utils.mmcv_full_available(), 'ean_mmdet' in sys.modules)
"""


def lite(folder: Path) -> Path:
    """mmcv as mmcv-lite has it, without a compiled extension, and no more than what it stands on."""
    (folder / 'mmcv').mkdir()
    for part in Path(mmcv.__file__).parent.iterdir():
        if not part.name.startswith('_ext'):
            (folder / 'mmcv' / part.name).symlink_to(part)
    return folder


def run(code: str, *path: Path, **env: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, path)), **env}
    command = [sys.executable, '-W', 'ignore', '-c', code]
    return subprocess.run(command, env=environment, cwd='/', capture_output=True, text=True, timeout=300)


def installed(folder: Path) -> Path:
    """What pip leaves of the package's entry points; the package itself is the repository's."""
    (folder / 'ean_check-1.dist-info').mkdir()
    (folder / 'ean_check-1.dist-info/METADATA').write_text('Metadata-Version: 2.1\nName: ean_check\nVersion: 1\n')
    (folder / 'ean_check-1.dist-info/entry_points.txt').write_text(
        '[torch.backends]\nean_check = ean_mmdet_autoload:install\n'
    )
    return folder


def test_import_of_the_package_is_enough(tmp_path):
    result = run('import ean_mmdet' + CODE, lite(tmp_path), ROOT)
    # the last words: OneDL's fork prints some as it is imported
    assert result.stdout.split()[-3:] == [str(ROOT / 'ean_mmdet/mmcv_ops/__init__.py'), 'True', 'True'], result.stderr


@pytest.mark.slow
def test_installed_it_works_whatever_is_imported_first(tmp_path):
    """In a process that has never heard of the package, as MMDetection's own tools/test.py, and as on Python 3.14."""
    result = run(
        'import pkgutil; vars(pkgutil).pop("find_loader", None)' + CODE, lite(tmp_path), installed(tmp_path), ROOT
    )
    assert result.stdout.split() == [str(ROOT / 'ean_mmdet/mmcv_ops/__init__.py'), 'True', 'False'], result.stderr


def test_the_entry_point_is_declared():
    lines = (ROOT / 'pyproject.toml').read_text()
    assert 'py-modules = ["ean_mmdet_autoload"]' in lines
    assert '[project.entry-points."torch.backends"]\nean_mmdet = "ean_mmdet_autoload:install"' in lines


def test_a_compiled_extension_is_not_shadowed(tmp_path):
    folder = lite(tmp_path)
    (folder / 'mmcv/_ext.py').touch()  # stands for a compiled one
    code = 'import torch, importlib.util as util, sys; print(sys.meta_path[-1], util.find_spec("mmcv._ext").origin)'
    result = run(code, folder, installed(tmp_path), ROOT)
    assert 'MMCVFinder' in result.stdout and result.stdout.split()[-1] == str(folder / 'mmcv/_ext.py'), result.stderr


def test_what_is_not_supplied_says_so_when_it_is_called():
    with pytest.raises(
        NotImplementedError, match=r'mmcv\.ops: convex_iou needs a compiled mmcv.*EAN_MMCV=build'
    ) as error:
        mmcv_ops.convex_iou(1, ious=2)
    assert '\n' not in str(error.value) and mmcv.__version__ in str(error.value)
    assert not hasattr(mmcv_ops, '__wrapped__')


def test_what_is_supplied_is_what_mmcv_asks_for():
    asked = set()
    for path in (Path(mmcv.__file__).parent / 'ops').glob('*.py'):
        asked.update(word for word in mmcv_ops.__all__ if f'ext_module.{word}(' in path.read_text())
    assert asked == set(mmcv_ops.__all__)
    assert all(inspect.isfunction(getattr(mmcv_ops, name)) for name in mmcv_ops.__all__)


def test_versions_are_told():
    assert 'torchvision ' + metadata.version('torchvision').split('+')[0] in mmcv_ops.get_compiler_version()
    assert mmcv_ops.get_compiling_cuda_version() == 'not available'
