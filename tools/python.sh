# Sourced by the launchers: sets $python to the environment's interpreter. An activated environment comes first, then
# the one that tools/setup.sh made, then whatever python3 there is.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VIRTUAL_ENV:-${CONDA_PREFIX:-${EAN_VENV:-$root/.venv}}}
if [ -x "$venv/bin/python" ]; then
    python=$venv/bin/python
else
    python=$(command -v python3 || command -v python)
fi
