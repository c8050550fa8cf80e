#!/usr/bin/env bash
# Changes one line of the code at a time (tests/mutations.txt), builds, and runs the tests that should notice; prints who did.
# tests/mutate.sh [NAME...] [--list] [--gpu] [--compile] works on a copy in build-mutate, never on your files. Not part of the tests: the whole list takes half an hour.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh
exec python3 -B tests/mutate.py "$@"
