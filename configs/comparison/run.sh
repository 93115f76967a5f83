#!/usr/bin/env bash
# Train the runs of the comparison, those that are done left out and those that were stopped resumed.
#   configs/comparison/run.sh LIST [JOBS]
# LIST holds a run a line: its work dir below work_dirs/comparison, the config below configs/comparison, and overrides
# for --cfg-options. JOBS runs (default 2) train at a time, a thread each.
set -euo pipefail
cd "$(dirname "$0")/../.."
list=$1

train() {
    read -r name config options <<<"$1"
    out=work_dirs/comparison/$name
    [ -f "$out/done" ] && return
    mkdir -p "$out"
    # shellcheck disable=SC2086
    if python -W ignore tools/train.py "configs/comparison/$config" --work-dir "$out" --resume \
        --cfg-options $options >>"$out/train.log" 2>&1; then
        touch "$out/done"
        echo "$(date +%T) $name: done"
    else
        echo "$(date +%T) $name: failed, see $out/train.log" >&2
    fi
}
export -f train
export OMP_NUM_THREADS=1
grep -v '^#' "$list" | tr '\n' '\0' | xargs -0 -P "${2:-2}" -I{} bash -c 'train "$1"' _ {}
