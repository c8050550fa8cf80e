# Environment of every rank, in one place, each line with its reason. Sourced by the scripts in this folder, read by framework/cmake/add_test.cmake.
# Open MPI refuses to run as root (containers) without these two.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Open MPI 4 removes its folder of this host and user where a run ends and no other is there, and a run that starts just then fails
# ("mkdir: File exists"). A folder that stays in it keeps it. To make it takes a second try where a run ends just then; where it cannot be
# made at all, Open MPI says why.
for _ in {1..20}; do
  if mkdir -p "${TMPDIR:-/tmp}/ompi.${HOSTNAME%%.*}.$UID/dovetail" 2>/dev/null; then break; fi
done
# Ranks that wait inside MPI give way to ranks that compute.
export OMPI_MCA_mpi_yield_when_idle=1
# Cross-memory attach is forbidden in many containers; shared-memory copies work everywhere. Open MPI 4, and 5.
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_smsc=^cma
# Idle OpenMP threads sleep instead of spinning: the cores belong to the ranks and to the comm workers.
export OMP_WAIT_POLICY=passive
# NVLink multicast (NVLS) belongs to the switches of the whole host: a virtual machine that holds only some of its GPUs must leave it alone.
export NCCL_NVLS_ENABLE=${NCCL_NVLS_ENABLE:-0}
# NCCL would register the buffers of captured collectives with peers. That has hung and read freed memory together with growing allocator
# segments, and a graph that dies must leave nothing registered behind.
export NCCL_GRAPH_REGISTER=${NCCL_GRAPH_REGISTER:-0}
# Libraries of a prefix that holds what the machine lacks (launch/check_gpus.sh).
if [ -n "${DOVETAIL_PREFIX:-}" ]; then
  export LD_LIBRARY_PATH=$DOVETAIL_PREFIX/lib/x86_64-linux-gnu:$DOVETAIL_PREFIX/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
