#!/usr/bin/env bash
# Copy the logs of the runs of a comparison that are done, training's scalars and the test's, to here.
#     bash docs/results/transfer/collect.sh KIND WORK_DIR
# KIND is the first part of the names, WORK_DIR that of tools/compare.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for run in "$2"/*/seed*/; do
    name=$(basename "$(dirname "$run")") seed=$(basename "$run")
    training=$(ls "$run"2*/vis_data/2*.json | tail -n 1)
    tested=$(find "$run" -path "*/2*/2*.json" -not -path "*vis_data*" | sort | tail -n 1)
    [ -n "$tested" ] || continue
    case $name in none) name=plain ;; *) name=$(cut -d_ -f1 <<<"$name" | tr '[:upper:]' '[:lower:]') ;; esac
    (cat "$training" && sed 's/^{/{"step": 300, /' "$tested") >"$here/$1_${name}_$seed.json"
done
