#!/usr/bin/env bash
# Runs dovetail on this host: launch/run_local.sh RANKS ARGS...   e.g. launch/run_local.sh 2 run experiments/quickstart.yaml
# Prints the full command before it runs. DOVETAIL_BIN names another executable than build/bin/dovetail.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$top/launch/env.sh"
[ $# -ge 2 ] || { echo "usage: launch/run_local.sh RANKS COMMAND..." >&2; exit 2; }
ranks=$1
shift
dovetail=${DOVETAIL_BIN:-$top/build/bin/dovetail}
[ -x "$dovetail" ] || { echo "$dovetail is not there; build it first (launch/quickstart.sh does)" >&2; exit 2; }
# Ranks write to a pipe; this says that a person reads it.
if [ -t 2 ]; then export DOVETAIL_PROGRESS=1; fi
# A failing rank says what is wrong in one line; mpirun's own account of it adds nothing. Open MPI 5 has no such option.
quiet=(--quiet)
case $(mpirun --version 2>/dev/null | head -n 1) in *"(Open MPI) "[1-4].*) ;; *) quiet=() ;; esac
# Ranks may use all cores: a rank bound to one core could not overlap anything.
command=(mpirun "${quiet[@]}" --oversubscribe --bind-to none -np "$ranks" "$dovetail" "$@")
echo "+ ${command[*]}" >&2
exec "${command[@]}"
