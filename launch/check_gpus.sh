#!/usr/bin/env bash
# Checks Dovetail on a machine with GPUs, without network, and prints a short table last:
#   launch/check_gpus.sh [STAGE...]      build, test, matrix and bench without arguments; all: every stage
#     build    configures the preset cuda, builds dovetail and the GPU tests
#     test     ctest -L gpu without the matrix
#     matrix   the verification matrix on GPUs (tests/gpu/*_test.py)
#     bench    gpu_decode, gpu_prefill and gpu_scaling of experiments on 1, 2 and 4 GPUs, as many as there are, and dovetail bench graph, exchange
#   and, of which each takes minutes (BUDGET_S):
#     exchange   dovetail bench exchange on 1 to 8192 tokens a rank, wide and narrow rows
#     partition  dovetail bench partition: contention by SMs, soft and hard
#     attention  dovetail bench attention
#     wide       experiments/gpu_wide_moe.yaml
#     deepseek   experiments/gpu_deepseek.yaml in prefill and decode, and DeepSeek-V2-Lite whole
#     long       10^5 exchanges with random routing, uneven ranks and an idle one
#     sanitize   small shapes under compute-sanitizer
# With figures the last table says of each aim what was seen and whether it is met (launch/gpu_aims.py); an aim that is missed is no failure.
# A failed stage does not stop the next one. Exit code: 0 all well, 1 something failed.
# Without GPUs tests show as skipped and nothing is measured.
#   BUILD             build folder (default /tmp/dovetail-build)
#   OUT               where logs, figures and records go (default results/check_gpus-<UTC time>)
#   RUNS              where the runs themselves go, some GB of outputs (default BUILD/runs)
#   BUDGET_S          seconds for all stages together (default 520); a stage may use its share of what is left
#   DOVETAIL_TORCH    site-packages/torch of torch 2.11.0+cu130 (default: that of python3, else the one of launch/setup.sh)
#   DOVETAIL_PREFIX   the usr folder of a prefix with yaml-cpp, CLI11 and nlohmann-json, where the machine has none
#   GPUS              use only so many
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/env.sh
build=${BUILD:-/tmp/dovetail-build}
out=${OUT:-results/check_gpus-$(date -u +%Y%m%dT%H%M%SZ)}
runs=${RUNS:-$build/runs}
end=$((SECONDS + ${BUDGET_S:-520}))
python=$(command -v python3) || { echo "python3 is missing" >&2; exit 2; }
stages=("$@")
declare -A weight=([build]=4 [test]=3 [matrix]=4 [bench]=3 [exchange]=3 [partition]=2 [attention]=1 [wide]=2 [deepseek]=4 [long]=2 [sanitize]=2)
[ $# -gt 0 ] || stages=(build test matrix bench)
[ "$*" != all ] || stages=(build test matrix bench exchange partition attention wide deepseek long sanitize)
for stage in "${stages[@]}"; do
  [ -n "${weight[$stage]:-}" ] || { sed -n '2,/^#   BUILD/{/^#   BUILD/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
done
[ -z "${GPUS:-}" ] || export DOVETAIL_GPUS=$GPUS
mkdir -p "$out" "$runs" || exit 2
out=$(cd "$out" && pwd)
measured=()
declare -A result=() seconds=() detail=()

# Runs a command until the stage's time is over; what it prints goes to the stage's log.
limited() {
  local left=$((stage_end - SECONDS))
  [ $left -gt 0 ] || { echo "not started, the stage's time is over: $*" >>"$log"; return 124; }
  echo "+ $*" >>"$log"
  timeout --kill-after=10 "$left" "$@" >>"$log" 2>&1
}

num_gpus() {
  local found
  found=$("$build/bin/dovetail" info --format json 2>/dev/null |
    "$python" -c 'import json, sys; print(sum(name.startswith("cuda:") for name in json.load(sys.stdin)["devices"]))' 2>/dev/null)
  found=${found:-0}
  echo $((found > ${GPUS:-64} ? ${GPUS:-64} : found))
}

stage_build() {
  local settings=() torch=${DOVETAIL_TORCH:-}
  [ -n "$torch" ] || torch=$("$python" -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("torch").origin))' 2>/dev/null)
  [ -z "$torch" ] || settings+=("-DDOVETAIL_TORCH=$torch")
  if "$python" -c 'import h5py' 2>/dev/null; then settings+=("-DDOVETAIL_PYTHON=$python"); fi
  limited cmake --preset cuda -B "$build" ${settings[@]+"${settings[@]}"} && limited cmake --build "$build" -j "$(nproc)" --target dovetail gpu_tests -- -k 0
  local code=$?
  detail[build]="$(grep -c '^\[[0-9]*/[0-9]*\]' "$log") steps$([ $code -eq 0 ] || echo "; $(grep -m1 -E 'error:|Error|FAILED' "$log" | cut -c1-80)")"
  return $code
}

# ctest_stage STAGE ARGUMENTS...: counts tests by their outcome, names the failed ones, and lets the stage fail with them.
ctest_stage() {
  local stage=$1 code failed
  shift
  limited ctest --test-dir "$build" --output-on-failure --no-tests=error "$@"
  code=$?
  failed=$(sed -nE 's/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: ([^ ]+) .*\*\*\*(Failed|Timeout|Exception|Not Run).*/\1/p' "$log" | sort -u | tr '\n' ' ')
  detail[$stage]="$(grep -cE '^ *[0-9]+/[0-9]+ Test .* Passed ' "$log") passed, $(grep -cE '^ *[0-9]+/[0-9]+ Test .*\*\*\*Skipped' "$log") skipped${failed:+; failed: $failed}"
  return $code
}

stage_test() {
  local left_out=matrix gpus
  gpus=$(num_gpus)
  # Tests of more ranks than GPUs would start ranks only to skip.
  [ "$gpus" -eq 0 ] || [ "$gpus" -ge 4 ] || left_out+="|np4"
  [ "$gpus" -ne 1 ] || left_out+="|np2"
  ctest_stage test -L '^gpu$' -LE "$left_out" -j "$(nproc)" # those that need the GPUs for themselves say so
}

stage_matrix() { ctest_stage matrix -L '^matrix$' -j 3; } # half of their time ranks start and end

# measure NAME RANKS ARGUMENTS...: one run of an experiment, into $runs/NAME.
measure() {
  local name=$1 ranks=$2 begin=$SECONDS code
  shift 2
  rm -rf "${runs:?}/$name"
  measured+=("$runs/$name")
  limited launch/run_local.sh "$ranks" run "$@" --out "$runs/$name"
  code=$?
  num_runs=$((num_runs + 1))
  [ $code -eq 0 ] || failed+="$name (exit code $code) "
  echo "$name: exit code $code, $((SECONDS - begin)) s" >>"$log"
  "$build/bin/dovetail" compare "$runs/$name" --format json >"$out/compare-${name%-np*}.json" 2>>"$log" || rm -f "$out/compare-${name%-np*}.json"
}

# on_gpus STAGE FEWEST FUNCTION: with $gpus, $most (1, 2 or 4), $failed and $num_runs; skipped where there are fewer GPUs.
on_gpus() {
  local stage=$1 fewest=$2 gpus most failed="" num_runs=0
  gpus=$(num_gpus)
  if [ "$gpus" -lt "$fewest" ]; then detail[$stage]="$gpus GPUs, $fewest are needed"; return 77; fi
  export DOVETAIL_BIN=$build/bin/dovetail
  most=$((gpus >= 4 ? 4 : gpus >= 2 ? 2 : 1))
  "$3"
  detail[$stage]="$num_runs measured on up to $most GPUs${failed:+; failed: $failed}"
  [ -z "$failed" ]
}

# json_of NAME RANKS ARGUMENTS...: what dovetail prints, into $out/NAME.json.
json_of() {
  local name=$1 ranks=$2 left=$((stage_end - SECONDS)) code
  shift 2
  num_runs=$((num_runs + 1))
  [ $left -gt 0 ] || { failed+="$name (no time) "; return; }
  echo "+ $* --format json" >>"$log"
  timeout --kill-after=10 "$left" launch/run_local.sh "$ranks" "$@" --format json >"$out/$name.part" 2>>"$log"
  code=$?
  if [ $code -eq 0 ]; then mv "$out/$name.part" "$out/$name.json"; else failed+="$name (exit code $code) "; fi
}

# passed NAME FIRST-PART CODE: a small JSON object in $out/NAME.json.
passed() { echo "{$2\"passed\": $([ "$3" -eq 0 ] && echo true || echo false)}" >"$out/$1.json"; }

measure_exchange() {
  local options=(bench exchange --device cuda --routings balanced)
  json_of exchange-wide "$most" "${options[@]}" --tokens 1,32,128,512,2048,4096,8192 --comm-sms 4,8,16
  json_of exchange-narrow "$most" "${options[@]}" --tokens 128 --hidden 2048 --experts 128 --comm-sms 4,8,16
}
stage_exchange() { on_gpus exchange 2 measure_exchange; }

measure_partition() { json_of partition "$((most < 2 ? most : 2))" bench partition; }
stage_partition() { on_gpus partition 2 measure_partition; }

measure_attention() { json_of attention 1 bench attention; }
stage_attention() { on_gpus attention 1 measure_attention; }

measure_wide() { measure "gpu_wide_moe-np$most" "$most" experiments/gpu_wide_moe.yaml --set parallel.expert_parallel="$most"; }
stage_wide() { on_gpus wide 2 measure_wide; }

measure_deepseek() {
  local decode='workload={phase: decode, requests: {count: 128, context_length: 4096}, context: random, seed: 17}'
  measure "gpu_deepseek-np$most" "$most" experiments/gpu_deepseek.yaml --set parallel.expert_parallel="$most"
  measure "gpu_deepseek_decode-np$most" "$most" experiments/gpu_deepseek.yaml --set parallel.expert_parallel="$most" --set "$decode"
  measure gpu_deepseek_v2_lite-np1 1 experiments/gpu_deepseek.yaml --set model.architecture=deepseek_v2 \
    --set model.config=models/configs/deepseek-v2-lite.json --set model.layers=all --set parallel.expert_parallel=1
}
stage_deepseek() { on_gpus deepseek 2 measure_deepseek; }

run_long() {
  num_runs=1
  DOVETAIL_BIN=$build/bin/test_exchange_symmetric_gpu DOVETAIL_LONG_TESTS=1 DOVETAIL_TEST_LIMIT_S=1800 \
    limited launch/run_local.sh "$most" --gtest_filter='*NoWordIsWrongInManyExchanges*'
  local code=$?
  [ $code -eq 0 ] || failed+="10^5 exchanges (exit code $code) "
  passed long '"exchanges": 100000, ' $code
}
stage_long() { on_gpus long 2 run_long; }

run_sanitizer() {
  num_runs=1
  limited tests/gpu/sanitize.sh "$build"
  local code=$?
  [ $code -ne 77 ] || { failed+="there is no compute-sanitizer that works here "; return; }
  [ $code -eq 0 ] || failed+="compute-sanitizer (exit code $code) "
  passed sanitize "" $code
}
stage_sanitize() { on_gpus sanitize 1 run_sanitizer; }

measure_bench() {
  local ranks
  limited launch/run_local.sh 1 bench graph || failed+="bench graph "
  # Of DeepSeek-V3's width, then of a narrower model.
  [ "$most" -lt 2 ] || {
    limited launch/run_local.sh "$most" bench exchange --device cuda --tokens 128,4096 --comm-sms 4,8,16 || failed+="bench exchange "
    limited launch/run_local.sh "$most" bench exchange --device cuda --tokens 128 --hidden 2048 --experts 128 || failed+="bench exchange "
    limited launch/run_local.sh "$most" bench exchange --device cuda --exchanges symmetric --tokens 128,4096 --groups 1,2,4 || failed+="bench exchange "
  }
  measure "gpu_decode-np$most" "$most" experiments/gpu_decode.yaml --set parallel.expert_parallel="$most"
  measure "gpu_prefill-np$most" "$most" experiments/gpu_prefill.yaml --set parallel.expert_parallel="$most"
  for ranks in 1 2 4; do
    [ "$ranks" -gt "$gpus" ] || measure "gpu_scaling-np$ranks" "$ranks" experiments/gpu_scaling.yaml --set parallel.expert_parallel="$ranks"
  done
}
stage_bench() { on_gpus bench 1 measure_bench; }

# The small files of all runs, without the outputs, as one archive.
pack_records() {
  local files
  files=$(cd "$runs" && find . \( -name '*.json' -o -name '*.yaml' \) -size -8M 2>/dev/null)
  [ -z "$files" ] || (cd "$runs" && tar czf "$out/records.tar.gz" $files)
}

status=0
for ((i = 0; i < ${#stages[@]}; i++)); do
  stage=${stages[i]}
  log=$out/$stage.log
  : >"$log"
  total=0
  for other in "${stages[@]:i}"; do total=$((total + ${weight[$other]})); done
  begin=$SECONDS
  left=$((end - SECONDS))
  stage_end=$((SECONDS + (left > 0 ? left * ${weight[$stage]} / total : 0)))
  "stage_$stage"
  code=$?
  seconds[$stage]=$((SECONDS - begin))
  case $code in
    0) result[$stage]=ok ;;
    77) result[$stage]=skipped ;;
    *) result[$stage]=FAILED status=1 ;;
  esac
  [ $code -ne 0 ] && [ $code -ne 77 ] && { echo "--- end of $log"; tail -15 "$log"; }
done

if [ ${#measured[@]} -gt 0 ]; then
  "$python" launch/gpu_figures.py --bin "$build/bin/dovetail" "${measured[@]}" >"$out/figures.txt" 2>&1 || { status=1; echo "launch/gpu_figures.py failed"; }
  cat "$out/figures.txt"
  pack_records
fi
if compgen -G "$out/*.json" >/dev/null; then
  "$python" launch/gpu_aims.py "$out" >"$out/aims.txt" 2>&1 || { status=1; echo "launch/gpu_aims.py failed"; }
  echo
  cat "$out/aims.txt"
fi
echo
printf '%-9s %-8s %5s  %s\n' stage result s detail
for stage in "${stages[@]}"; do
  printf '%-9s %-8s %5s  %s\n' "$stage" "${result[$stage]}" "${seconds[$stage]}" "${detail[$stage]:-}"
done
echo "logs: $out"
exit $status
