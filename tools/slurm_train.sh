#!/usr/bin/env bash
# Train on a Slurm cluster.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
# Environment: GPUS (8), GPUS_PER_NODE (GPUS, at most 8), CPUS_PER_TASK (5), SRUN_ARGS, MASTER_PORT (29500; one a
# job on a shared node). GPUS_PER_NODE=0 runs GPUS processes on CPUs.
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
. "$here/python.sh"
. "$here/srun.sh"
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
run_on_slurm "$partition" "$job" "$here/train.py" "$config" --work-dir "$work_dir" --launcher slurm "$@"
