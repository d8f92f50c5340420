"""README is short, its commands have options that exist, and its Python runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.commands.cli import make_parser
from tests.docs.pages import ROOT, code_blocks, commands, name_of, pages

README = ROOT / "README.md"
MOST_WORDS = 2000
COMMANDS = [(name_of(page), words) for page in pages() for words in commands(page)]


def test_readme_is_short() -> None:
    assert len(README.read_text("utf-8").split()) <= MOST_WORDS


def test_readme_shows_commands() -> None:
    assert sum(page == "README.md" for page, _ in COMMANDS) >= 6


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS]
)
def test_options_exist(
    page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
def test_readme_python_runs(tmp_path: Path) -> None:
    """The package is this tree under its installed name; tests/test_package.py installs it."""
    (snippet,) = code_blocks(README, "python")
    (tmp_path / "kestrel_vision").symlink_to(ROOT / "app")
    (tmp_path / "models").symlink_to(ROOT / "models")  # the snippet reads one of its pictures
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
