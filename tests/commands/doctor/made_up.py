"""A machine made of files below a folder, commands and packages, for the doctor to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.commands.doctor.probe import Answer, Probe


class MadeUp:
    """``ask`` answers by the question; what is not named fails, as if not installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: dict[str, Answer] = {}
        self.children: dict[str, Mapping[str, Any] | Answer] = {}
        self.packages: dict[str, str] = {}
        self.environ: dict[str, str] = {}
        self.closed: set[str] = set()

    def file(self, name: str, text: str = "") -> MadeUp:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return self

    def child(self, question: str, answer: Mapping[str, Any] | Answer) -> MadeUp:
        self.children[question] = answer
        return self

    def _run(self, words: Sequence[str]) -> Answer:
        if "-c" not in words:
            return self.commands.get(Path(words[0]).name, Answer(127, "", "No such file"))
        answer = self.children.get(words[-1], Answer(1, "", "ModuleNotFoundError: No module"))
        return answer if isinstance(answer, Answer) else Answer(0, json.dumps(answer))

    def probe(self) -> Probe:
        return Probe(
            root=self.root,
            environ=self.environ,
            run=self._run,
            which=lambda name: f"/usr/bin/{name}" if name in self.commands else None,
            version=self.packages.get,
            may_use=lambda path: f"/{path.relative_to(self.root)}" not in self.closed,
        )
