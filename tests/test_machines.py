"""Set-up, doctor and the choice of engines on machines made of files: Jetsons, desktops, a Pi.

Each is made up as far as these look: device files, cuda.h, what the driver and Python answer.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import partial
from getpass import getuser
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.commands.doctor import devices, host
from app.commands.doctor.probe import Answer
from app.config import Config
from app.cuda import context
from app.cuda.tensorrt import plan_cache
from app.models.store import default_model
from app.pipeline.handoff import Policy
from app.runtime import engines
from tests import fake_tensorrt
from tests.commands.doctor.made_up import MadeUp
from tests.test_setup import NODES, ROOT, Checkout, installed

README = ROOT / "README.md"
JETSON, DESKTOP = "/dev/nvhost-gpu", "/dev/nvidia0"
REQUIREMENTS = {
    "cpu": ["requirements-cpu.txt"],
    "native": ["requirements-cpu.txt", "requirements-pycuda.txt"],
    "cuda": ["requirements-cuda.txt"],
}


PIN, PINS = ("cuda-bindings<13",), ("cuda-bindings<13", "onnxruntime-gpu<1.27")


@dataclass(frozen=True)
class Machine:
    """``said``: of set-up's line; ``driver``, ``toolkit``: their CUDA versions, 0: none."""

    name: str
    variant: str
    said: str
    pins: tuple[str, ...] = ()
    node: str | None = None
    driver: int = 0
    toolkit: int = 0
    python: str = "3.11.2"
    arch: str = "x86_64"
    builds: bool = True  # g++ and Python.h are there
    tensorrt: bool = False  # its own bindings
    release: str = ""  # of a Jetson's system

    def __str__(self) -> str:
        return self.name


jetson = partial(Machine, arch="aarch64", tensorrt=True)
R35, R36 = ({"release": name, "python": "3.10.12"} for name in ("R35", "R36"))
R38 = {"release": "R38", "python": "3.12.3"}
MACHINES = (
    Machine("no GPU", "cpu", "no NVIDIA GPU", toolkit=12040),
    Machine("Raspberry Pi OS 12", "cpu", "no NVIDIA GPU", arch="aarch64"),
    Machine("535 without toolkit", "cpu", "no cuda.h: install the CUDA", (), DESKTOP, 12020),
    Machine("550 without g++", "cpu", "install g++", (), DESKTOP, 12040, 12040, builds=False),
    Machine("535", "cuda", "for CUDA 12.2, ", PINS, DESKTOP, 12020, 12020),
    Machine("550", "cuda", "for CUDA 12.4, ", PINS, DESKTOP, 12040, 12040, "3.10.12"),
    Machine("570", "cuda", "for CUDA 12.8, ", PINS, DESKTOP, 12080, 12080, "3.13.1"),
    Machine("580", "cuda", "for CUDA 13.0, ", (), DESKTOP, 13000, 12090, "3.12.3"),
    jetson("JetPack 5", "native", "for CUDA 11.4, ", PIN, JETSON, 11040, 11040, **R35),
    jetson("JetPack 6", "native", "bindings are the system's", PIN, JETSON, 12060, 12060, **R36),
    jetson("JetPack 6, bare", "cpu", "apt install nvidia-jetpack", (), JETSON, 12060, **R36),
    jetson("JetPack 6, image", "native", "for CUDA 12.6, ", PIN, JETSON, 0, 12060, **R36),
    jetson("JetPack 7", "cuda", "for CUDA 13.0, ", (), DESKTOP, 13000, 13000, **R38),
)
JETPACK_6 = MACHINES[9]
on_every_machine = pytest.mark.parametrize("machine", MACHINES, ids=str)


def made(machine: Machine, tmp_path: Path) -> Checkout:
    """The project's scripts on it."""
    checkout = Checkout(tmp_path)
    checkout.machine(machine.arch)
    checkout.gpu(node=machine.node, cuda_h=machine.toolkit or None)
    builds, tensorrt = ("yes" if it else "no" for it in (machine.builds, machine.tensorrt))
    checkout.env |= {
        "KESTREL_VARIANT": "",
        "STUB_VERSION": machine.python,
        "STUB_FACTS": f"{machine.driver} {builds} {tensorrt}",
    }
    return checkout


@on_every_machine
def test_setup_installs_what_runs_there_and_tells_why(machine: Machine, tmp_path: Path) -> None:
    checkout = made(machine, tmp_path)
    asked = checkout("setup")
    assert installed(asked) == ["requirements.txt", *REQUIREMENTS[machine.variant]]
    # TensorRT's bindings are the system's on a Jetson
    assert any("--system-site-packages" in each for each in asked) == (machine.arch == "aarch64")
    (install,) = (each for each in asked if " install " in each)
    assert re.findall(r" ([a-z-]+[<>=]\S+)", install) == [*machine.pins]
    (told,) = re.findall(r"engines: (.*)", checkout.said)
    assert told.startswith(f"{machine.variant} (") and machine.said in told
    assert checkout("setup") == []


