"""This package itself: its name, its folders of data, and how a child process runs part of it.

The same tree runs as ``app`` in a checkout, with kernels/ and models/ beside it, and installed as
``kestrel_vision``, with them in data/ inside it. Nothing else may spell the name of the package.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
NAME = __name__.partition(".")[0]  # also that of the package's root logger
INSTALLED = (FOLDER / "data").is_dir()
COMMAND = "kestrel" if INSTALLED else f"python -m {NAME}"  # as users write it


def data_folder(name: str) -> Path:
    """Where the shipped files are: ``name`` is "kernels" or "models". Perhaps not writable."""
    return FOLDER / "data" / name if INSTALLED else FOLDER.parent / name


def user_folder(name: str) -> Path:
    """Where files that users add go; perhaps not there yet.

    The shipped folder of a checkout that may be written, else kestrel/NAME in $XDG_DATA_HOME
    (~/.local/share): what is installed belongs to pip, which removes it with the next version.
    """
    shipped = data_folder(name)
    if not INSTALLED and os.access(shipped, os.W_OK):
        return shipped
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home).resolve() / "kestrel" / name


def pip_install(extra: str) -> str:
    """The command that brings what an extra of pyproject.toml needs, for messages."""
    if INSTALLED:
        return f"pip install 'kestrel-vision[{extra}]'"
    return (
        "scripts/setup --full" if extra == "outputs" else f"pip install -r requirements-{extra}.txt"
    )


# The package is taken from its own folder and from nowhere else: a module of the same name in the
# working folder, or in the folders of another Python, cannot take its place.
_START = """
import importlib.util, os, sys
_, folder, entry, *sys.argv[1:] = sys.argv
sys.path[:] = [place for place in sys.path if place]
name = os.path.basename(folder)
spec = importlib.util.spec_from_file_location(
    name, folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[name])
module, _, function = entry.partition(":")
sys.exit(getattr(importlib.import_module(f"{name}.{module}"), function)())
"""


def child_command(entry: str, *words: str, python: str = sys.executable) -> list[str]:
    """The command of a process that runs ``entry``, with ``words`` in its sys.argv[1:].

    ``entry`` is MODULE:FUNCTION inside this package ("commands.cli:share"); the function takes
    nothing and returns the exit code.
    """
    return [python, "-c", _START, str(FOLDER), entry, *words]
