"""Which ONNX Runtime is there, with which providers?"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from app.backends.ort_providers import REINSTALL, WHEELS
from app.tools.doctor.finding import Finding, Section, error, only, warning
from app.tools.doctor.probe import Probe
from app.tools.engines import GPU_NODES

ASK = """
import json
from app.backends.ort import load_onnxruntime
ort = load_onnxruntime()
print(json.dumps({"version": ort.__version__, "providers": ort.get_available_providers(),
                  "cuda": getattr(ort, "cuda_version", "")}))
"""


@dataclass(frozen=True, slots=True)
class InferenceFacts:
    """``wheels``: name and version of those that are installed."""

    version: str | None
    providers: tuple[str, ...]
    built_for_cuda: str
    wheels: dict[str, str]
    fault: str
    gpu: bool


def gather(probe: Probe) -> InferenceFacts:
    """Load it in a child."""
    told, fault = probe.python(ASK)
    told = told or {}
    versions = {name: probe.version(name) for name in WHEELS}
    return InferenceFacts(
        version=told.get("version"),
        providers=tuple(told.get("providers", ())),
        built_for_cuda=str(told.get("cuda", "")),
        wheels={name: version for name, version in versions.items() if version},
        fault=fault,
        gpu=probe.first(GPU_NODES) is not None,
    )


def check_loads(facts: InferenceFacts) -> Finding | None:
    """Every engine but ``cuda`` is made of it, and the CPU's is what the others fall back to."""
    if facts.version is not None:
        return None
    if facts.wheels:
        return error(f"ONNX Runtime does not load: {facts.fault}", REINSTALL)
    return error("ONNX Runtime is not installed", "scripts/setup")


def check_both_wheels(facts: InferenceFacts) -> Finding | None:
    """They share files, and what is left after one is removed does not load."""
    if len(facts.wheels) < 2:
        return None
    cure = REINSTALL
    if not facts.gpu:
        cure = REINSTALL.replace("requirements-cuda.txt", "requirements-cpu.txt")
    return warning(f"{' and '.join(facts.wheels)} are both installed, and share files", cure)


def check_gpu_provider(facts: InferenceFacts) -> Finding | None:
    """A GPU that ONNX Runtime cannot use; --engine cuda does not need it."""
    if not facts.gpu or facts.version is None or "CUDAExecutionProvider" in facts.providers:
        return None
    return warning(
        "this ONNX Runtime has no CUDA provider: --engine ort-cuda and ort-tensorrt cannot run",
        f"{REINSTALL} (on a Jetson: NVIDIA's own wheel)",
    )


CHECKS = (check_loads, check_both_wheels, check_gpu_provider)


def look(probe: Probe) -> Section:
    """The subject."""
    facts = gather(probe)
    what = "does not load"
    if facts.version:
        cuda = f" (for CUDA {facts.built_for_cuda})" if facts.built_for_cuda else ""
        what = f"{facts.version}{cuda}, providers: {', '.join(facts.providers)}"
    return Section("ONNX Runtime", [what], asdict(facts), only(check(facts) for check in CHECKS))
