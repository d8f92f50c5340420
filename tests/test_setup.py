"""scripts/setup, run and test do what is needed, once, and say what to do where they cannot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

# Stands for the interpreter of the system and for that of .venv: logs its arguments, makes .venv
# as venv would, installs nothing.
STUB = """#!/bin/sh
case $0 in *.venv/*) name=.venv ;; *) name=system ;; esac
case $* in
    --version) echo "Python ${STUB_VERSION:-3.11.2}"; exit ;;
    *"< (3, 10)"*) [ -z "$STUB_TOO_OLD" ]; exit ;;
    *"< (3, 11)"*) case ${STUB_VERSION:-3.11.2} in 3.10.*) exit 1 ;; esac; exit ;;
    *cuDriverGetVersion*) echo "${STUB_FACTS:?}"; exit ;;
esac
echo "$name $*" >>"$STUB_LOG"
case $* in
    "-c import PyQt5") [ -z "$STUB_NO_PYQT5" ] ;;
    "-m venv "*)
        [ -z "$STUB_NO_VENV" ] || exit 1
        rm -rf .venv; mkdir -p .venv/bin; cp "$STUB_SELF" .venv/bin/python ;;
    "-m pip "*show*) case " $STUB_INSTALLED " in *" $6 "*) ;; *) false ;; esac ;;
    "-m pip "*) case $* in *"${STUB_PIP_FAILS:-nothing}"*) exit 1 ;; esac ;;
    *"from app.__main__ import run"*) exit 7 ;;
    "-m ruff "*|"-m mypy"|"-m pytest "*) ;;
    tests/cudasim/build.py) [ -z "$STUB_NO_COMPILER" ] ;;
    *) echo "the stub does not know: $*" >&2; exit 99 ;;
esac
"""

NODES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu")


class Checkout:
    """A copy of the scripts with a stub interpreter, and what one run of them did."""

    def __init__(self, folder: Path) -> None:
        self.root, bin_, self._log = folder / "check out", folder / "bin", folder / "log"
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for path in ROOT.glob("requirements*.txt"):
            shutil.copy(path, self.root)
        bin_.mkdir()
        self.python = bin_ / "python3"
        self.machine("x86_64")
        executable(self.python, STUB)
        self.env = {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "KESTREL_VARIANT": "cpu",
            "STUB_LOG": str(self._log),
            "STUB_SELF": str(self.python),
        }

    def machine(self, name: str) -> None:
        executable(self.root.parent / "bin" / "uname", f"#!/bin/sh\necho {name}\n")

    def gpu(self, *, node: str | None, cuda_h: int | None) -> None:
        """The device file and the toolkit's header, of that CUDA_VERSION, that set-up finds."""
        script, folder = self.root / "scripts" / "setup", self.root.parent
        text = script.read_text()
        names = {name: folder / name.lstrip("/") for name in NODES}
        for name, instead in {**names, "/usr/local/cuda /usr;": f"{folder}/cuda;"}.items():
            assert text.count(name) == 1
            text = text.replace(name, str(instead))
        script.write_text(text)
        (folder / "dev").mkdir()
        (folder / "cuda" / "include").mkdir(parents=True)
        if node is not None:
            names[node].touch()
        if cuda_h is not None:
            header = f"#define CUDA_API 1\n#define CUDA_VERSION {cuda_h}\n"
            (folder / "cuda" / "include" / "cuda.h").write_text(header)

    def __call__(self, *command: str, rc: int = 0, **env: str) -> list[str]:
        """What the interpreters were asked beyond what they are; keeps stdout and stderr."""
        self._log.write_text("")
        done = subprocess.run(
            [str(self.root / "scripts" / command[0]), *command[1:]],
            env=self.env | env,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.out, self.said = done.stdout, done.stderr
        assert done.returncode == rc, self.said
        asked = self._log.read_text().splitlines()
        return [each for each in asked if "--version" not in each]

    @property
    def venv(self) -> Path:
        return self.root / ".venv"


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def installed(asked: Sequence[str]) -> list[str]:
    """The requirement files of the one pip install."""
    (install,) = (each for each in asked if " install " in each)
    assert install.startswith(".venv -m pip ")
    return re.findall(r"-r ?(\S+)", install)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_first_run_makes_the_environment_and_says_what_it_chose(checkout: Checkout) -> None:
    asked = checkout("setup")
    assert asked[0] == "system -m venv --clear .venv"
    assert installed(asked) == ["requirements.txt", "requirements-cpu.txt"]
    assert checkout.said.splitlines() == [
        "setup: engines: cpu (KESTREL_VARIANT)",
        "setup: making .venv with Python 3.11.2",
        "setup: installing requirements.txt requirements-cpu.txt",
        "setup: ready",
    ]


def test_nothing_changed_does_nothing_and_is_silent(checkout: Checkout) -> None:
    checkout("setup")
    assert checkout("setup") == []
    assert checkout.said == checkout.out == ""


def test_changed_requirements_are_installed_into_the_same_environment(checkout: Checkout) -> None:
    checkout("setup")
    for name in ("requirements.txt", "requirements-cpu.txt"):
        with (checkout.root / name).open("a") as file:
            file.write("another\n")
        asked = checkout("setup")
        assert installed(asked) == ["requirements.txt", "requirements-cpu.txt"]
        assert not any("venv --" in each for each in asked)
        assert checkout("setup") == []
    with (checkout.root / "requirements-dev.txt").open("a") as file:
        file.write("another\n")
    assert checkout("setup") == []  # running does not need it


def test_dev_adds_its_requirements_and_covers_running(checkout: Checkout) -> None:
    checkout("setup")
    everything = [
        "requirements.txt",
        "requirements-cpu.txt",
        "requirements-outputs.txt",
        "requirements-models.txt",
        "requirements-dev.txt",
    ]
    assert installed(checkout("setup", "--dev")) == everything
    assert checkout("setup", "--dev") == checkout("setup") == []
    with (checkout.root / "requirements-dev.txt").open("a") as file:
        file.write("another\n")
    assert checkout("setup") == []
    assert installed(checkout("setup", "--dev")) == everything


def test_full_adds_the_network_outputs_and_covers_running(checkout: Checkout) -> None:
    asked = checkout("setup", "--full")
    assert installed(asked)[2:] == ["requirements-outputs.txt"]
    assert checkout("setup", "--full") == checkout("setup") == []


def test_cuda_removes_the_other_runtime_first_and_back(checkout: Checkout) -> None:
    checkout("setup", "--dev")
    for variant, other in (("cuda", "onnxruntime"), ("cpu", "onnxruntime-gpu")):
        asked = checkout("setup", KESTREL_VARIANT=variant, STUB_INSTALLED=other)
        uninstall = next(i for i, each in enumerate(asked) if " uninstall " in each)
        assert asked[uninstall].endswith(" -y onnxruntime onnxruntime-gpu")
        assert " install " in asked[uninstall + 1]
        assert installed(asked) == ["requirements.txt", f"requirements-{variant}.txt"]
        assert f"removing {other}: " in checkout.said
    # the stamp of --dev is of an environment that is gone
    assert "requirements-dev.txt" in installed(checkout("setup", "--dev"))


def test_what_a_requirement_file_includes_counts_too(checkout: Checkout) -> None:
    checkout("setup", KESTREL_VARIANT="cuda")
    assert checkout("setup", KESTREL_VARIANT="cuda") == []
    with (checkout.root / "requirements-pycuda.txt").open("a") as file:
        file.write("another\n")
    assert "requirements-cuda.txt" in installed(checkout("setup", KESTREL_VARIANT="cuda"))


def test_runtime_that_fits_stays(checkout: Checkout) -> None:
    for variant, own in (("cuda", "onnxruntime-gpu"), ("cpu", "onnxruntime")):
        asked = checkout("setup", KESTREL_VARIANT=variant, STUB_INSTALLED=own)
        assert not any("uninstall" in each for each in asked)


def test_aarch64_uses_the_systems_packages_and_tells_what_is_absent(checkout: Checkout) -> None:
    checkout.machine("aarch64")
    asked = checkout("setup", STUB_NO_PYQT5="yes")
    assert "system -m venv --clear --system-site-packages .venv" in asked
    assert "headless; for a window: sudo apt install python3-pyqt5" in checkout.said
    assert checkout("setup") == []


def test_aarch64_hints_only_at_what_is_absent(checkout: Checkout) -> None:
    checkout.machine("aarch64")
    checkout("setup")
    assert "apt install" not in checkout.said


@pytest.mark.parametrize("variant", ["rocm", "dev", "../etc"])
def test_unknown_variant_is_told(checkout: Checkout, variant: str) -> None:
    assert checkout("setup", rc=2, KESTREL_VARIANT=variant) == []
    assert (
        checkout.said == f"setup: KESTREL_VARIANT={variant} is unknown; use cpu, native or cuda\n"
    )


def test_unknown_option_is_told(checkout: Checkout) -> None:
    for options in (["--devel"], ["--dev", "--quick"]):
        assert checkout("setup", *options, rc=2) == []
        assert f"{' '.join(options)} is unknown; use scripts/setup" in checkout.said


def test_python_too_old_or_absent_is_told(checkout: Checkout) -> None:
    assert checkout("setup", rc=2, STUB_TOO_OLD="yes", STUB_VERSION="3.8.10") == []
    assert "Python 3.8.10 is too old; install Python 3.10 or newer" in checkout.said
    assert checkout("setup", rc=2, KESTREL_PYTHON="python3.absent") == []
    assert "python3.absent is not here; install" in checkout.said
    assert not checkout.venv.exists()


def test_python_that_is_named_is_used(checkout: Checkout) -> None:
    other = checkout.python.with_name("other")
    shutil.copy(checkout.python, other)
    executable(checkout.python, "#!/bin/sh\nexit 99\n")
    checkout("setup", KESTREL_PYTHON="other", STUB_SELF=str(other))


def test_another_python_gets_a_new_environment(checkout: Checkout) -> None:
    checkout("setup")
    shutil.copy(checkout.python, checkout.python.with_name("newer"))
    executable(checkout.venv / "bin" / "python", "#!/bin/sh\necho Python 3.11.2\n")
    asked = checkout("setup", KESTREL_PYTHON="newer", STUB_VERSION="3.12.1")
    assert asked[0] == "system -m venv --clear .venv"
    assert "making .venv with Python 3.12.1" in checkout.said


def test_pip_that_fails_is_told_and_tried_again(checkout: Checkout) -> None:
    checkout("setup", rc=2, STUB_PIP_FAILS=" install ")
    assert "pip failed; with no network" in checkout.said and "ready" not in checkout.said
    assert not list(checkout.venv.glob("kestrel-*"))
    assert installed(checkout("setup"))
    assert checkout("setup") == []


def test_change_of_engines_that_fails_halfway_is_mended_on_the_way_back(checkout: Checkout) -> None:
    checkout("setup")
    for failing in (" uninstall ", " install "):
        cuda = {"KESTREL_VARIANT": "cuda", "STUB_INSTALLED": "onnxruntime"}
        checkout("setup", rc=2, STUB_PIP_FAILS=failing, **cuda)
        assert installed(checkout("setup"))[1] == "requirements-cpu.txt"


def test_venv_that_cannot_be_made_is_told(checkout: Checkout) -> None:
    checkout("setup", rc=2, STUB_NO_VENV="yes")
    assert "sudo apt install python3-venv" in checkout.said


def test_environment_whose_python_is_gone_is_made_again(checkout: Checkout) -> None:
    checkout("setup")
    python = checkout.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/absent/python3")
    asked = checkout("setup")
    assert asked[0] == "system -m venv --clear .venv" and installed(asked)


def test_environment_without_pip_is_made_again(checkout: Checkout) -> None:
    checkout("setup")
    (checkout.venv / "kestrel-run").unlink()  # as where making it was interrupted
    asked = checkout("setup", STUB_PIP_FAILS="pip --version")
    assert asked[0] == "system -m venv --clear .venv" and installed(asked)


def test_moved_checkout_is_set_up_again(checkout: Checkout) -> None:
    checkout("setup")
    moved = checkout.root.with_name("moved")
    checkout.root.rename(moved)
    checkout.root = moved
    assert installed(checkout("setup"))
    assert checkout("setup") == []


def test_run_hands_its_arguments_and_exit_code_through(checkout: Checkout) -> None:
    asked = checkout("run", "replay", "my clip.mp4", rc=7)
    assert asked[-1].endswith(f"{checkout.root} replay my clip.mp4")


def test_run_is_not_led_astray_by_an_app_in_the_callers_folder(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit('the wrong app')")
    code = (ROOT / "scripts" / "run").read_text().split("'")[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.startswith("kestrel"), done.stderr


def test_run_does_not_start_what_could_not_be_set_up(checkout: Checkout) -> None:
    for script in ("run", "test"):
        asked = checkout(script, rc=2, STUB_PIP_FAILS=" install ")
        assert "pip --" in asked[-1]


@pytest.mark.parametrize("compiler", ["", "none"])
def test_test_checks_style_and_types_before_the_tests(checkout: Checkout, compiler: str) -> None:
    checkout("setup", "--dev")
    built, *asked = checkout("test", "-k", "this", STUB_NO_COMPILER=compiler)
    assert built.endswith("tests/cudasim/build.py")
    assert [each.split()[2] for each in asked] == ["ruff", "ruff", "mypy", "pytest"]
    assert bool(compiler) == ("tests of the GPU path skip" in checkout.said)


def test_one_numpy_for_each_machine_and_numpy_1_where_the_systems_opencv_needs_it() -> None:
    text = (ROOT / "requirements.txt").read_text()
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    numpys = [r for r in map(Requirement, filter(None, lines)) if r.name == "numpy"]
    machines = ("x86_64", "aarch64", "armv7l", "arm64")
    for machine, python in product(machines, ("3.10", "3.11", "3.12", "3.13", "3.14")):
        here = {"platform_machine": machine, "python_version": python}
        (numpy,) = (r for r in numpys if r.marker is None or r.marker.evaluate(here))
        systems = machine == "aarch64" and python in ("3.10", "3.11", "3.12")
        assert numpy.specifier.contains("1.26.4")
        assert numpy.specifier.contains("2.1.0") != systems
