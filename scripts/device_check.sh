#!/usr/bin/env bash
# All that needs a real NVIDIA GPU, in one command of at most nine minutes, on a bare machine without network.
#
#   scripts/device_check.sh [--seconds 540] [--model NAME] [STAGE…]
#
# First, on a machine with network: scripts/device/fill_kit, which puts what is needed into device_kit/ of the
# checkout. Stages run in order of worth, each under its own time-out, and write what they find at once to the folder
# that KESTREL_RESULTS names (default: scripts/results): run it again, and stages that are done are not run again.
# KESTREL_PYTHON: the interpreter (default: .venv's, else python3); peers need its PyTorch.
# Exit code 5: no GPU or no PyCUDA; 6: a stage failed.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${KESTREL_PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
kit=$PWD/device_kit
# PyCUDA takes the toolkit of the first nvcc in PATH
for toolkit in "${CUDA_ROOT:-}" "${CUDA_HOME:-}" /usr/local/cuda; do
    [ -x "$toolkit/bin/nvcc" ] && export PATH="$toolkit/bin:$PATH" CUDA_ROOT="$toolkit" CUDA_HOME="$toolkit" && break
done

nvidia-smi -L || { echo "device_check: no GPU: nvidia-smi does not answer" >&2; exit 5; }
site=$kit/site-$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])') # compiled for one version
if [ -e "$site.tar.xz" ] && ! [ -d "$site" ]; then
    # in one go: a folder that was half unpacked has another name
    part=$(mktemp -d "$kit/part.XXXXXX")
    "$python" -c 'import shutil, sys; shutil.unpack_archive(*sys.argv[1:])' "$site.tar.xz" "$part" && mv "$part" "$site"
fi
if [ -d "$site" ]; then export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"; fi
if [ -d "$kit/assets" ]; then export KESTREL_ASSETS="$kit/assets" KESTREL_MODEL_MIRROR="$kit/assets/models"; fi
if [ -d "$kit/cubins" ]; then export KESTREL_CUBIN_CACHE=${KESTREL_CUBIN_CACHE:-$kit/cubins}; fi
if ! [ -d "$site" ] && ! "$python" -c 'import pycuda.driver' 2>/dev/null; then
    echo "device_check: building PyCUDA, as device_kit/ has none" >&2
    conf=$(mktemp -d)
    echo "CUDA_ENABLE_CURAND = False" >"$conf/.aksetup-defaults.py" # its headers may be missing
    HOME=$conf "$python" -m pip install --quiet 'pycuda>=2025.1,<2027' || exit 5
fi
exec "$python" -m scripts.device "$@"
