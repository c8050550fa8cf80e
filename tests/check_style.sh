#!/usr/bin/env bash
# Format and lint: clang-format and clang-tidy (version 14) over our sources; the lint needs the configured host build.
#   tests/check_style.sh format | tidy [PATHS...] | quick-tidy [PATHS...]   (format and tidy of everything without arguments)
# quick-tidy leaves out the static analyzer, which takes more than half of the time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check_format() { git ls-files -- '*.hpp' '*.cpp' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror; }

# check_tidy CHECKS [PATHS...]: CHECKS are added to those of .clang-tidy. Files that the host build leaves out (GPU parts) are left out.
check_tidy() {
  local checks=$1
  shift
  git ls-files -- "${@:-.}" | grep '\.cpp$' | while read -r file; do
    ! grep -qF "\"file\": \"$PWD/$file\"" build/compile_commands.json || printf '%s\n' "$file"
  done | xargs -P "$(nproc)" -n 1 clang-tidy -p build --quiet "--checks=$checks" 2>/dev/null
}

mode=${1:-all}
[ $# -eq 0 ] || shift
case "$mode" in
  format) check_format ;;
  tidy) check_tidy '' "$@" ;;
  quick-tidy) check_tidy '-clang-analyzer-*' "$@" ;;
  all) check_format && check_tidy '' ;;
  *) echo "usage: tests/check_style.sh [format | tidy [PATHS...] | quick-tidy [PATHS...]]" >&2; exit 2 ;;
esac
