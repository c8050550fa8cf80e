#!/usr/bin/env bash
# Format and lint: clang-format and clang-tidy (version 14) over our sources; the lint needs the configured host build.
#   tests/check_style.sh format | tidy [PATHS...] | quick-tidy [PATHS...]   (format and tidy of everything without arguments)
# PATHS are files and folders; `headers` stands for all headers of the host build at once, also of tests. Kernels (.cu) need a CUDA toolkit's
# headers and are left out where there are none. quick-tidy leaves out the static analyzer, which takes more than half of the time, and joins
# the sources of a folder into one, which leaves a third of the rest; where it finds something there, it checks these sources one by one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export dovetail_cuda_headers=${CUDA_HOME:-/usr/local/cuda}/include
# The host build as it would be if each source were compiled for itself.
database=build/lint/database
all_headers=$database/tests/boundaries/header_checks/together.cpp

check_format() { git ls-files -- '*.hpp' '*.cpp' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror; }

# lint_file CHECKS FILE. Kernels multiply indices in 32 bits on purpose; performance-unnecessary-value-param takes longer in a kernel file
# than all other checks together.
lint_file() {
  if [[ $2 != *.cu ]]; then
    clang-tidy -p "$database" --quiet "--checks=$1" "$2"
  else
    clang-tidy --quiet "--checks=$1,-performance-unnecessary-value-param,-bugprone-implicit-widening-of-multiplication-result" "$2" -- -x cuda --cuda-host-only -nocudainc -nocudalib --cuda-path=/none \
      -Wno-unknown-cuda-version -std=c++20 -I. -isystem "$dovetail_cuda_headers" -include stdlib.h -include tests/support/cuda_language.cuh
  fi 2>/dev/null
}
export -f lint_file
export database

# lint_batch CHECKS JOINED SOURCES...: the joined source, which may clash within itself only; then its SOURCES alone have the word, which
# takes far longer.
lint_batch() {
  local checks=$1 joined=$2 failed=0 source
  shift 2
  clang-tidy -p build/lint --quiet "--checks=$checks" '--header-filter=(framework|models|tests|launch)/.*\.(hpp|cuh|cpp)$' "$joined" >"$joined.log" 2>&1 && return
  for source in "$@"; do lint_file "$checks" "$source" || failed=1; done
  [ $failed -ne 0 ] || echo "joined, these sources clash: $(grep -m 1 -E '(error|warning):' "$joined.log" || tail -n 1 "$joined.log")" >&2
  return $failed
}
export -f lint_batch

# files_to_lint [PATHS...]: what the host build compiles of them, and their kernels.
files_to_lint() {
  local paths=() path
  for path in "${@:-.}"; do
    case $path in headers) ;; *) paths+=("$path") ;; esac
    case $path in headers | .) echo "$all_headers" ;; esac
  done
  [ -e "$dovetail_cuda_headers/cuda_runtime_api.h" ] || echo "no CUDA headers in $dovetail_cuda_headers: kernels are not linted" >&2
  [ ${#paths[@]} -eq 0 ] || git ls-files -- "${paths[@]}" | while read -r path; do
    case $path in
      *.cu) [ ! -e "$dovetail_cuda_headers/cuda_runtime_api.h" ] || echo "$path" ;;
      *.cpp) ! grep -qF "\"file\": \"$PWD/$path\"" "$database/compile_commands.json" || echo "$path" ;;
    esac
  done
}

# check_tidy CHECKS [PATHS...]: CHECKS are added to those of .clang-tidy.
check_tidy() {
  local checks=$1
  shift
  files_to_lint "$@" | xargs -P "$(nproc)" -I '{}' bash -c 'lint_file "$1" "$2"' lint_file "$checks" '{}'
}

# check_tidy_quickly CHECKS [PATHS...]: the same, with joined sources.
check_tidy_quickly() {
  local checks=$1 failed=0 files
  shift
  files=$(files_to_lint "$@")
  rm -f build/lint/*.*
  sed -n "/^build/d; s|.*[.]cpp$|$PWD/&|p" <<<"$files" | python3 tests/lint_batches.py "$PWD/$database/compile_commands.json" "$PWD/build/lint" |
    xargs -r -P "$(nproc)" -L 1 bash -c 'lint_batch "$@"' lint_batch "$checks" || failed=1
  sed -n '/^build/p; /[.]cu$/p' <<<"$files" | xargs -P "$(nproc)" -I '{}' bash -c 'lint_file "$1" "$2"' lint_file "$checks" '{}' || failed=1
  return $failed
}

make_database() {
  local torch
  torch=$(sed -n 's/^DOVETAIL_TORCH:PATH=//p' build/CMakeCache.txt) || { echo "tests/check_style.sh needs the host build: tests/run.sh" >&2; exit 2; }
  mkdir -p build/lint
  cmake --preset host -B "$database" -DDOVETAIL_JOIN_SOURCES=OFF "-DDOVETAIL_TORCH=$torch" >build/lint/configure.log 2>&1 ||
    { cat build/lint/configure.log >&2; exit 2; }
}

mode=${1:-all}
[ $# -eq 0 ] || shift
case "$mode" in
  format) check_format ;;
  tidy) make_database && check_tidy '' "$@" ;;
  quick-tidy) make_database && check_tidy_quickly '-clang-analyzer-*' "$@" ;;
  all) check_format && make_database && check_tidy '' ;;
  *) echo "usage: tests/check_style.sh [format | tidy [PATHS...] | quick-tidy [PATHS...]]" >&2; exit 2 ;;
esac
