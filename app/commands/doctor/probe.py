"""Doctor: its findings, and the readers of the machine that tests replace.

A library that aborts, hangs or lacks a symbol must not end the doctor, so ``Probe.ask`` has
``answer`` run in a child. The questions import what they ask of, so their imports stand inside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version as installed_version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...core.package import child_command

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. An "error" prevents every run; a "warning" costs something."""

    level: Level
    what: str
    cure: str


@dataclass(slots=True)
class Section:
    """One subject: lines for people, ``facts`` for machines, and what is wrong.

    A subject is one function: it gathers the facts, says what it saw, and judges it.
    """

    name: str
    lines: Sequence[str]
    facts: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)

    def warn(self, what: str, cure: str) -> None:
        """It runs, but slower, with less, or not for long."""
        self.findings.append(Finding("warning", what, cure))

    def error(self, what: str, cure: str) -> None:
        """Nothing runs."""
        self.findings.append(Finding("error", what, cure))


TIMEOUT_S = 30.0  # the first import of a large library from a slow card


class Answer(NamedTuple):
    """What a command said; ``code``: negative for a signal, 127 where there is no such command."""

    code: int
    out: str
    err: str = ""


def run_command(words: Sequence[str]) -> Answer:
    """Run it, for ``TIMEOUT_S`` at most."""
    try:
        done = subprocess.run(
            list(words),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"no answer within {TIMEOUT_S:g} s")
    except OSError as fault:
        return Answer(127, "", str(fault.strerror))
    return Answer(done.returncode, done.stdout, done.stderr)


def package_version(name: str) -> str | None:
    """Of an installed distribution; None where it is not installed by pip (or not at all)."""
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None


def started_with() -> dict[str, str]:
    """The environment that the user gave us; OpenCV, once imported, has changed our own."""
    try:
        pairs = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)


@dataclass(frozen=True, slots=True)
class Probe:
    """Files below ``root``, commands, the environment and pip's packages."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=started_with)
    run: Callable[[Sequence[str]], Answer] = run_command
    which: Callable[[str], str | None] = shutil.which
    version: Callable[[str], str | None] = package_version
    may_use: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)

    def path(self, name: str) -> Path:
        """``name`` is absolute, as on the machine itself."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """The text of a file, None where it cannot be read."""
        try:
            return self.path(name).read_text("utf-8", errors="replace").strip("\0\n ")
        except OSError:
            return None

    def glob(self, pattern: str) -> list[str]:
        """Absolute names that match, sorted."""
        found = self.root.glob(pattern.lstrip("/"))
        return sorted(f"/{path.relative_to(self.root)}" for path in found)

    def first(self, names: Sequence[str]) -> str | None:
        """The first of the names that is there."""
        return next((name for name in names if self.path(name).exists()), None)

    def ask(self, question: str) -> tuple[dict[str, Any], str]:
        """The answer to one of QUESTIONS, given by a child; empty with the reason if none came."""
        answer = self.run(child_command("commands.doctor.probe:answer", question))
        lines = answer.out.strip().splitlines()
        if answer.code == 0 and lines:
            told: dict[str, Any] = json.loads(lines[-1])
            return told, ""
        said = answer.err.strip().splitlines()
        if answer.code < 0:
            return {}, f"ended by signal {-answer.code}" + (f": {said[-1]}" if said else "")
        return {}, said[-1] if said else f"exit code {answer.code}"


ELEMENTS = ("nvarguscamerasrc", "nvv4l2decoder", "nvvidconv", "v4l2h264dec", "rtspsrc", "appsink")


def ask_gpu() -> dict[str, Any]:
    """What the driver says through PyCUDA."""
    from ...core.errors import DeviceError
    from ...cuda.context import find_gpu

    try:
        gpu = find_gpu()
    except DeviceError as fault:
        return {"fault": str(fault)}
    return {"name": gpu.name, "capability": gpu.capability, "driver": gpu.driver}


def ask_tensorrt() -> dict[str, Any]:
    """The version of TensorRT's own bindings, or why --engine tensorrt cannot run."""
    from ...core.errors import DeviceError
    from ...cuda.tensorrt_build import load_tensorrt

    try:
        return {"version": str(load_tensorrt().__version__)}
    except DeviceError as fault:
        return {"fault": str(fault)}


def ask_onnxruntime() -> dict[str, Any]:
    """Version, providers, and for which CUDA it was built."""
    from ...models.onnx_session import load_onnxruntime

    ort = load_onnxruntime()
    providers = ort.get_available_providers()
    cuda = getattr(ort, "cuda_version", "")
    return {"version": ort.__version__, "providers": providers, "cuda": cuda}


def ask_opencv() -> dict[str, Any]:
    """Version, file, and what it says of GStreamer."""
    from ...sources.base import load_cv2

    cv2 = load_cv2()
    lines = [line.strip() for line in cv2.getBuildInformation().splitlines()]
    said = [line.split(":", 1)[1].strip() for line in lines if line.startswith("GStreamer:")]
    return {"version": cv2.__version__, "file": cv2.__file__, "gstreamer": (said or ["NO"])[0]}


def ask_gstreamer() -> dict[str, Any]:
    """Version, and which of the elements that matter are there, through PyGObject."""
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    found = [name for name in ELEMENTS if Gst.ElementFactory.find(name)]
    return {"version": Gst.version_string(), "elements": found}


def ask_window() -> dict[str, Any]:
    """Whether there is a display, and Qt to use it."""
    from ...core.errors import ConfigError
    from ...gui.window import prepare_qt, qt_version
    from ...ops.display import find_display
    from ...sources.base import load_cv2

    found, qt, fault = find_display(), None, ""
    with suppress(ImportError, ConfigError):
        load_cv2()  # first, as in a run: it is what steers Qt to plugins of its own
    try:
        qt = qt_version()
        if found.usable:
            prepare_qt()
    except (ImportError, ConfigError) as error:
        fault = str(error)
    return {"display": found.usable, "reason": found.reason, "qt": qt, "fault": fault}


QUESTIONS = {
    "gpu": ask_gpu,
    "tensorrt": ask_tensorrt,
    "onnxruntime": ask_onnxruntime,
    "opencv": ask_opencv,
    "gstreamer": ask_gstreamer,
    "window": ask_window,
}


def answer() -> int:
    """Print the answer to the question that the first argument names, as one line of JSON."""
    print(json.dumps(QUESTIONS[sys.argv[1]]()))
    return 0
