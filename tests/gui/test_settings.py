"""The window's settings: defaults, types, and what others write into the file."""

from __future__ import annotations

from pathlib import Path

from app.gui.ports import RECENT, Settings


def test_defaults_hold_until_something_is_written(settings) -> None:
    assert settings.flag("boxes") and not settings.flag("instruments_open")
    assert settings.text("theme") == "system" and settings.number("score/x", 0.4) == 0.4


def test_what_is_written_is_read_by_the_next_one(tmp_path: Path) -> None:
    first = Settings(tmp_path / "s.ini")
    first.set("boxes", False)
    first.set("hidden", ["dog"])
    first.set("score/x", 0.25)
    first.save()
    second = Settings(tmp_path / "s.ini")
    assert second.flag("boxes") is False
    assert second.words("hidden") == ["dog"]
    assert second.number("score/x", 0.9) == 0.25


def test_recent_sources_are_few_newest_first_and_each_once(settings) -> None:
    for i in range(RECENT + 3):
        settings.add_recent(f"/v/{i}.mp4")
    settings.add_recent("/v/9.mp4")
    recent = settings.words("recent")
    assert len(recent) == RECENT and recent[0] == "/v/9.mp4" and len(set(recent)) == RECENT


def test_address_with_a_password_is_not_written_down(settings) -> None:
    settings.add_recent("rtsp://user:pass@camera/1")
    assert settings.words("recent") == []


def test_file_full_of_nonsense_gives_defaults(tmp_path: Path) -> None:
    path = tmp_path / "s.ini"
    path.write_text("[General]\nscore=abc\ngeometry=7\ntheme=@Invalid()\n\0\0garbage")
    settings = Settings(path)
    assert settings.number("score", 0.3) == 0.3
    assert settings.state("geometry").isEmpty()


def test_folders_have_a_default_and_can_be_chosen(settings, tmp_path: Path) -> None:
    assert settings.folder("pictures").name == "Kestrel"
    settings.set("pictures_folder", str(tmp_path))
    assert settings.folder("pictures") == tmp_path
