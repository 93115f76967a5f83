#!/usr/bin/env bash
# Set up where needed, then run the tests, one process a core and at most four (-n0: in this one):
# bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bash "$root/tools/setup.sh" --test
cd "$root"
exec "${EAN_VENV:-$root/.venv}/bin/python" -m pytest -n logical --maxprocesses=4 --dist=worksteal "$@"
