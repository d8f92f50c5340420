"""README is short, its commands have options that exist, and its Python runs."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, code_blocks, commands, name_of, pages

README = ROOT / "README.md"
MOST_WORDS = 2000
COMMANDS = [(name_of(page), words) for page in pages() for words in commands(page)]


@pytest.fixture(scope="module")
def make_parser() -> Callable[[str], argparse.ArgumentParser]:
    """The application's own parser, made for one command."""
    try:
        module = import_module("app.flags")
    except ModuleNotFoundError:
        module = import_module("app.commands.cli")
    maker: Callable[[str], argparse.ArgumentParser] = module.make_parser
    return maker


def test_readme_is_short() -> None:
    assert len(README.read_text("utf-8").split()) <= MOST_WORDS


def test_readme_shows_commands() -> None:
    assert sum(page == "README.md" for page, _ in COMMANDS) >= 6


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS]
)
def test_options_exist(
    page: str,
    words: list[str],
    make_parser: Callable[[str], argparse.ArgumentParser],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in words:  # a file of labels is read while the words are
        if word.endswith(".txt"):
            Path(word).write_text("person\n")
    if not words or words[0].startswith("-"):
        words = ["run", *words]
    if "--help" not in words:
        make_parser(words[0]).parse_args(words)


@pytest.mark.slow
def test_readme_python_runs() -> None:
    if importlib.util.find_spec("kestrel_vision") is None:
        pytest.skip("the package kestrel_vision is not installed: pip install .")
    (snippet,) = code_blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
