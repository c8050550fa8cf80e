#!/usr/bin/env bash
# Sets up, builds and tests. Arguments go to ctest, e.g. tests/run.sh -R exchange, tests/run.sh -L host
# Without arguments all tests but those with the label `long`; with DOVETAIL_LONG_TESTS=1 these, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
dovetail_more_packages=(python3-matplotlib python3-pandas python3-jinja2) # for the tests of pictures and reports
source launch/setup.sh
source launch/env.sh
dovetail_build host
[ $# -gt 0 ] || [ "${DOVETAIL_LONG_TESTS:-}" = 1 ] || set -- -LE '^long$'
# Tests of whole runs wait for a third of their time, while ranks start and end: so there are three of them on two cores.
exec ctest --test-dir build --output-on-failure -j $(($(nproc) * 3 / 2)) "$@"
