#!/usr/bin/env bash
# From a fresh clone to a verified result: sets up, builds, and runs experiments/quickstart.yaml on two CPU ranks, or, where there are GPUs
# and CUDA's compiler, experiments/gpu_quick.yaml on one or two GPUs. DOVETAIL_CUDA=0 leaves the GPUs alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ') || gpus=0
nvcc=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null) || nvcc=
if [ "$gpus" -gt 0 ] && [ -n "$nvcc" ] && [ "${DOVETAIL_CUDA:-1}" != 0 ]; then
  export DOVETAIL_CUDA=1
  source launch/setup.sh
  dovetail_build cuda dovetail
  ranks=$((gpus > 1 ? 2 : 1))
  export DOVETAIL_BIN=build-cuda/bin/dovetail
  exec launch/run_local.sh "$ranks" run experiments/gpu_quick.yaml --set parallel.expert_parallel=$ranks "$@"
fi
source launch/setup.sh
dovetail_build host dovetail
exec launch/run_local.sh 2 run experiments/quickstart.yaml "$@"
