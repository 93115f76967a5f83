#!/usr/bin/env bash
# From nothing to a trained, evaluated and drawn EAN detector: set up where needed, draw the sample data set, write a
# config for it, train an EAN-MobileNeXt SSDLite, evaluate COCO mAP, show detections beside ground truth, and report.
#   bash tools/quickstart.sh
# Environment: that of tools/setup.sh. Everything is written to data/sample and work_dirs.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
bash "$root/tools/setup.sh"
cd "$root"
exec "${EAN_VENV:-$root/.venv}/bin/python" -W ignore tools/quickstart.py
