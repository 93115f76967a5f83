# Sourced by the launchers: sets $python to the environment's interpreter. An activated environment comes first, then
# the one that tools/setup.sh created, then whatever python3 there is.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VIRTUAL_ENV:-${CONDA_PREFIX:-${EAN_VENV:-$root/.venv}}}
if [ -x "$venv/bin/python" ]; then
    python=$venv/bin/python
else
    python=$(command -v python3 || command -v python)
fi

# check_port: end with a line where the port that this machine is to listen on is taken.
check_port() {
    [ "${NODE_RANK:-0}" = 0 ] || return 0
    "$python" -c 'import socket, sys; socket.create_server(("", int(sys.argv[1])))' "${PORT:-29500}" 2>/dev/null && return
    echo "error: port ${PORT:-29500} cannot be listened on; another run has it, perhaps. Set PORT to a free one" >&2
    exit 2
}
