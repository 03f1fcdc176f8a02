#!/usr/bin/env bash
# One node's part of the vLLM server; train.sbatch starts it on each of the server's nodes.
#   server.sh COMMAND NUM_NODES FIRST_NODE COPIES_PER_NODE
# COMMAND is what `dapo-trl vllm-command` prints.
set -euo pipefail
command=$1 num_nodes=$2 first_node=$3 copies_per_node=$4

# https://docs.vllm.ai/en/latest/serving/data_parallel_deployment.html: only the first node answers requests.
options=()
if ((num_nodes > 1)); then
    options=(--data-parallel-size-local "$copies_per_node" --data-parallel-address "$first_node")
    options+=(--data-parallel-rpc-port "${SERVER_RPC_PORT:-13345}")
    if ((SLURM_NODEID > 0)); then
        options+=(--headless --data-parallel-start-rank $((SLURM_NODEID * copies_per_node)))
    fi
fi
eval "exec env $command ${options[*]}"
