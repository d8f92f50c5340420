"""Zones are written where they were, and everything else in the file stays."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from app.core.errors import ConfigError
from app.session.config_file import save_tables

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = """# the shop
source = "rtsp://camera/1"   # do not move

[mqtt]
url = "mqtt://broker"

# in front
[[zone]]
name = "door"          # the glass one
points = [[0, 0], [0.5, 0], [0.5, 1]]
dwell_s = [3]

[[zone]]
name = "hall"
points = [[0.5, 0], [1, 0], [1, 1]]

[[rule]]
name = "night"
when = "enter"
zone = "door"
then = ["mqtt"]
"""
DOOR = {"name": "door", "points": [[0, 0], [0.5, 0], [0.5, 1]], "dwell_s": [3]}
HALL = {"name": "hall", "points": [[0.5, 0], [1, 0], [1, 1]]}
GATE = {"name": "gate", "points": [[0.5, 0.9], [0.5, 0.1]], "colour": "#ff9f1c"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "shop.toml"
    made.write_text(FILE)
    return made


def rows(file: Path, key: str) -> list[dict]:
    return tomllib.loads(file.read_text()).get(key, [])


def test_the_same_rows_change_nothing(file: Path) -> None:
    save_tables(file, {"zone": [DOOR, HALL], "line": []})
    assert file.read_text() == FILE


def test_a_moved_point_is_written_and_every_comment_stays(file: Path) -> None:
    moved = {**DOOR, "points": [[0.1, 0.1], [0.5, 0], [0.5, 1]]}
    save_tables(file, {"zone": [moved, HALL], "line": []})
    text = file.read_text()
    assert rows(file, "zone") == [moved, HALL]
    assert text == FILE.replace("[[0, 0], [0.5, 0], [0.5, 1]]", "[[0.1, 0.1], [0.5, 0], [0.5, 1]]")


def test_a_new_name_is_the_same_row(file: Path) -> None:
    save_tables(file, {"zone": [DOOR, {**HALL, "name": "floor"}], "line": []})
    assert file.read_text() == FILE.replace('name = "hall"', 'name = "floor"')


def test_rows_are_added_and_taken_away(file: Path) -> None:
    third = {"name": "yard", "points": [[0, 0], [0.1, 0], [0.1, 0.1]]}
    save_tables(file, {"zone": [DOOR, HALL, third], "line": [GATE]})
    assert rows(file, "zone") == [DOOR, HALL, third] and rows(file, "line") == [GATE]
    assert rows(file, "rule")[0]["name"] == "night"
    save_tables(file, {"zone": [HALL], "line": []})
    assert rows(file, "zone") == [HALL] and rows(file, "line") == []
    assert "# the shop" in file.read_text() and "# do not move" in file.read_text()
    save_tables(file, {"zone": [], "line": []})
    assert rows(file, "zone") == [] and rows(file, "rule") != []


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    made = tmp_path / "new.toml"
    save_tables(made, {"zone": [DOOR], "line": [GATE]})
    assert rows(made, "zone") == [DOOR] and rows(made, "line") == [GATE]


def test_the_file_keeps_its_mode_and_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    save_tables(link, {"zone": [HALL], "line": []})
    assert link.is_symlink() and rows(file, "zone") == [HALL]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_what_cannot_be_written_is_told_and_leaves_the_file(file: Path, tmp_path: Path) -> None:
    file.write_text("not = [toml")
    with pytest.raises(ConfigError, match="is not TOML"):
        save_tables(file, {"zone": [DOOR]})
    assert file.read_text() == "not = [toml"
    with pytest.raises(ConfigError, match="choose another"):
        save_tables(tmp_path / "none" / "x.toml", {"zone": [DOOR]})
