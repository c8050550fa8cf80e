#!/usr/bin/env bash
# Prints what a report of a defect should say of the machine: host, topology, clocks, limits, MPI, GPUs, and the executable with its libraries.
#   launch/collect_environment.sh > environment.txt        once on a login node, and once in a job: srun -N1 -n1 launch/collect_environment.sh
# DOVETAIL_BIN names the executable (default build/bin/dovetail). What a machine lacks is said and left out. Every command has 10 s. Of the
# environment only variables that result files record are printed, none that could hold a secret.
set -uo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$top/launch/env.sh"
dovetail=${DOVETAIL_BIN:-$top/build/bin/dovetail}

section() { printf '\n== %s\n' "$1"; }

# show COMMAND...: its output, at most 200 lines.
show() {
  if ! command -v "$1" >/dev/null 2>&1; then echo "$1: not there"; return; fi
  printf '$ %s\n' "$*"
  local code=0
  timeout --kill-after=2 10 "$@" </dev/null 2>&1 | head -n 200 || code=$?
  [ "$code" -eq 0 ] || [ "$code" -eq 141 ] || echo "$1: exit code $code"
}

# files PATH...: first line of each that can be read.
files() {
  local path text
  for path in "$@"; do
    if [ -r "$path" ] && [ -f "$path" ] && text=$(timeout 2 head -c 400 "$path" 2>/dev/null | head -n 1 | tr -d '\0'); then echo "$path: $text"; fi
  done
}

echo "Dovetail environment, $(date -u +%Y-%m-%dT%H:%M:%SZ)"
section host
show uname -srm
files /etc/os-release /proc/version /proc/uptime /proc/loadavg
show lscpu
show numactl --hardware
show free -m
show df -hT "$top" "${TMPDIR:-/tmp}" /dev/shm

section clocks
files /sys/devices/system/clocksource/clocksource0/current_clocksource /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor \
  /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq
grep -m 4 'cpu MHz' /proc/cpuinfo

section limits
echo "soft"; ulimit -S -a
echo "hard"; ulimit -H -a
show nproc
files /proc/self/cgroup /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpuset.cpus.effective /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.current \
  /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory/memory.limit_in_bytes \
  /proc/sys/kernel/yama/ptrace_scope /proc/sys/vm/overcommit_memory
grep -E '^(Cpus_allowed_list|Mems_allowed_list):' /proc/self/status

section variables
# The lists of framework/record/run_info.cpp.
prefixes='OMP_|MKL_|NCCL_|CUDA_|DOVETAIL_'
secrets='TOKEN|JWT|KEY|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE|SESSION|CERT'
names=(LD_LIBRARY_PATH NVIDIA_VISIBLE_DEVICES UCX_TLS UCX_NET_DEVICES
  SLURM_JOB_ID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_JOB_NUM_NODES SLURM_NNODES SLURM_NODEID SLURM_NTASKS SLURM_NTASKS_PER_NODE
  SLURM_STEP_ID SLURM_STEP_NUM_TASKS SLURM_PROCID SLURM_LOCALID SLURM_CPUS_PER_TASK SLURM_CPUS_ON_NODE SLURM_CPU_BIND SLURM_MEM_PER_NODE
  SLURM_GPUS_ON_NODE SLURM_GPUS_PER_NODE SLURM_GPUS_PER_TASK SLURM_JOB_PARTITION SLURM_MPI_TYPE
  PMIX_RANK PMI_RANK PMI_SIZE OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_LOCAL_SIZE
  OMPI_MCA_mpi_yield_when_idle OMPI_MCA_btl OMPI_MCA_pml OMPI_MCA_btl_vader_single_copy_mechanism OMPI_MCA_smsc
  OMPI_MCA_hwloc_base_binding_policy)
for name in $(compgen -e | LC_ALL=C sort); do
  if [[ ! $name =~ $secrets ]] && { [[ $name =~ ^($prefixes) ]] || [[ " ${names[*]} " == *" $name "* ]]; }; then
    printf '%s=%s\n' "$name" "${!name}"
  fi
done

section mpi
show mpirun --version
show ompi_info --parsable --path prefix
show srun --version
show srun --mpi=list
show ibstat -s

section gpus
show nvidia-smi --query-gpu=index,name,driver_version,vbios_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,persistence_mode,compute_mode,mig.mode.current,ecc.mode.current --format=csv
show nvidia-smi topo -m
show nvidia-smi nvlink --status
files /proc/driver/nvidia/version

section dovetail
if [ -x "$dovetail" ]; then
  show "$dovetail" info
  show ldd "$dovetail"
else
  echo "$dovetail is not there; DOVETAIL_BIN names another one"
fi
if [ -e "$top/.git" ]; then show git -C "$top" log -1 --format=%H; fi
exit 0
