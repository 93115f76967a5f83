#!/usr/bin/env bash
# EAN in YOLOs: an environment of its own with ultralytics (AGPL, so never a dependency of this package). In v5, v8, v9,
# 11 and 12 with random weights EAN is attached, fused and exported; a nano YOLO11 is trained from scratch on BCCD (kept for
# the next time), gets EAN and has the same mAP, is trained on, fused, exported, loaded again and evaluated.
#   bash tests/supported/yolo.sh BCCD_FOLDER [EPOCHS]
# BCCD_FOLDER has JPEGImages, Annotations and ImageSets/Main. Environment: PYTHON, with PyTorch and this package installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
data=$(realpath "$1")
epochs=${2:-30}
venv=$PWD/.venv-yolo
python=${PYTHON:-$PWD/.venv/bin/python}
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv"
    # PyTorch and the rest of the other environment, seen from here
    "$python" -c 'import sysconfig, torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])' \
        > "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
    "$venv/bin/python" -m pip install -q --no-deps ultralytics ultralytics-thop polars polars-runtime-32 py-cpuinfo
fi
# settings beside the environment rather than at home, and nothing asked of the network
export YOLO_CONFIG_DIR=$venv YOLO_OFFLINE=True PYTHONPATH=$PWD
exec "$venv/bin/python" -W ignore tests/supported/yolo.py "$data" --epochs "$epochs" --work-dir "$venv/run"
