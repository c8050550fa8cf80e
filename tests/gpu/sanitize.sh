#!/usr/bin/env bash
# Small shapes of the GPU tests under compute-sanitizer: memcheck (accesses out of bounds), and racecheck (races in shared memory) for kernels that use it.
#   tests/gpu/sanitize.sh BUILD
# Left out of racecheck: products of the library (nvjet), in which it reports hazards.
# A line for each; exit code 0 all clean, 1 something found or not run to its end, 77 nothing to run (no compute-sanitizer, or it refuses this device).
set -uo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source launch/env.sh
PATH=$PATH:/usr/local/cuda/bin
command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not there" >&2; exit 77; }
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
# The tool makes kernels 10 to 100 times slower.
export DOVETAIL_TEST_LIMIT_S=${DOVETAIL_TEST_LIMIT_S:-240} logs build

check() {
  local tool=$1 test=$2 filter=$3 name=$1-$2 begin=$SECONDS said found=1
  mpirun --oversubscribe --bind-to none -np 1 compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/bin/test_$test" --gtest_filter="$filter" >"$logs/$name" 2>&1
  local code=$?
  said=$(grep -oE '(ERROR|RACECHECK) SUMMARY: .*' "$logs/$name" | tail -n 1)
  # What ran nothing has found nothing.
  if [ $code -eq 0 ] && grep -qE 'SUMMARY: 0 (errors|hazards)' <<<"$said" && grep -q '\[       OK \]' < <(sed 's/\x1b\[[0-9;m]*//g' "$logs/$name"); then
    found=0
  fi
  echo "$tool $test: $([ $found -eq 0 ] && echo clean || echo "NOT CLEAN, exit code $code"), ${said:-no summary} ($((SECONDS - begin)) s)"
  [ $found -eq 0 ] || grep -vE '\[ RUN|\[       OK' "$logs/$name" | head -n 40
  return $found
}
export -f check

xargs -P "$(($(nproc) < 8 ? $(nproc) : 8))" -L 1 bash -c 'check "$0" "$@"' <<'TESTS'
memcheck layers_kernels *
memcheck layers_attention *
memcheck latent_attention_kernels *
memcheck qwen3_moe_gpu *
memcheck batch_invariant_gpu -*Products*
memcheck exchange_device *symmetric*BFloat16*:*gather*BFloat16*:*padded*BFloat16*:*copy_engine*BFloat16*
memcheck exchange_graph *symmetric*
memcheck exchange_symmetric_gpu -*NoWordIsWrong*
memcheck gpu_time_stamps *PushKernel*
memcheck gpu_row_hash *
memcheck gpu_kv_fill *
memcheck cuda_driver *
racecheck layers_kernels -Float32Router.Products*
racecheck latent_attention_kernels *Bits*
racecheck exchange_symmetric_gpu -*NoWordIsWrong*
racecheck gpu_row_hash *
TESTS
