"""Configuration: flags over file over defaults, and every mistake is named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from app.commands.cli import add_flags, config_of
from app.config import SETTINGS, Config, Setting, make_config
from app.core.errors import ConfigError
from scripts.make_config_docs import PAGE, page


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = write(tmp_path / "k.toml", 'source = "pattern:"\nscore = 0.5\niou = 0.3\n')
    config = make_config({"score": 0.9}, file)
    assert (config.source, config.score, config.iou) == ("pattern:", 0.9, 0.3)
    assert config.engine == "auto"


def test_defaults_need_no_file() -> None:
    assert make_config({}) == Config()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sorce = 'a'", "did you mean 'source'"),
        ("zzzzzz = 1", "known are"),
        ("score = 'high'", "'high' is no number"),
        ("score = true", "score must be a number"),
        ("max_frames = 1.5", "max_frames must be a whole number"),
        ("max_frames = true", "max_frames must be a whole number"),
        ("headless = 1", "headless must be true or false"),
        ("score = 2", "score is 2"),
        ("engine = 'gpu'", "engine is 'gpu'"),
        ("score = ", "not valid TOML"),
        ("[mqtt]\nurll = 'x'", r"\[mqtt\]: 'urll' is not a setting; did you mean 'url'"),
        ("[mqtt]\nspool_mb = 'big'", "spool_mb must be a number"),
        ("[mqtt]\nspool_mb = 0", r"spool_mb in \[mqtt\] is 0"),
        ("[http]\njpeg_quality = true", "jpeg_quality must be a whole number"),
        ("[events]\nlabels = ['person', 1]", "labels must be a list of texts"),
        ("clips = 5", "clips must be a table"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make_config({}, write(tmp_path / "k.toml", text))


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = "scroe = 1\niou = 7\nheadless = 1\n[store]\npath = 's'\nkeep_hours = -1\nfoo = 2\n"
    with pytest.raises(ConfigError) as caught:
        make_config({"max_frames": 0}, write(tmp_path / "k.toml", text))
    told = [str(each) for each in caught.value.each]
    assert len(told) == 6, told
    for key in ("scroe", "iou", "headless", "keep_hours", "foo", "max_frames"):
        assert any(key in each for each in told), key


def test_a_file_with_withdrawn_keys_still_runs_and_they_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "k.toml", "[events]\nappear_frames = 1\ngone_s = 0.1\nlabels = ['cat']")
    assert list(make_config({}, file).events.labels or ()) == ["cat"]
    assert "confirm_score" in caplog.text
    assert "lost_s" in caplog.text


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read --config"):
        make_config({}, tmp_path / "none.toml")


@pytest.mark.parametrize(
    "flags",
    [{"max_frames": 0}, {"max_age_ms": -1.0}, {"score": 1.1}, {"iou": -0.1}, {"threads": 0}],
)
def test_values_out_of_range_are_refused(flags: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must lie between"):
        make_config(flags)


def test_a_flag_and_a_plain_name_in_the_file_are_the_first_key_of_a_table(tmp_path: Path) -> None:
    text = (
        'record = "out.mp4"\n[mqtt]\nurl = "mqtt://file"\nspool_mb = 5\n[events]\nlabels = ["dog"]'
    )
    config = make_config(
        {"mqtt": "mqtt://flag", "http.token": "t0ken"}, write(tmp_path / "k", text)
    )
    assert config.record.path == "out.mp4" and config.events.labels == ["dog"]
    assert (config.mqtt.url, config.mqtt.spool_mb) == ("mqtt://flag", 5)
    assert config.http.token == "t0ken" and config.http.address is None


def test_what_may_be_secret_is_not_in_the_text_of_a_config() -> None:
    config = make_config({"mqtt": "S3CRET", "http.token": "S3CRET", "webhook": "S3CRET"})
    assert "S3CRET" not in repr(config)


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.make_config_docs"


COMMANDS = ("run", "replay", "bench", "soak", "archive")


def test_every_key_has_a_flag_of_its_own_and_a_help() -> None:
    for command in COMMANDS:
        flags = [each.flag for each in SETTINGS if command in each.key.commands]
        assert len(set(flags)) == len(flags)
    tables = ("zone", "line", "mask", "rule", "privacy", "filter")  # which no flag can hold
    assert all(each.key.help for each in SETTINGS)
    assert all(each.key.commands for each in SETTINGS if each.path not in tables)
    assert {word for each in SETTINGS for word in each.key.commands} == set(COMMANDS)


SWITCHES = [each for each in SETTINGS if each.kind == "bool"]


@pytest.mark.parametrize("setting", SWITCHES, ids=lambda each: each.path)
@pytest.mark.parametrize("wanted", [True, False])
def test_a_switch_wins_over_the_file_both_ways(
    tmp_path: Path, setting: Setting, wanted: bool
) -> None:
    key = f"{setting.name} = {str(not wanted).lower()}"
    file = write(tmp_path / "k.toml", f"[{setting.table}]\n{key}" if setting.table else key)
    flag = setting.flag if wanted else f"--no-{setting.flag[2:]}"
    for command in setting.key.commands:
        parser = argparse.ArgumentParser()
        add_flags(parser, command)
        config = config_of(parser.parse_args([flag, "--config", str(file)]))
        holder = getattr(config, setting.table) if setting.table else config
        assert getattr(holder, setting.name) is wanted


def test_flags_that_are_not_given_leave_the_file_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "k.toml", 'sources = ["a=sample:", "b=sample:"]\nwait = true')
    parser = argparse.ArgumentParser()
    add_flags(parser, "run")
    words = ["--mqtt-spool-mb", "5", "--ladder", "every 2nd frame", "--max-age-ms", "90"]
    config = config_of(parser.parse_args([*words, "--config", str(file)]))
    assert config.wait and len(config.sources) == 2
    assert config.mqtt.spool_mb == 5 and config.ladder == ("every 2nd frame",)


@pytest.mark.parametrize(
    "given",
    [
        {"webhook": "http://S3CRET:\udcff@h/"},
        {"mqtt": "mqtt://S3CRET:\udcff@h/"},
        {"source": "rtsp://S3CRET:\udcff@h/"},
        {"sources": ["a=rtsp://S3CRET:\udcff@h/", "sample:"]},
    ],
)
def test_an_address_that_is_not_utf8_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="percent-encoded") as caught:
        make_config(given)
    assert "S3CRET" not in str(caught.value)
