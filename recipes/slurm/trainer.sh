#!/usr/bin/env bash
# One node's part of the trainer; train.sbatch starts it on each of the trainer's nodes.
#   trainer.sh ACCELERATE_CONFIG NUM_NODES GPUS_PER_NODE MAIN_NODE [arguments of dapo_trl.train]
set -euo pipefail
config=$1 num_nodes=$2 gpus_per_node=$3 main_node=$4
shift 4

exec accelerate launch --config_file "$config" --num_machines "$num_nodes" \
    --num_processes $((num_nodes * gpus_per_node)) --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$main_node" --main_process_port "${MAIN_PORT:-29500}" \
    -m dapo_trl.train "$@"
