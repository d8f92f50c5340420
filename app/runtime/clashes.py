"""The files that a run writes: none may be an input, another output, or something of before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from ..config import SETTINGS, Config, parse_sources
from ..core.errors import ConfigError
from ..models.manifest import Model
from ..pipeline.handoff import Policy
from ..sinks.json_lines import exists, holds_something
from .inputs import copies


def refuse_own_inputs(config: Config, model: Model | None, policy: Policy) -> None:
    """No output may be an input, or replace a file unless that is asked for."""
    written = {each.flag: each.of(config) for each in SETTINGS if each.key.writes}
    if (boxes := boxes_beside(config, policy)) is not None:
        written["the boxes of --record"] = str(boxes)
    refuse_clashes(
        outputs={
            # in a folder of recordings each name is a new one
            **{flag: path for flag, path in written.items() if path and not is_folder(path)},
            "--trace": config.trace if policy is Policy.LATEST else None,
        },
        inputs={
            "the source": config.source,
            **{f"source {each.name}": each.uri for each in parse_sources(config.sources)},
            **{f"record source {i}": uri for i, uri in enumerate(config.record_sources, 1)},
            "--expect": config.expect,
            "the trace": config.trace if policy is Policy.LOSSLESS else None,
            "the model": str(model.weights) if model else None,
            "the model's manifest": str(model.manifest) if model and model.manifest else None,
        },
    )
    for flag, path in written.items():
        taken = path and path != "-" and not is_folder(path) and holds_something(Path(path))
        if taken and not config.overwrite:
            raise ConfigError(f"{flag} {exists(Path(path))}")


def refuse_clashes(*, outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Raise ConfigError if an output is also an input or another output; devices may repeat."""
    files = {
        name: Path(value.removeprefix("file://"))
        for name, value in {**outputs, **inputs}.items()
        if value is not None and value != "-"
    }
    for one, other in combinations(files, 2):
        if one in outputs and _same(files[one], files[other]):
            raise ConfigError(
                f"{one} {files[one]} is also {other}, which it would overwrite; name another file"
            )


def _same(a: Path, b: Path) -> bool:
    try:
        if a.exists() and b.exists():
            return a.samefile(b) and a.is_file()
        return a.resolve() == b.resolve()
    except (OSError, ValueError):  # a URI, or a name that the system cannot have
        return False


def boxes_beside(config: Config, policy: Policy) -> Path | None:
    """The file beside that of --record, where boxes are not sure to be drawn in.

    None also where --json or --events writes a file of that name: boxes of --record are in --json.
    """
    path = config.record.path
    if path is None or is_folder(path) or not copies(config.record, policy):
        return None
    boxes = Path(path).with_suffix(".jsonl")
    lines = (config.json, config.events.path)
    return None if any(each and _same(Path(each), boxes) for each in lines) else boxes


def is_folder(path: str) -> bool:
    """Whether recordings rotate in a folder: one that exists, or a name that ends in a slash."""
    return path.endswith(os.sep) or Path(path).is_dir()
