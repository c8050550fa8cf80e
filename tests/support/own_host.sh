#!/bin/sh
# own_host.sh COMMAND: runs it; with DOVETAIL_SHARE_GPU=1 a rank of mpirun that is told another host's name than the other ranks. Ranks of different
# hosts may have the same GPU, so a machine with one shows what takes several; NCCL then moves rows through sockets.
if [ -n "${DOVETAIL_SHARE_GPU:-}" ] && [ -n "${OMPI_COMM_WORLD_RANK:-}" ]; then
  export DOVETAIL_TEST_HOST="host-$OMPI_COMM_WORLD_RANK" NCCL_HOSTID="host-$OMPI_COMM_WORLD_RANK" LD_PRELOAD="$DOVETAIL_HOST_NAME"
  export NCCL_NET=Socket NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1
fi
exec "$@"
