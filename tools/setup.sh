#!/usr/bin/env bash
# Find a Python for tools/setup.py, and run it: bash tools/setup.sh [--test | --help]
# Environment: PYTHON, the Python to use (default: the newest of 3.10 to 3.14 on the PATH), and that of tools/setup.py.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
supported='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))'
for python in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3.10 python3 python}; do
    "$python" -c "$supported" >/dev/null 2>&1 && exec "$python" "$root/tools/setup.py" "$@"
done
echo "error: this needs Python 3.10 to 3.14${PYTHON:+, and PYTHON=$PYTHON is none}. Install one (Debian, Ubuntu: \
apt-get install python3.11 python3.11-venv; conda: conda create -n ean python=3.11) and run again with \
PYTHON=python3.11." >&2
exit 1
