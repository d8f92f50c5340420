"""Who may import whom (one table), and that no module does work or pulls in Qt at import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
APP = ROOT / "app"

VALUES = {"frame", "detections", "letterbox", "model_spec", "errors"}
PURE = {
    *("interfaces", "handoff", "stats", "config", "overlay", "recognise", "display", "frame_pool"),
    *("accuracy", "cache", "credentials", "output_meter", "output_options"),
    *(
        "session_state",
        "catalogue",
        "ladder",
        "nvml",
        "thermal",
        "gather",
        "named_sources",
        "signals",
    ),
}
CORE = {"capture", "intake", "delivery", "loop", "pipeline"}
# leaves may import value types and pure modules, and themselves, never each other
LEAVES = {"sources", "backends", "sinks", "gui", "shelf", "gpu", "power", "service", "flight"}
# behind a window: it starts and ends pipelines, and is handed its leaves by the tools
ALLOWED: dict[str, set[str]] = {
    **dict.fromkeys(VALUES, VALUES),
    **dict.fromkeys(PURE, VALUES | PURE),
    **dict.fromkeys(CORE, VALUES | PURE | CORE),
    **dict.fromkeys(LEAVES, VALUES | PURE),
    "session": VALUES | PURE | CORE,
    "tools": VALUES | PURE | CORE | LEAVES | {"session"},
    "flags": PURE | {"tools"},  # the sub-commands of `models`
    "cli": VALUES | PURE | CORE | LEAVES | {"flags", "tools"},
    "__main__": {"cli"},
    "__init__": set(),
}
# the shelf reads a graph's shapes through the one function of the engine that gives them; the CUDA
# backend is made of the gpu's parts; ONNX Runtime has one door
NETWORK = ("engine", "graph", "lower")
EXCEPTIONS = {
    ("shelf/draft.py", "app.backends.graph_io"),
    ("gpu/network/graph.py", "app.backends.ort"),
    ("backends/ort_gpu.py", "app.gpu.context"),
    *(
        (f"backends/{file}.py", f"app.gpu.{name}")
        for file in ("cuda", "cuda_slot", "cuda_frame", "cuda_found", "cuda_fit")
        for name in (
            *("boxes", "context", "recording", "recordings", "strategy", "timeline"),
            *("kernel_files", "transfer"),
        )
    ),
    ("backends/cuda_engine.py", "app.gpu.context"),
    *(("backends/cuda_engine.py", f"app.gpu.network.{name}") for name in NETWORK),
}
THIRD_PARTY_HOMES = {
    "PyQt5": ("gui",),
    "pyqtgraph": ("gui",),
    "psutil": ("session",),
    "pynvml": ("nvml",),
    "onnxruntime": ("backends",),
    "openvino": ("backends",),
    "onnx": ("backends", "gpu/network/graph.py"),
    "pycocotools": ("accuracy.py",),
    "torch": (),
    "pycuda": ("gpu", "backends"),
    "tensorrt": ("backends",),
    "av": ("sinks", "sources"),
    "aiohttp": ("sinks",),
    "prometheus_client": ("sinks",),
    "paho": ("sinks",),
}
FILES = sorted(APP.rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(str(node.module))
    return names


def room(path: Path) -> str:
    """The package or module of ``app`` that a file belongs to."""
    return path.relative_to(APP).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(APP)))
def test_imports_keep_the_rule(path: Path) -> None:
    here, name = room(path), str(path.relative_to(APP))
    for module in imported(path):
        top, _, rest = module.partition(".")
        if top == "app" and rest and (name, module) not in EXCEPTIONS:
            there = rest.partition(".")[0]
            assert there == here or there in ALLOWED[here], f"{name} must not import {module}"
        if here in VALUES:
            assert top in {"app", "numpy"} or top in sys.stdlib_module_names, f"{name}: {module}"
        homes = THIRD_PARTY_HOMES.get(top)
        assert homes is None or here in homes or name in homes, f"{module} has no place in {name}"


def test_the_table_knows_every_room() -> None:
    assert {room(path) for path in FILES} <= set(ALLOWED)


def test_a_headless_run_imports_no_qt_and_starts_without_heavy_modules() -> None:
    code = (
        "import sys, app.cli, app.tools.run, app.tools.bench.run, app.pipeline\n"
        "heavy = {'PyQt5', 'onnxruntime', 'openvino', 'onnx', 'av', 'pycuda', 'pycocotools',"
        " 'aiohttp', 'paho', 'prometheus_client'}\n"
        "heavy |= {'pyqtgraph', 'psutil', 'pynvml'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
