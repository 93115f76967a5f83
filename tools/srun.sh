# Sourced by the Slurm launchers: run_on_slurm PARTITION JOB_NAME SCRIPT [ARGUMENT…] runs one task a GPU.
run_on_slurm() {
    local partition=$1 job=$2 gpus=${GPUS:-8} resources=()
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    shift 2
    if [ "$per_node" -gt 0 ]; then
        resources=(--gres="gpu:$per_node" --ntasks-per-node="$per_node")
    fi
    # SRUN_ARGS is split into words on purpose.
    # shellcheck disable=SC2086
    exec srun -p "$partition" --job-name="$job" --ntasks="$gpus" --cpus-per-task="${CPUS_PER_TASK:-5}" \
        ${resources[@]+"${resources[@]}"} --kill-on-bad-exit=1 ${SRUN_ARGS:-} "$python" -u "$@"
}
