#!/usr/bin/env bash
# Set up where needed, then run the tests: bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bash "$root/tools/setup.sh" --test
cd "$root"
exec "${EAN_VENV:-$root/.venv}/bin/python" -m pytest "$@"
