"""A user's own clips as tests: ``pytest -p app.commands.pytest_plugin FOLDER``.

Every CLIP.golden.jsonl beside a CLIP (porch.mp4.golden.jsonl beside porch.mp4) is a test: the clip
is replayed and compared. `python -m app replay CLIP --json CLIP.golden.jsonl` writes the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..config import ENGINES, Config
from ..core.errors import KestrelError

SUFFIX = ".golden.jsonl"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("kestrel")
    group.addoption("--kestrel-model", help="model of the replays (default: the shelf's default)")
    group.addoption("--kestrel-engine", choices=ENGINES, default="auto", help="engine of them")
    group.addoption(
        "--kestrel-update", action="store_true", help="write the golden files anew, compare nothing"
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A golden file is a file of one test."""
    if not file_path.name.endswith(SUFFIX):
        return None
    found: GoldenFile = GoldenFile.from_parent(parent, path=file_path)
    return found


class GoldenFile(pytest.File):
    """CLIP.golden.jsonl."""

    def collect(self) -> Iterator[pytest.Item]:
        """The clip beside it."""
        name = self.path.name.removesuffix(SUFFIX)
        yield ClipItem.from_parent(self, name=name, clip=self.path.with_name(name))


class ClipItem(pytest.Item):
    """One clip."""

    def __init__(self, *, clip: Path, **more: Any) -> None:
        super().__init__(**more)
        self._clip = clip

    def runtest(self) -> None:
        """Replay and compare, or write."""
        from ..runtime.run import run_replay

        options, golden = self.config.option, str(self.path)
        written = {"json": golden} if options.kestrel_update else {"expect": golden}
        run_replay(
            Config(
                source=str(self._clip),
                model=options.kestrel_model,
                engine=options.kestrel_engine,
                overwrite=True,
                **written,  # type: ignore[arg-type]
            )
        )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """One line, as on the command line; a traceback for what is no fault of the user's."""
        if isinstance(excinfo.value, KestrelError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """For the report."""
        return self.path, None, f"clip {self.name}"
