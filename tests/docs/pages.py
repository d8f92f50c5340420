"""The project's Markdown pages, and what stands in them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = re.compile(r"^(?:\./scripts/run|(?:\.venv/bin/)?python -m app|kestrel)(?=\s|$)")


def pages() -> list[Path]:
    """All Markdown files; hidden folders are left out, and what other programs put there."""
    found = []
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [name for name in inner if name[0] != "." and name not in ("shared", "out")]
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(found)


def name_of(page: Path) -> str:
    """Its path from the root."""
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", page.read_text("utf-8"))


def code_blocks(page: Path, language: str) -> list[str]:
    """Blocks of code in a language, "" for those that name none."""
    text = page.read_text("utf-8")
    return [block["code"] for block in _FENCE.finditer(text) if block["language"] == language]


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each run of the application in the page's blocks of code."""
    for block in code_blocks(page, "") + code_blocks(page, "bash"):
        for line in block.splitlines():
            if match := _RUN.match(line):
                yield shlex.split(line[match.end() :], comments=True)
