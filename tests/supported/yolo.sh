#!/usr/bin/env bash
# EAN in a YOLO: an environment of its own with ultralytics (AGPL, so never a dependency of this package), a nano YOLO
# trained from scratch on BCCD for some epochs, EAN attached, the same mAP, trained on, fused, exported and loaded again.
#   bash tests/supported/yolo.sh BCCD_FOLDER [EPOCHS]
# BCCD_FOLDER has JPEGImages, Annotations and ImageSets/Main. Environment: PYTHON, with PyTorch and this package installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
data=$(realpath "$1")
epochs=${2:-3}
venv=$PWD/.venv-yolo
python=${PYTHON:-$PWD/.venv/bin/python}
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv"
    # PyTorch and the rest of the other environment, seen from here
    "$python" -c 'import sysconfig, torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])' \
        > "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
    "$venv/bin/python" -m pip install -q --no-deps ultralytics ultralytics-thop polars polars-runtime-32 py-cpuinfo
fi
PYTHONPATH=$PWD exec "$venv/bin/python" -W ignore tests/supported/yolo.py "$data" --epochs "$epochs" --work-dir "$venv/run"
