#!/usr/bin/env bash
# Checks Dovetail on a machine with GPUs, without network, and prints a short table last:
#   launch/check_gpus.sh [build] [test] [matrix] [bench]      all four without arguments
#     build    configures the preset cuda, builds dovetail and the GPU tests
#     test     ctest -L gpu without the matrix
#     matrix   the verification matrix on GPUs (tests/gpu/*_test.py)
#     bench    experiments/gpu_*.yaml on 1, 2 and 4 GPUs, as many as there are, and dovetail bench graph, exchange
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
[ $# -gt 0 ] || stages=(build test matrix bench)
for stage in "${stages[@]}"; do
  case $stage in build | test | matrix | bench) ;; *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
done
[ -z "${GPUS:-}" ] || export DOVETAIL_GPUS=$GPUS
mkdir -p "$out" "$runs" || exit 2
out=$(cd "$out" && pwd)
measured=()
declare -A weight=([build]=4 [test]=3 [matrix]=4 [bench]=3) result=() seconds=() detail=()

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
}

stage_bench() {
  local gpus most ranks failed="" num_runs=0
  gpus=$(num_gpus)
  if [ "$gpus" -eq 0 ]; then detail[bench]="no GPU"; return 77; fi
  export DOVETAIL_BIN=$build/bin/dovetail
  most=$((gpus >= 4 ? 4 : gpus >= 2 ? 2 : 1))
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
  detail[bench]="$num_runs runs on up to $most GPUs${failed:+; failed: $failed}"
  [ -z "$failed" ]
}

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
echo
printf '%-8s %-8s %5s  %s\n' stage result s detail
for stage in "${stages[@]}"; do
  printf '%-8s %-8s %5s  %s\n' "$stage" "${result[$stage]}" "${seconds[$stage]}" "${detail[$stage]:-}"
done
echo "logs: $out"
exit $status
