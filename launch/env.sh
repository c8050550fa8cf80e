# Environment of every rank, in one place, each line with its reason. Sourced by the scripts in this folder.
# Open MPI refuses to run as root (containers) without these two.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Ranks that wait inside MPI give way to ranks that compute.
export OMPI_MCA_mpi_yield_when_idle=1
# Cross-memory attach is forbidden in many containers; shared-memory copies work everywhere.
export OMPI_MCA_btl_vader_single_copy_mechanism=none
# Idle OpenMP threads sleep instead of spinning: the cores belong to the ranks and to the comm workers.
export OMP_WAIT_POLICY=passive
