"""What runs out is told as such, whoever noticed it, and nothing else is."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.errors import exhausted

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (MemoryError(), "ulimit -v"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v"),
        (ImportError("x.so: failed to map segment from shared object"), "ulimit -v"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
    ],
)
def test_what_has_run_out_is_named_with_its_cure(error: Exception, cure: str) -> None:
    fault = exhausted(error)
    assert fault is not None and cure in str(fault) and fault.exit_code == 2


@pytest.mark.parametrize(
    "error", [ImportError("no module"), OSError(errno.ENOENT, "x"), RuntimeError("x"), KeyError()]
)
def test_other_faults_are_not(error: Exception) -> None:
    assert exhausted(error) is None


@pytest.mark.parametrize(
    ("kind", "limit", "cure"),
    [(resource.RLIMIT_AS, 400_000_000, "ulimit -v"), (resource.RLIMIT_NOFILE, 6, "ulimit -n")],
)
def test_a_run_under_a_low_limit_says_which(
    kind: int, limit: int, cure: str, tiny_model: Path
) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "app", "run", "--headless", "--source", "pattern:?frames=5"),
            *("--model", str(tiny_model), "--engine", "cpu", "--http", "0"),
        ],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 2 and cure in run.stderr and "Traceback" not in run.stderr
