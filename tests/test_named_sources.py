"""What several sources are called."""

from __future__ import annotations

import pytest

from app.config import MOST, Config, make_config, parse_sources
from app.core.errors import ConfigError


def test_names_are_given_or_numbers() -> None:
    texts = ["front=rtsp://a/b?x=1", "camera:0", "/a=b/clip.mp4", "pattern:?fps=5"]
    assert parse_sources(texts) == (
        ("front", "rtsp://a/b?x=1"),
        ("2", "camera:0"),
        ("3", "/a=b/clip.mp4"),
        ("4", "pattern:?fps=5"),
    )


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a=pattern:", "a=sample:"], "two sources are called 'a'"),
        (["2=pattern:", "sample:"], "two sources are called '2'"),
        (["pattern:"] * (MOST + 1), "more than"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config(sources=tuple(texts))


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as told:
        parse_sources(["a=sample:", "a=rtsp://user:hush@host/x"])
    assert "hush" not in str(told.value)


def test_one_or_several_but_not_both_and_the_flag_wins(tmp_path) -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        Config(source="sample:", sources=("pattern:",))
    file = tmp_path / "kestrel.toml"
    file.write_text('sources = ["front=pattern:", "back=pattern:"]\n')
    assert list(make_config({}, file).sources) == ["front=pattern:", "back=pattern:"]
    config = make_config({"source": "sample:"}, file)
    assert config.source == "sample:" and not config.sources


def test_a_trace_is_of_one_source() -> None:
    with pytest.raises(ConfigError, match="trace records one source"):
        Config(sources=("pattern:", "pattern:"), trace="x")


def test_a_single_source_may_have_a_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_config({"sources": ["front=pattern:"]}).sources == ("front=pattern:",)
    assert make_config({"sources": ["pattern:?fps=5"]}).source == "pattern:?fps=5"
    (tmp_path / "a=b.mp4").touch()
    assert make_config({"sources": ["a=b.mp4"]}).source == "a=b.mp4"


def test_what_is_looked_at_and_what_is_recorded_of_it(tmp_path) -> None:
    file = tmp_path / "kestrel.toml"
    file.write_text('[source]\ndetect = "rtsp://c/low"\nrecord = "rtsp://c/high"\n')
    config = make_config({}, file)
    assert (config.source, config.record_source("")) == ("rtsp://c/low", "rtsp://c/high")
    assert make_config({"source": "sample:"}, file).record_source("") is None
    file.write_text(
        '[source.front]\ndetect = "rtsp://c/low"\nrecord = "rtsp://c/high"\n'
        '[source.yard]\ndetect = "camera:0"\n'
    )
    config = make_config({}, file)
    assert list(config.sources) == ["front=rtsp://c/low", "yard=camera:0"]
    assert config.record_source("front") == "rtsp://c/high"
    assert config.record_source("yard") is None
    for given in ("back=rtsp://c/high", "rtsp://c/high"):  # of which of the two?
        with pytest.raises(ConfigError, match="front, yard"):
            make_config({"record_sources": [given]}, file)
    with pytest.raises(ConfigError, match="only one has no name"):
        make_config({"sources": ["pattern:"], "record_sources": ["nobody=rtsp://c/high"]})
    file.write_text('[source]\nrecord = "rtsp://c/high"\n')
    with pytest.raises(ConfigError, match="lacks detect"):
        make_config({}, file)
