"""`--check`: a sound configuration gives 0, every fault is told at once and gives 2."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from app.commands.cli import main


def test_a_sound_configuration_is_told_without_opening_anything(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "k.toml"
    settings.write_text(f'source = "rtsp://user:secret@192.0.2.1/live"\nmodel = "{tiny_model}"\n')
    assert main(["run", "--config", str(settings), "--check"]) == 0
    told = capsys.readouterr().out
    assert "sound: rtsp://***@192.0.2.1/live" in told and "secret" not in told


def test_the_default_model_and_the_first_camera_are_sound() -> None:
    assert main(["run", "--check"]) == 0
    assert main(["replay", "sample:", "--check"]) == 0


def test_every_fault_is_told_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["--source", "camera:nowhere", "--model", "none", "--json", str(tmp_path / "a" / "b")]
    with caplog.at_level(logging.ERROR):
        assert main(["run", "--check", *words]) == 2
    told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 3
    for each, word in zip(told, ("camera:nowhere is no camera", "folder", "no model"), strict=True):
        assert word in each


@pytest.mark.parametrize(
    ("text", "named"),
    [("sorce = 'x'", "did you mean 'source'"), ("score = 3", "score is 3"), ("= 1", "not valid")],
)
def test_a_wrong_file_is_told(
    tmp_path: Path, text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "k.toml"
    settings.write_text(text)
    assert main(["run", "--config", str(settings), "--check"]) == 2
    assert named in capsys.readouterr().err


def test_weights_that_are_not_what_the_manifest_says_are_a_fault(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = tiny_model.with_suffix(".toml")
    manifest.write_text(f'sha256 = "{"0" * 64}"\n{manifest.read_text()}')
    assert main(["run", "--check", "--model", str(tiny_model)]) == 2
    assert "its sha256 is" in caplog.text


def test_weights_that_are_still_to_be_fetched_are_told_but_no_fault(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_model.unlink()
    manifest = tiny_model.with_suffix(".toml")
    assert main(["run", "--check", "--model", str(manifest)]) == 0
    assert "weights are not here yet" in caplog.text


@pytest.mark.parametrize(
    "words",
    [
        ["replay", "camera:0"],
        ["replay", "sample:", "--max-age-ms", "50"],
        ["replay", "sample:", "--expect", "{tmp}/none.jsonl"],
        ["replay", "sample:", "--trace", "{tmp}/none.jsonl"],
        ["replay", "{tmp}/none.mp4"],
        ["run", "--http", "0.0.0.0:8080"],
        ["run", "--http", "8080", "--http-cert-file", "{tmp}/none.pem"],
        ["run", "--mqtt", "ftp://host/topic"],
        ["run", "--webhook", "ftp://host/"],
        ["run", "--webhook", "http://u:\udcff@127.0.0.1:9/"],
        ["run", "--json", "{tmp}/a", "--trace", "{tmp}/a"],
        ["run", "--source", "sample:", "--source", "pattern:", "--record", "{tmp}/clip.mp4"],
        ["run", "--source=a=sample:", "--source=b=pattern:", "--devices=0", "--http=8080"],
        ["run", "--engine", "cpu", "--transfer", "pinned"],
    ],
)
def test_what_a_run_would_refuse_is_refused(words: list[str], tmp_path: Path) -> None:
    given = [word.format(tmp=tmp_path) for word in words]
    assert main([*given, "--check"]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--json", "{tmp}"],
        ["run", "--events", "{tmp}/none/e.jsonl"],
        ["run", "--trace", "{tmp}/none/t.jsonl"],
        ["run", "--json", "{tmp}/" + "x" * 300],
        ["run", "--record", "{tmp}/file/"],
        ["run", "--clips", "{tmp}/file"],
        ["run", "--clips", "{tmp}/file/clips"],
        ["run", "--track", "--snapshots", "{tmp}/file"],
        ["run", "--track", "--snapshots", "{tmp}/file/best"],
        ["run", "--http", "{port}"],
        ["run", "--http", "192.0.2.1:8080", "--http-token", "long-enough"],
        ["run", "--webhook", "http://a..b/"],
        ["run", "--mqtt", "mqtt://host:99999999/k"],
        ["run", "--mqtt", "mqtt://u@host/k", "--mqtt-password-file", "{tmp}/none"],
        ["run", "--mqtt", "mqtts://host/k", "--mqtt-ca-file", "{tmp}/none"],
    ],
)
def test_an_output_that_cannot_be_is_refused_as_a_run_does(
    words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        given = [word.format(tmp=tmp_path, port=port) for word in words]
        assert main([*given, "--check"]) == 2
        told = [each.message for each in caplog.records if each.levelno == logging.ERROR]
        assert len(told) == 1, "once, and nothing else"
        assert [each.name for each in tmp_path.iterdir()] == ["file"], "nothing is written"
        assert main([*given, "--headless", "--source", "pattern:?frames=3"]) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert main(["run", "--check", "--json", str(tmp_path / "a")]) == 2


@pytest.mark.parametrize("flag", [["--events-labels", "persn"], ["--config", "{tmp}/zone.toml"]])
def test_a_label_that_is_mistyped_is_told_with_the_nearest(
    flag: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "zone.toml").write_text(
        '[[zone]]\nname = "a"\npoints = [[0, 0], [1, 0], [1, 1]]\nlabels = ["persn"]\n'
    )
    assert main(["run", "--check", *(word.format(tmp=tmp_path) for word in flag)]) == 2
    assert "did you mean 'person'" in caplog.text


def test_a_damaged_network_is_refused(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_model.write_bytes(tiny_model.read_bytes()[:-100])
    assert main(["run", "--check", "--model", str(tiny_model), "--engine", "cpu"]) == 2


@pytest.mark.parametrize("flag", ["--json", "--events", "--record"])
@pytest.mark.parametrize("command", ["run --headless", "replay"])
def test_a_file_is_replaced_only_with_overwrite(
    tiny_model: Path, tmp_path: Path, command: str, flag: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "out.mp4"
    source = "pattern:?size=64x48&frames=3&fps=50"
    given = ["--source", source] if command.startswith("run") else [source]
    words = [*command.split(), *given, "--model", str(tiny_model), flag, str(file)]
    assert main([*words, "--check"]) == 0 and main(words) == 0
    before = file.read_bytes()
    assert before and main([*words, "--check"]) == 2 and main(words) == 2
    assert "--overwrite" in caplog.text and file.read_bytes() == before
    file.write_bytes(b"another")
    words.append("--overwrite")
    assert main([*words, "--check"]) == 0 and main(words) == 0
    assert file.read_bytes() not in (b"another", b"")


def test_boxes_beside_a_recording_are_not_replaced_unasked(
    tiny_model: Path, tmp_path: Path
) -> None:
    boxes = tmp_path / "out.jsonl"
    boxes.write_text("dear\n")
    words = ["run", "--headless", "--source", "sample:", "--model", str(tiny_model)]
    words += ["--record", str(tmp_path / "out.mp4"), "--max-frames", "5"]
    assert main([*words, "--check"]) == 2 and main(words) == 2
    assert boxes.read_text() == "dear\n"
    assert main([*words, "--burn-in", "--check"]) == 0
    assert main([*words, "--overwrite"]) == 0
    assert "at_ms" in boxes.read_text()


def test_json_may_stand_for_the_boxes_beside_a_recording(tiny_model: Path, tmp_path: Path) -> None:
    words = ["run", "--headless", "--source", "sample:", "--model", str(tiny_model)]
    words += ["--record", str(tmp_path / "out.mp4"), "--json", str(tmp_path / "out.jsonl")]
    assert main([*words, "--max-frames", "5"]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ([], 0),
        (["--motion-floor-s", "8.5"], 2),  # and 2 s to the next look: above read_timeout_s
        (["--motion-floor-s", "20", "--read-timeout-s", "60"], 0),
        (["--motion-floor-s", "20", "--read-timeout-s", "60", "--http", "0"], 2),  # stale_s
        (["--motion-floor-s", "20", "--read-timeout-s", "60", "--http", "0", "--no-motion"], 0),
    ],
)
def test_a_camera_at_rest_is_never_called_lost_or_unhealthy(more: list[str], code: int) -> None:
    words = ["run", "--check", "--source", "rtsp://192.0.2.1/live", "--headless", "--motion", *more]
    assert main(words) == code
