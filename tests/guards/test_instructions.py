"""How many instructions preprocessing takes, counted by callgrind: the same on a busy machine.

The part of the hot path that is neither Python nor the network: its resize, split and table. The
network's own instructions are ONNX Runtime's matter, and take a minute to count. Counting begins
after the first frames: the start of the process is neither counted nor slowed down by it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIDE = 320
FRAMES = 40
# Measured: 13.49 with OpenCV 5.0 and the AVX2 that valgrind knows, alike in every run. To copy the
# tensor once, the cheapest pass there is, takes 4 more.
MOST_PER_VALUE = 17.0
COUNTER = """
#include <valgrind/callgrind.h>
extern "C" void start() { CALLGRIND_START_INSTRUMENTATION; }
extern "C" void stop() { CALLGRIND_STOP_INSTRUMENTATION; }
"""
PROGRAM = """
import ctypes
import sys
import cv2
import numpy as np
from app.inference.preprocess import CpuPreprocessor
from app.core.frame import Frame
from app.models.manifest import InputSpec

cv2.setNumThreads(1)
frame = Frame(np.full((432, 768, 3), 7, np.uint8), 0, 0)
tensor = np.empty((1, 3, {side}, {side}), np.float32)
preprocess = CpuPreprocessor(InputSpec(({side}, {side})))
counter = ctypes.CDLL(sys.argv[1])
for n in range({frames} + 5):
    if n == 5:
        counter.start()
    preprocess(frame, tensor)
counter.stop()
"""


def per_value(folder: Path) -> float:
    """Instructions for each value of the tensor."""
    source, library = folder / "counter.cpp", folder / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, source], check=True)
    done = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *("--instr-atstart=no", sys.executable, "-c"),
            *(PROGRAM.format(side=SIDE, frames=FRAMES), str(library)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1]) / FRAMES / (3 * SIDE * SIDE)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_preprocessing_takes_no_more_instructions_a_value_than_it_did(tmp_path: Path) -> None:
    taken = per_value(tmp_path)
    assert 1 < taken < MOST_PER_VALUE, f"{taken:.1f} instructions for each value of the tensor"
