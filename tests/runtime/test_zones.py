"""Zones that change while a run goes on, of one source and of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config import Config, make_config, read_config_file
from app.core.errors import ConfigError
from app.core.frame import SourceInfo
from app.pipeline.handoff import Policy
from app.runtime.zones import RunShapes

HALL = {"name": "hall", "points": [[0, 0], [1, 0], [1, 1]]}
DOOR = {"name": "door", "points": [[0, 0], [0.5, 0], [0.5, 1]]}


def opened(config: Config, *names: str, file: Path | None = None) -> RunShapes:
    made = RunShapes(config, Policy.LATEST, file=file, always=True)
    for name in names or ("",):
        analyser = made.analyser(name)
        assert analyser is not None
        analyser.open(SourceInfo("camera:0", live=True, name=name), ["person"])
    return made


def test_a_source_has_its_own_rows_and_the_shared_ones(tmp_path: Path) -> None:
    config = Config(sources=("front=rtsp://a", "back=rtsp://b"), zone=(HALL,), http=Config().http)
    made = opened(config, "front", "back")
    made.write({"zone": [HALL, DOOR]}, "front")
    assert made.read("front")["zone"] == [HALL, DOOR] and made.read("back")["zone"] == [HALL]
    moved = {**HALL, "points": [[0, 0], [1, 0], [0, 1]]}
    made.write({"zone": [moved]}, "back")
    assert made.read("front")["zone"] == [DOOR, moved], "it is one zone of both"
    made.save(file := tmp_path / "zones.toml")
    assert {row.get("source") for row in read_config_file(file)["zone"]} == {None, "front"}


def test_what_one_source_cannot_take_changes_none() -> None:
    config = Config(sources=("front=rtsp://a", "back=rtsp://b"))
    made = opened(config, "front", "back")
    with pytest.raises(ConfigError, match="0 to 1"):
        made.write({"zone": [{**DOOR, "points": [[0, 0], [9, 0], [0, 1]]}]}, "front")
    assert made.read("front")["zone"] == []


def test_a_run_that_is_told_not_to_track_says_how_to() -> None:
    config = make_config({"track.on": False})
    with pytest.raises(ConfigError, match="--no-track"):
        opened(config).write({"zone": [DOOR]})


def test_without_a_file_saving_names_the_flag() -> None:
    made = opened(Config())
    made.write({"zone": [DOOR]})
    with pytest.raises(ConfigError, match="--config"):
        made.save()
