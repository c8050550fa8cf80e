#!/usr/bin/env bash
# Looks for inputs that the readers of files do not take well: tests/fuzz.sh [TARGET [RUNS]], TARGET as in tests/fuzz/CMakeLists.txt, or `all`.
# rank_file is read in child processes, of which libFuzzer sees nothing: its inputs are those of build/bin/test_fuzz_rank_file, with another seed.
# Needs clang with libFuzzer (Debian: clang). An input that breaks a promise lies in build-fuzz/found/TARGET; `build/bin/test_fuzz_TARGET FILE`
# says what it breaks. Inputs that led to new code are kept in build-fuzz/corpus/TARGET for the next time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${1:-all}
runs=${2:-100000}
if [ "$target" = rank_file ]; then
  cmake --build build --target test_fuzz_rank_file | tail -n 1
  seed=${DOVETAIL_SEED:-$(date +%s)}
  echo "rank_file: $runs inputs, seed $seed"
  mkdir -p build-fuzz/found/rank_file && cd build-fuzz/found/rank_file # where an input that breaks a promise is written
  exec ../../../build/bin/test_fuzz_rank_file "$runs" "$seed"
fi
if ! command -v clang++ >/dev/null; then
  echo "tests/fuzz.sh needs clang++ with libFuzzer; Debian: apt-get install clang" >&2
  exit 2
fi

cmake -G Ninja -B build-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DDOVETAIL_FUZZ=ON \
  "-DDOVETAIL_SANITIZE=address;undefined" >/dev/null
if [ "$target" = all ]; then
  cmake --build build-fuzz -j "$(nproc)" --target fuzz_targets | tail -n 1
  targets=$(cd build-fuzz/bin && ls -d fuzz_*)
else
  cmake --build build-fuzz -j "$(nproc)" --target "fuzz_$target" | tail -n 1
  targets=fuzz_$target
fi

for program in $targets; do
  name=${program#fuzz_}
  mkdir -p "build-fuzz/corpus/$name" "build-fuzz/seeds/$name" "build-fuzz/found/$name"
  "build-fuzz/bin/$program" --write-seeds "build-fuzz/seeds/$name" "build-fuzz/seeds/$name.dict"
  echo "$name: $runs inputs"
  "build-fuzz/bin/$program" -runs="$runs" -timeout=10 -rss_limit_mb=2048 -dict="build-fuzz/seeds/$name.dict" -max_len=20000 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/found/$name/" "build-fuzz/corpus/$name" "build-fuzz/seeds/$name"
done
