#!/usr/bin/env bash
# Sets up what a build needs and is silent about what is already there: Debian packages, and LibTorch from the torch wheel in a cached
# virtual environment. Sourced by quickstart.sh and tests/run.sh; exports DOVETAIL_TORCH. Run alone it only sets up.
#   DOVETAIL_TORCH   a torch package folder (site-packages/torch) that is already there: nothing is downloaded
#   DOVETAIL_CUDA=1  also what the preset cuda needs: the wheel's CUDA libraries (2.7 GB unpacked, in the same environment); nvcc must be there
#   DOVETAIL_PREFIX  a folder with yaml-cpp, CLI11 and nlohmann-json: no packages are installed
#   dovetail_more_packages   array of further Debian packages, set before this is sourced
#   XDG_CACHE_HOME   where the virtual environment lies (default ~/.cache), in dovetail/venv
set -euo pipefail

dovetail_packages=(g++ cmake ninja-build git python3-venv libopenmpi-dev openmpi-bin libhdf5-dev hdf5-tools libyaml-cpp-dev
  libcli11-dev nlohmann-json3-dev libgtest-dev python3-h5py)
dovetail_torch_version=2.11.0
dovetail_torch_build=$dovetail_torch_version+cu130
# The wheel without its dependencies, and the two CUDA libraries that its CPU part loads.
dovetail_wheels=(torch==$dovetail_torch_version nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
# What else its GPU part loads, and NCCL's header: as the wheel pins them.
dovetail_cuda_wheels=("cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]==13.0.2"
  nvidia-cudnn-cu13==9.19.0.56 nvidia-cusparselt-cu13==0.8.0 nvidia-nccl-cu13==2.28.9 nvidia-nvshmem-cu13==3.4.5)

dovetail_say() { printf 'setup: %s\n' "$*" >&2; }
dovetail_die() { dovetail_say "$*"; exit 2; }

dovetail_as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    dovetail_die "these Debian packages are missing and need root to install: ${missing[*]}"
  fi
}

dovetail_setup_packages() {
  local package missing=() log
  command -v dpkg-query >/dev/null || return 0 # another distribution: CMake names what it does not find
  [ -z "${DOVETAIL_PREFIX:-}" ] || return 0    # a machine without network or root: CMake looks into the prefix
  for package in "${dovetail_packages[@]}" ${dovetail_more_packages[@]+"${dovetail_more_packages[@]}"}; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  dovetail_say "installing Debian packages: ${missing[*]}"
  log=$(mktemp)
  if ! { dovetail_as_root apt-get update -q && dovetail_as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    dovetail_die "apt-get failed; its whole output is in $log"
  fi
  rm -f "$log"
}

dovetail_torch_is_right() { grep -qsF "'$dovetail_torch_build'" "$1/version.py"; }

dovetail_find_torch() {
  local folder
  for folder in "$1"/lib/python3*/site-packages/torch; do
    if dovetail_torch_is_right "$folder"; then echo "$folder"; fi
  done
}

dovetail_setup_torch() {
  if [ -n "${DOVETAIL_TORCH:-}" ]; then
    dovetail_torch_is_right "$DOVETAIL_TORCH" || dovetail_die "DOVETAIL_TORCH=$DOVETAIL_TORCH is not torch $dovetail_torch_build (its version.py says so)"
    return 0
  fi
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/dovetail
  local venv=$cache/venv
  DOVETAIL_TORCH=$(dovetail_find_torch "$venv")
  if [ -z "$DOVETAIL_TORCH" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock" # one set-up at a time; a second one finds the work done
    flock 9
    DOVETAIL_TORCH=$(dovetail_find_torch "$venv")
    if [ -z "$DOVETAIL_TORCH" ]; then
      dovetail_say "downloading LibTorch: the torch $dovetail_torch_version wheel and two CUDA libraries, 545 MB, 1.3 GB unpacked in $venv"
      rm -rf "$venv"
      python3 -m venv "$venv"
      "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps "${dovetail_wheels[@]}" ||
        dovetail_die "pip could not install ${dovetail_wheels[*]}"
      DOVETAIL_TORCH=$(dovetail_find_torch "$venv")
      [ -n "$DOVETAIL_TORCH" ] || dovetail_die "the installed torch is not $dovetail_torch_build: $(cat "$venv"/lib/python3*/site-packages/torch/version.py | grep -m1 __version__)"
    fi
    exec 9>&-
  fi
  export DOVETAIL_TORCH
}

dovetail_setup_cuda() {
  local nvcc python
  nvcc=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null) ||
    dovetail_die "DOVETAIL_CUDA needs nvcc of CUDA 13.0, which this script does not install: put it on the PATH, or its folder into CUDA_HOME"
  "$nvcc" --version | grep -q 'release 13\.' || dovetail_die "$nvcc is not of CUDA 13: $("$nvcc" --version | grep release)"
  # All that the wheel's GPU part loads is there once NCCL and cuDNN are: they come in one transaction.
  if [ -e "$DOVETAIL_TORCH/../nvidia/nccl/include/nccl.h" ] && [ -e "$DOVETAIL_TORCH/../nvidia/cudnn/lib/libcudnn.so.9" ]; then return 0; fi
  python=$(cd "$DOVETAIL_TORCH/../../../.." && pwd)/bin/python
  [ -x "$python" ] || dovetail_die "the CUDA libraries of $DOVETAIL_TORCH are missing, and $python is not there to install them"
  dovetail_say "downloading the CUDA libraries of torch $dovetail_torch_version, 2.7 GB unpacked"
  "$python" -m pip install -q --disable-pip-version-check "${dovetail_cuda_wheels[@]}" ||
    dovetail_die "pip could not install ${dovetail_cuda_wheels[*]}"
}

dovetail_setup_packages
dovetail_setup_torch
if [ "${DOVETAIL_CUDA:-0}" != 0 ]; then dovetail_setup_cuda; fi

# Configures a preset and builds targets (all without any); quiet unless it fails or takes a while.
dovetail_build() {
  local preset=$1 log
  shift
  log=$(mktemp)
  cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; dovetail_die "configuring the preset '$preset' failed"; }
  rm -f "$log"
  cmake --build --preset "$preset" ${1:+--target "$@"}
}
