#!/usr/bin/env bash
# From a fresh clone to a verified result: sets up, builds, and runs experiments/quickstart.yaml on two CPU ranks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
dovetail_build host dovetail
exec launch/run_local.sh 2 run experiments/quickstart.yaml "$@"
