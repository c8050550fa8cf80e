#!/usr/bin/env bash
# Format and lint: clang-format and clang-tidy (version 14) over our sources; the lint needs the configured host build.
#   tests/check_style.sh format | tidy [PATHS...]   (both, over everything, without arguments)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check_format() { git ls-files -- '*.hpp' '*.cpp' | xargs clang-format --dry-run --Werror; }

check_tidy() {
  git ls-files -- "${@:-.}" | grep '\.cpp$' | xargs -P "$(nproc)" -n 1 clang-tidy -p build --quiet 2>/dev/null
}

case "${1:-all}" in
  format) check_format ;;
  tidy) shift; check_tidy "$@" ;;
  all) check_format && check_tidy ;;
  *) echo "usage: tests/check_style.sh [format | tidy [PATHS...]]" >&2; exit 2 ;;
esac
