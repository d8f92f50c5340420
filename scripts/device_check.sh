#!/usr/bin/env bash
# All that needs a real NVIDIA GPU, in one go: builds PyCUDA where it is missing, runs the GPU tests,
# measures every engine and precision beside its peers, writes one JSON and one table.
#
#   scripts/device_check.sh [OPTIONS OF scripts/device/__main__.py]
#
# KESTREL_SKIP_TESTS=1: only measure. KESTREL_PYTHON: the interpreter (default: .venv's, else python3); peers need its PyTorch.
# PIP_FIND_LINKS, PIP_NO_INDEX: where pip finds PyCUDA's source on a machine without network.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${KESTREL_PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
export PATH=$PATH:/usr/local/cuda/bin

nvidia-smi -L || { echo "device_check: no GPU: nvidia-smi does not answer" >&2; exit 5; }
if ! "$python" -c 'import pycuda.driver' 2>/dev/null; then
    echo "device_check: building PyCUDA" >&2
    # what the interpreter has is used to build with: no download of another setuptools or numpy
    conf=$(mktemp -d)
    echo "CUDA_ENABLE_CURAND = False" >"$conf/.aksetup-defaults.py" # its headers may be missing
    HOME=$conf "$python" -m pip install --quiet --no-build-isolation 'pycuda>=2025.1,<2027' ||
        HOME=$conf "$python" -m pip install --quiet 'pycuda>=2025.1,<2027' || exit 5
fi
results=${KESTREL_RESULTS:-scripts/results}
mkdir -p "$results"
tests="not run" status=0
if [ -z "${KESTREL_SKIP_TESTS:-}" ]; then
    log=$(mktemp)
    KESTREL_GPU=real "$python" -m pytest -q -m gpu tests/cuda -p no:cacheprovider | tee "$log"
    status=${PIPESTATUS[0]}
    tests=$(tail -n 1 "$log")
fi
"$python" -m scripts.device --results "$results" --tests "$tests" "$@" || exit $?
[ "$status" = 0 ] || { echo "device_check: GPU tests failed: $tests" >&2; exit 6; }
