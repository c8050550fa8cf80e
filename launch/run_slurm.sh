#!/usr/bin/env bash
# Runs dovetail under Slurm, one rank a GPU, or a CPU slot where the job has no GPUs:
#   DOVETAIL_BIN=build-cuda/bin/dovetail sbatch --nodes 1 --ntasks-per-node 4 --gpus-per-node 4 --cpus-per-task 8 launch/run_slurm.sh \
#     run experiments/gpu_prefill.yaml --set parallel.expert_parallel=4 --out results/prefill
# or the same within salloc. In a job array each job runs one point of a sweep, that of its number:
#   sbatch --array 0-11 ... launch/run_slurm.sh run experiments/sweep_tokens.yaml --out results/tokens
# A file that DOVETAIL_SITE names is read first: what a site needs, such as `module load`. DOVETAIL_SLURM_MPI is srun's --mpi (pmix).
# Prints the srun line before it runs. Without DOVETAIL_BIN it is build/bin/dovetail, for CPU ranks. README.md,
# "Clusters", tells more.
#SBATCH --job-name dovetail
#SBATCH --signal USR1@120
set -euo pipefail
# Slurm runs a copy of this file; the job begins in the folder of sbatch.
top=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
[ -f "$top/launch/env.sh" ] || { echo "start sbatch in the top folder of Dovetail; $top has no launch/env.sh" >&2; exit 2; }
source "$top/launch/env.sh"
[ $# -ge 1 ] || { echo "usage: sbatch [OPTIONS] launch/run_slurm.sh COMMAND..." >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || { echo "no Slurm job; start this with sbatch, or within salloc" >&2; exit 2; }
if [ -n "${DOVETAIL_SITE:-}" ]; then
  set +u # modules read variables that are not set
  source "$DOVETAIL_SITE"
  set -u
fi
dovetail=${DOVETAIL_BIN:-$top/build/bin/dovetail}
[ -x "$dovetail" ] || { echo "$dovetail is not there; build it first (launch/quickstart.sh does)" >&2; exit 2; }
# PMIx starts the ranks as mpirun would. A rank may use all CPUs of its task: its comm lane runs beside its compute. --kill-on-bad-exit: a
# failed rank has said what is wrong, the others need not wait for Slurm. Two minutes before its time is up, a job gets SIGUSR1 and ends
# after the iteration; a sweep goes on where it is started again with the same --out.
point=()
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ] && [ "$1" = run ]; then point=(--point "$SLURM_ARRAY_TASK_ID"); fi
# Since 22.05 srun asks anew for the CPUs of a task; it would take one.
cpus=()
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then cpus=(--cpus-per-task="$SLURM_CPUS_PER_TASK"); fi
command=(srun --mpi="${DOVETAIL_SLURM_MPI:-pmix}" --kill-on-bad-exit=1 --cpu-bind=none "${cpus[@]}" "$dovetail" "$@" "${point[@]}")
echo "+ ${command[*]}" >&2
exec "${command[@]}"
