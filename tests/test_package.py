"""The package as pip installs it: complete, outside of the checkout, under its own name."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from itertools import chain
from pathlib import Path

import pytest

from app import __version__
from app.core.package import child_command
from app.models.manifest import parse_toml

ROOT = Path(__file__).parents[1]
SNIPPET = """
from kestrel_vision import Detector, KestrelError, stream
for result in stream("sample:", engine="cpu", max_frames=3):
    with Detector(engine="cpu") as detect:
        print(detect.names(detect(result.frame)), result.labels)
try:
    Detector("no such model")
except KestrelError as error:
    print(error)
"""


class Installed:
    """An environment with the wheel, an empty folder to work in, and a home of its own."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.wheel = wheel
        self.bin = folder / "venv" / "bin"
        self.work, self.home = folder / "work", folder / "home"
        for each in (self.work, self.home):
            each.mkdir()
        (self.work / "app.py").write_text("raise SystemExit('the wrong app')")
        (self.work / "kestrel_vision.py").write_text("raise SystemExit('the wrong package')")

    def run(self, *words: str, rc: int = 0) -> str:
        """What the command writes to stdout and stderr."""
        done = subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            cwd=self.work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "KESTREL_CACHE": str(self.home / "cache"),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == rc, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built here; the libraries are those of the environment that runs the tests."""
    for backend in ("hatchling", "hatch_requirements_txt"):
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not here: pip install -r requirements-dev.txt")
    folder = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    built = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run([*pip, *built], check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "venv" / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip[:3], "--python", str(python), *pip[3:], *install], check=True, timeout=120)
    return Installed(folder, wheel)


@pytest.mark.slow
def test_the_command_tells_its_version(installed: Installed) -> None:
    assert installed.run("kestrel", "--version") == f"kestrel {__version__}\n"


@pytest.mark.slow
def test_the_wheel_holds_what_runs_and_nothing_else(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    inside = {name.removeprefix("kestrel_vision/") for name in names if ".dist-info" not in name}
    assert not {name for name in inside if name.startswith(("tests", "scripts", "kestrel_vision"))}
    shipped = ["app", "models/*.toml", "models/*.onnx", "models/*.txt", "kernels/*.cu*"]
    git = ["git", "ls-files", *shipped]
    tracked = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("this is no git checkout, so what belongs to it is not known")
    for path in tracked.stdout.split():
        if (ROOT / path).exists():
            assert (path.removeprefix("app/") if path[:4] == "app/" else f"data/{path}") in inside


@pytest.mark.slow
def test_a_replay_and_the_api_work_outside_of_the_checkout(installed: Installed) -> None:
    said = installed.run("kestrel", "replay", "sample:", "--max-frames", "5", "--isolate")
    assert "5 processed" in said and "in its own process" in said
    # -I: not the package that lies in the working folder, as any Python would take it
    told = installed.run("python", "-I", "-c", SNIPPET)
    assert told.count("person") >= 3 and "kestrel models add" in told


@pytest.mark.slow
def test_models_are_added_to_the_users_folder(installed: Installed) -> None:
    shelf = installed.home / ".local" / "share" / "kestrel" / "models"
    before = installed.run("kestrel", "models", "list")
    assert "kestrel *" in before
    weights = str(ROOT / "models" / "kestrel.onnx")
    added = (
        "kestrel",
        "models",
        "add",
        weights,
        "--size",
        "320x320",
        "--labels",
        str(ROOT / "models" / "coco80_face.txt"),
        "--name",
        "mine",
    )
    assert str(shelf / "mine.toml") in installed.run(*added)
    assert "mine" in installed.run("kestrel", "models", "list")
    installed.run("kestrel", "replay", "sample:", "--model", "mine", "--max-frames", "2")
    manifest = shelf / "mine.toml"
    manifest.write_text("default = true\n" + manifest.read_text())
    listed = installed.run("kestrel", "models", "list")
    assert "mine *" in listed and "kestrel *" not in listed
    manifest.unlink()


@pytest.mark.slow
def test_the_doctor_finds_nothing_that_prevents_a_run(installed: Installed) -> None:
    assert '"can_run": true' in installed.run("kestrel", "doctor", "--json")


def test_a_child_takes_the_package_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit('the wrong app')")
    done = subprocess.run(
        [*child_command("__main__:run", "--version")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == f"kestrel {__version__}\n", done.stderr


def test_nothing_spells_the_packages_name() -> None:
    """The tree has two names, so imports are relative and the rest asks core/package.py."""
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "app").rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r'(from|import) app\b|"app["\.]|-m app\.', line)
    ]
    assert not wrong


def test_the_versions_stand_in_the_requirements_only() -> None:
    project = parse_toml((ROOT / "pyproject.toml").read_text("utf-8"))
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["requirements_txt"]
    files = [*hook["files"], *chain(*hook["optional-dependencies"].values())]
    assert "dependencies" in project["project"]["dynamic"]
    assert all((ROOT / name).is_file() for name in files)
    lines = [line for name in files for line in (ROOT / name).read_text("utf-8").splitlines()]
    # the two ONNX Runtimes must never be installed together
    assert not any(line.startswith("onnxruntime-gpu") for line in lines)