@pytest.mark.parametrize("machine", [MACHINES[4], JETPACK_6], ids=str)
def test_a_variant_that_is_forced_has_one_onnxruntime(machine: Machine, tmp_path: Path) -> None:
    checkout = made(machine, tmp_path)
    for variant, files in REQUIREMENTS.items():
        asked = checkout("setup", KESTREL_VARIANT=variant)
        assert installed(asked) == ["requirements.txt", *files]
        assert variant == "cuda" or not any("onnxruntime-gpu<" in each for each in asked)


def test_the_system_python_of_jetpack_5_is_too_old(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout("setup", rc=2, STUB_TOO_OLD="yes", STUB_VERSION="3.8.10")
    assert "install Python 3.10 or newer and set KESTREL_PYTHON" in checkout.said


def seen(machine: Machine, root: Path) -> MadeUp:
    """The machine after set-up, as the doctor sees it."""
    made_up = MadeUp(root)
    if machine.node:
        made_up.file(machine.node)
    if machine.release:
        made_up.file("/etc/nv_tegra_release", f"# {machine.release} (release), REVISION: 4.3")
    if machine.toolkit:
        made_up.file("/usr/local/cuda/include/cuda.h")
        major, minor = divmod(machine.toolkit // 10, 100)
        made_up.commands["nvcc"] = Answer(0, f"release {major}.{minor}, V{major}.{minor}.1")
    wheel, providers = "onnxruntime", ["CPUExecutionProvider"]
    if machine.variant == "cuda":
        wheel, providers = "onnxruntime-gpu", ["CUDAExecutionProvider", *providers]
    if machine.variant != "cpu":
        made_up.packages["pycuda"] = "2026.1"
        made_up.child(
            "gpu", {"name": "GPU", "capability": [8, 7], "driver": machine.driver or None}
        )
    made_up.packages[wheel] = "1.23"
    return made_up.child("onnxruntime", {"version": "1.23", "providers": providers})


@on_every_machine
def test_the_doctor_finds_fault_only_where_a_gpu_lies_idle(
    machine: Machine, tmp_path: Path
) -> None:
    probe = seen(machine, tmp_path).probe()
    found = [*devices.look_gpu(probe).findings, *host.look_inference(probe).findings]
    idle = machine.node is not None and machine.variant == "cpu"
    assert bool(found) == idle, found


@on_every_machine
def test_engines_are_those_that_can_run_there(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``auto`` measures them, with ONNX Runtime as it is here: without providers for a GPU."""
    made_up = seen(machine, tmp_path)
    monkeypatch.setattr(engines, "GPU_NODES", [str(tmp_path / name.lstrip("/")) for name in NODES])
    found = {"pycuda": "here"} if "pycuda" in made_up.packages else {}
    monkeypatch.setattr(
        engines, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=found.get))
    )
    gpu = context.Gpu("GPU", (8, 7), machine.driver)
    monkeypatch.setattr(context, "find_gpu", lambda: gpu)
    reason = engines.without_gpu()
    assert (reason is None) == (machine.variant != "cpu")
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))
    if machine.tensorrt:
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.make(10))
    model = default_model()
    choice = engines.choose_from(Config(), model, Policy.LATEST, no_gpu=reason)
    own = [] if machine.variant == "cpu" else ["cuda"]
    assert [name for name in choice.engines if name != "openvino"] == [*own, "cpu"]
    if own and machine.tensorrt:  # without any onnxruntime-gpu
        assert "takes minutes to build" in choice.skipped["tensorrt"]
        where = {"device": gpu.name, "capability": gpu.capability, "driver": gpu.driver}
        with plan_cache(model.spec.whole(), model.weights, "auto", **where).building():
            pass
        choice = engines.choose_from(Config(), model, Policy.LATEST, no_gpu=reason)
        assert list(choice.engines)[:2] == ["tensorrt", "cuda"]
    elif own:
        assert "bindings are missing: pip install tensorrt-cu" in choice.skipped["tensorrt"]


def test_the_recipe_of_the_readme_runs_on_jetpack_6(tmp_path: Path) -> None:
    recipe = re.search(r"### Headless on a Jetson.*?```\n(.*?)```", README.read_text(), re.S)
    assert recipe is not None
    checkout = made(JETPACK_6, tmp_path)
    for line in recipe[1].splitlines():
        words = line.split("#")[0].split()
        if words[:3] == ["sudo", "apt", "install"]:
            assert {"python3-venv", "python3-dev", "g++"} <= set(words[3:])
        elif words[0] == "./scripts/run":
            asked = checkout("run", *words[1:], rc=7)  # the stub's own code
            assert asked[-1].endswith(" ".join(words[1:]))
            assert "engines: native" in checkout.said
        else:
            assert words[:3] == ["sudo", "./scripts/install_service", "--system"]
            checkout("install_service", *words[2:], "--run-as", getuser(), "--print")
            assert "ExecStart=" in checkout.out
