#!/usr/bin/env bash
# Make the environment: .venv/ in the repository root (or $EAN_VENV) with everything in requirements.txt and this
# package, editable, its kernels for CPUs compiled. Done at once where it is up to date.
#   bash tools/setup.sh
# Environment:
#   EAN_VENV         where the environment goes (default: .venv)
#   EAN_CACHE        where the built mmcv wheel is kept (default: ~/.cache/ean_mmdet)
#   EAN_MMCV_WHEEL   an mmcv wheel of your own for this Python and PyTorch, instead of building one
#   PYTHON           the Python to use, 3.10 to 3.12 (default: the newest of these on the PATH)
#   MAX_JOBS         files compiled at a time (default: one a core)
# pip's own variables (PIP_INDEX_URL, …) are honoured.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${EAN_VENV:-$root/.venv}
needed_gib=9

say() { printf '%s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

state=$(cd "$root" && echo "$root" | cat - requirements.txt requirements-no-deps.txt pyproject.toml setup.py ean_mmdet/ops/csrc/* tools/build_mmcv.py | cksum)
if [ "$(cat "$venv/.ean_mmdet" 2>/dev/null)" = "$state" ]; then
    say "The environment in $venv is up to date."
    exit 0
fi

supported='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'
if [ -x "$venv/bin/python" ]; then
    "$venv/bin/python" -c "$supported" || fail "$venv has Python $("$venv/bin/python" -V 2>&1 | cut -d' ' -f2); \
this needs 3.10, 3.11 or 3.12. Remove that folder and run again with PYTHON=python3.11, say."
else
    for python in ${PYTHON:-python3.12 python3.11 python3.10 python3 python}; do
        command -v "$python" >/dev/null && "$python" -c "$supported" 2>/dev/null && break
        python=
    done
    [ -n "$python" ] || fail "this needs Python 3.10, 3.11 or 3.12${PYTHON:+, and PYTHON=$PYTHON is none}. Newer ones \
cannot build mmcv 2.1.0. Install one (Debian, Ubuntu: apt-get install python3.11 python3.11-venv; conda: conda create \
-n ean python=3.11) and run again with PYTHON=python3.11."
    mkdir -p "$(dirname "$venv")"
    free_gib=$(($(df -Pk "$(dirname "$venv")" | awk 'NR == 2 {print $4}') / 1048576))
    [ "$free_gib" -ge "$needed_gib" ] || fail "$(dirname "$venv") has $free_gib GiB free and this needs $needed_gib \
(PyTorch with CUDA alone takes 5). Make room, or set EAN_VENV to a folder on another disk."
    say "[1/4] Making an environment with $("$python" -V) in $venv"
    "$python" -m venv "$venv" || fail "could not make an environment. Debian, Ubuntu: apt-get install python3-venv"
fi

# Progress bars for a person; only warnings and errors in a log.
quiet=-q
[ -t 2 ] && quiet=
pip_install() {
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip --disable-pip-version-check install $quiet "$@" ||
        fail "pip could not install the above. No network or a proxy in the way? Set PIP_INDEX_URL or PIP_PROXY to \
what reaches a Python package index, then run again: what is installed already stays."
}

cd "$root"
if [ ! -f "$venv/.ean_mmdet_torch" ] || [ "$(cat "$venv/.ean_mmdet_torch")" != "$(grep '^torch' requirements.txt)" ]; then
    say "[2/4] Installing PyTorch (3 GB to download)"
    # First, and with what mmcv's build needs: it builds against the PyTorch that is there.
    grep -E '^(torch|setuptools|wheel|ninja|psutil)' requirements.txt | pip_install -r /dev/stdin
    grep '^torch' requirements.txt >"$venv/.ean_mmdet_torch"
fi

if [ -n "${EAN_MMCV_WHEEL:-}" ]; then
    [ -f "$EAN_MMCV_WHEEL" ] || fail "EAN_MMCV_WHEEL=$EAN_MMCV_WHEEL is no file"
    say "[3/4] mmcv: taking $EAN_MMCV_WHEEL"
    mmcv=$EAN_MMCV_WHEEL
else
    version=$(sed -n 's/^mmcv==//p' requirements.txt)
    say "[3/4] mmcv $version, which has no wheel for this PyTorch"
    wheels=$("$venv/bin/python" -W ignore tools/build_mmcv.py --version "$version") || exit 1
    mmcv=$(echo "$wheels"/mmcv-"$version"-*.whl)
fi
# Its requirements come with the others.
pip_install --no-deps "$mmcv"

say "[4/4] Installing the OpenMMLab libraries and this package"
pip_install -r requirements.txt
pip_install --no-deps -r requirements-no-deps.txt
pip_install --no-deps --no-build-isolation -e .

"$venv/bin/python" -W ignore -c 'import mmcv.ops, mmdet, mmpretrain, ean_mmdet' || fail "the libraries are installed \
but do not import. If the mmcv wheel is of another PyTorch, remove it (${mmcv}) and run again."
echo "$state" >"$venv/.ean_mmdet"
say "The environment in $venv is ready: source $venv/bin/activate"
