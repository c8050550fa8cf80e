#!/usr/bin/env bash
# Links the whole program with -Werror=odr: the compiler compares all definitions of each type and function. 4 minutes of two cores, so not
# in .ci/run, where tests/boundaries/check_names.py and a source that includes all headers stand for it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
dovetail_build odr dovetail
echo "no two definitions differ"
