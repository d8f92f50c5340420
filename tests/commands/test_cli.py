"""The command line, as a user meets it: what each command gives, and what each mistake says."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from app.commands.cli import main
from app.sources.base import load_cv2
from tests.shelf_kit import save_graph
from tests.sinks.mqtt.broker import until

ROOT = Path(__file__).parents[2]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    usual = {"env": env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "app", *words], **{**usual, **options})


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and the one line that tells the user."""
    code = main(list(words))
    told = [x for x in capsys.readouterr().err.splitlines() if x.startswith("kestrel: error:")]
    assert len(told) == 1, f"one line, got {told}"
    assert "Traceback" not in told[0]
    return code, told[0]


# --- what works ----------------------------------------------------------------------------------


def test_replay_writes_the_contract_one_line_a_frame(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    source = "pattern:?size=128x96&frames=20&fps=10"
    assert main(["replay", source, "--model", str(tiny_model), "--json", str(out)]) == 0
    got = lines(out)
    assert [line["frame"] for line in got] == list(range(20))
    assert got[3]["media_ms"] == 300 and got[3]["source"] == source
    assert got[3]["size"] == [128, 96]
    assert got[3]["detections"] == [
        {"label": "thing", "class_id": 0, "score": 0.9, "box": [48, 36, 80, 60]}
    ]
    assert list(got[3]) == ["source", "frame", "media_ms", "time", "age_ms", "size", "detections"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", got[3]["time"])


def test_replay_ends_with_a_summary(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "pattern:?frames=12", "--model", str(tiny_model)]) == 0
    told = capsys.readouterr().out
    assert "12 processed" in told and "FPS" in told and "age" in told
    assert re.search(r"energy   (\d+\.\d W on average|unavailable: \w)", told)
    assert re.search(r"seen\s+thing in 12 of 12 frames", told)


def test_two_replays_are_the_same_but_for_time_and_age(tiny_model: Path, tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        out = tmp_path / name
        words = ["replay", "sample:", "--model", str(tiny_model), "--max-frames", "40"]
        assert main([*words, "--json", str(out)]) == 0
        runs.append(
            [{k: v for k, v in line.items() if k not in ("time", "age_ms")} for line in lines(out)]
        )
    assert runs[0] == runs[1] and len(runs[0]) == 40


def test_json_on_stdout_leaves_the_summary_to_stderr(tiny_model: Path) -> None:
    process = start("replay", "pattern:?frames=5", "--model", str(tiny_model), "--json", "-")
    out, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [json.loads(line)["frame"] for line in out.splitlines()] == list(range(5))
    assert "5 processed" in told


def test_a_reader_that_leaves_ends_the_run_cleanly(tiny_model: Path) -> None:
    process = start("replay", "pattern:", "--model", str(tiny_model), "--json", "-")
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert "Traceback" not in told and "Exception" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_in_order(tiny_model: Path, tmp_path: Path, number: int) -> None:
    out, clip = tmp_path / "out.jsonl", tmp_path / "clip.mp4"
    words = ["run", "--headless", "--source", "pattern:?fps=50", "--model", str(tiny_model)]
    process = start(*words, "--json", "-", "--record", str(clip))
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(number)
    rest, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "processed" in told and not out.exists()
    assert all(json.loads(line) for line in rest.splitlines())
    with av.open(str(clip)) as container:
        assert len(list(container.decode(video=0))) >= 5


def test_plain_run_without_display_or_camera_plays_the_sample(tiny_model: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    env.pop("QT_QPA_PLATFORM", None)
    if Path("/dev/video0").exists():
        pytest.skip("this machine has a camera, which plain run would take")
    done = subprocess.run(
        [sys.executable, "-m", "app", "--model", str(tiny_model), "--max-frames", "10"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert "headless, as" in done.stderr and "sample:" in done.stderr
    assert "10 processed" in done.stdout


def test_headless_imports_no_qt(tiny_model: Path) -> None:
    code = (
        "import sys; from app.commands.cli import main\n"
        "code = main(['run', '--headless', '--source', 'pattern:?frames=3&fps=100',"
        f" '--model', {str(tiny_model)!r}])\n"
        "sys.exit(code or ('Qt was imported' if any('Qt' in m for m in sys.modules) else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_live_overload_drops_and_says_so(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "pattern:?size=1280x720&fps=900&frames=400"  # no machine encodes so many
    words = ["run", "--headless", "--source", source, "--model", str(tiny_model)]
    assert main([*words, "--record", str(tmp_path / "clip.mp4")]) == 0
    told = capsys.readouterr().out
    assert "replaced" in told


def test_record_plays_with_one_picture_a_frame(tiny_model: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    words = ["replay", "pattern:?frames=15&size=128x96", "--model", str(tiny_model)]
    assert main([*words, "--record", str(clip)]) == 0
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert len(list(container.decode(video=0))) == 15


def test_isolated_decoding_gives_the_same_lines(tiny_model: Path, tmp_path: Path) -> None:
    runs = []
    for flag in ("--isolate", "--no-isolate"):
        out = tmp_path / flag
        words = ["replay", "sample:", flag, "--max-frames", "20", "--model", str(tiny_model)]
        assert main([*words, "--json", str(out)]) == 0
        runs.append([(x["frame"], x["media_ms"], x["detections"]) for x in lines(out)])
    assert runs[0] == runs[1]


def test_expect_gives_the_verdict(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = tmp_path / "golden.jsonl"
    words = ["replay", "pattern:?frames=8", "--model", str(tiny_model)]
    assert main([*words, "--json", str(golden)]) == 0
    assert main([*words, "--expect", str(golden)]) == 0
    golden.write_text(golden.read_text().replace("thing", "other"))
    code, told = fails(capsys, *words, "--expect", str(golden))
    assert code == 6 and "8 of 8 frames differ" in told


def test_settings_come_from_a_file(tiny_model: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "k.toml", tmp_path / "out.jsonl"
    file.write_text(f'model = "{tiny_model}"\njson = "{out}"\nscore = 0.95\nmax_frames = 4\n')
    assert main(["replay", "pattern:", "--config", str(file)]) == 0
    assert [line["detections"] for line in lines(out)] == [[]] * 4, "0.9 is below the threshold"


@pytest.mark.parametrize("command", ["", "run", "replay", "bench", "models"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0 and "usage" in capsys.readouterr().out


# --- what goes wrong ------------------------------------------------------------------------------


def make_clip(path: Path, frames: int = 60) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(frames):
            picture = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: None, "check the path"),
        (lambda p: p.write_bytes(b""), "empty"),
        (lambda p: p.write_text("not a video\n" * 100), "no video"),
    ],
    ids=["missing", "empty", "text"],
)
def test_a_bad_file_is_a_source_error(
    make: Any, named: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "clip.mp4"
    make(clip)
    code, told = fails(capsys, "replay", str(clip), "--model", str(tiny_model))
    assert code == 3 and "clip.mp4" in told


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_file_is_a_source_error(
    keep: float, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * keep)])
    code, told = fails(capsys, "replay", str(clip), "--model", str(tiny_model))
    assert code == 3 and "clip.mp4" in told


@pytest.mark.parametrize("isolate", ["--isolate", "--no-isolate"])
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_refused_stream_is_a_source_error(
    scheme: str, isolate: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    uri = f"{scheme}://user:secret@127.0.0.1:{port}/stream"
    code, told = fails(
        capsys, "run", "--headless", "--source", uri, isolate, "--model", str(tiny_model)
    )
    assert code == 3 and "refused" in told and "secret" not in told


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_silent_stream_is_a_source_error(
    scheme: str,
    silent_server: int,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = tmp_path / "k.toml"
    settings.write_text("open_timeout_s = 1.0\nread_timeout_s = 1.0\n")
    uri = f"{scheme}://127.0.0.1:{silent_server}/stream"
    words = ["run", "--headless", "--source", uri, "--config", str(settings)]
    code, told = fails(capsys, *words, "--model", str(tiny_model))
    assert code == 3 and "127.0.0.1" in told


def test_a_lost_source_comes_back_unless_told_otherwise(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--headless", "--model", str(tiny_model)]
    words += ["--source", "chaos:disconnect@1+0.5/2:pattern:?size=64x48&fps=50"]
    assert main([*words, "--max-frames", "100"]) == 0  # more than there are before the first loss
    assert "reconnects" in capsys.readouterr().out
    code, told = fails(capsys, *words, "--no-reconnect")
    assert code == 3 and "disconnected" in told


def test_a_source_that_is_not_there_yet_is_waited_for_if_asked(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["run", "--headless", "--model", str(tiny_model), "--max-frames", "5"]
    words += ["--source", "chaos:disconnect@0+1:pattern:?size=64x48&fps=50"]
    code, told = fails(capsys, *words)
    assert code == 3 and "disconnected" in told
    assert main([*words, "--wait"]) == 0
    assert "5 processed" in capsys.readouterr().out
    settings = tmp_path / "k.toml"
    settings.write_text("wait = true\nreconnect = false\n")
    assert main([*words, "--config", str(settings)]) == 2


def test_a_ladder_comes_from_the_file_and_is_checked(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = tmp_path / "k.toml"
    words = ["run", "--headless", "--model", str(tiny_model), "--config", str(settings)]
    words += ["--source", "pattern:?size=64x48&fps=50&frames=10"]
    settings.write_text('max_age_ms = 500\nladder = ["every 2nd frame"]\n')
    assert main(words) == 0
    for wrong in ('ladder = "every 2nd frame"', 'ladder = ["less"]', "ladder = [2]"):
        settings.write_text(f"max_age_ms = 500\n{wrong}\n")
        assert main(words) == 2, wrong
    assert main(["replay", "sample:", "--config", str(settings)]) == 2


def test_a_camera_that_is_not_there(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--headless", "--source", "camera:97", "--model", str(tiny_model)]
    code, told = fails(capsys, *words)
    assert code == 3 and "camera" in told


def test_a_log_level_that_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KESTREL_LOG", "LOUD")
    assert fails(capsys, "models", "list")[0] == 2


def test_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = fails(capsys, "replay", "pattern:?frames=2", "--model", "yolox_nano_417")
    assert code == 4 and "yolox_nano_416" in told


def test_an_onnx_file_that_is_no_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_graph(tmp_path / "net.onnx", {"logits": np.zeros((1, 1000), np.float32)})
    code, _ = fails(capsys, "replay", "pattern:?frames=2", "--model", str(path))
    assert code == 4


def test_a_manifest_with_a_wrong_sha256(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tiny_model.with_suffix(".toml")
    manifest.write_text(f'sha256 = "{"0" * 64}"\n' + manifest.read_text())
    code, told = fails(capsys, "replay", "pattern:?frames=2", "--model", str(tiny_model))
    assert code == 4 and "0000" in told


def test_an_input_size_that_the_graph_refuses(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tiny_model.with_suffix(".toml")
    manifest.write_text(manifest.read_text().replace("[64, 64]", "[96, 96]"))
    code, told = fails(capsys, "replay", "pattern:?frames=2", "--model", str(tiny_model))
    assert code == 4 and "input.size" in told


@pytest.mark.parametrize(
    ("flag", "where"),
    [("--json", "no/such/folder/out"), ("--json", "."), ("--record", "no/such/folder/out.mp4")],
)
def test_an_output_that_cannot_be_written(
    flag: str, where: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / where)
    words = ["replay", "pattern:?frames=2", "--model", str(tiny_model), flag, target]
    assert fails(capsys, *words)[0] == 2


def test_an_output_that_is_the_source_is_refused_and_the_source_untouched(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=5)
    before = clip.read_bytes()
    words = ["replay", str(clip), "--model", str(tiny_model), "--record", str(clip)]
    assert fails(capsys, *words)[0] == 2
    assert clip.read_bytes() == before


def test_a_pipe_that_nobody_reads_does_not_hold_up_a_stop(tiny_model: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    room = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    manifest = tiny_model.with_suffix(".toml")  # the label alone is longer than the pipe
    manifest.write_text(manifest.read_text().replace("thing", "x" * room))
    words = ("replay", "pattern:", "--model", str(tiny_model), "--json", "-")
    with (tmp_path / "told").open("w+") as told:
        process = start(*words, stdout=writing, stderr=told)

        def filled() -> bool:
            held = fcntl.ioctl(reading, termios.FIONREAD, struct.pack("i", 0))
            return struct.unpack("i", held)[0] == room

        until(filled, 120)
        process.terminate()
        assert process.wait(60) == 2
        told.seek(0)
        assert told.read().count("kestrel: error:") == 1
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("words", [["replay", "pattern:?frames=3"], ["models", "list"]])
@pytest.mark.parametrize(("out", "code"), [("/dev/full", 2), ("closed", 0)])
def test_a_standard_output_that_takes_nothing(
    words: list[str], out: str, code: int, tiny_model: Path
) -> None:
    model = ["--model", str(tiny_model)] if words[0] == "replay" else []
    command = [sys.executable, "-m", "app", *words, *model]
    shell = f'"$@" {">&-" if out == "closed" else ">" + out}'
    done = subprocess.run(
        ["bash", "-c", shell, "-", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.25])
def test_a_signal_while_starting_ends_in_order(after_s: float, tiny_model: Path) -> None:
    process = start("bench", "--model", str(tiny_model), "--seconds", "60")
    time.sleep(0.05 + after_s)
    process.terminate()
    _, told = process.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGTERM), (
        told
    )  # -15: before Python ran any of our code
    assert "Traceback" not in told and "terminate called" not in told


def test_a_run_that_fails_late_still_says_what_it_saw(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "clip.mkv")
    golden = tmp_path / "golden.jsonl"
    golden.write_text('{"frame": 0, "detections": []}\n')
    words = ["replay", str(clip), "--model", str(tiny_model), "--expect", str(golden)]
    assert main(words) == 6
    assert "60 processed" in capsys.readouterr().out


def test_a_full_disk_for_json_lines(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["replay", "pattern:", "--model", str(tiny_model), "--json", "/dev/full"]
    code, told = fails(capsys, *words)
    assert code == 2 and "full" in told


def test_a_disk_that_fills_while_recording_leaves_a_playable_file(
    tiny_model: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); "
    words = ["replay", "pattern:?size=640x480", "--model", str(tiny_model), "--record", str(clip)]
    code = limit + f"import sys; from app.commands.cli import main; sys.exit(main({words!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "stay playable" in done.stderr
    capture, played = load_cv2().VideoCapture(str(clip)), 0
    while capture.read()[0]:
        played += 1
    capture.release()
    assert played > 10


@pytest.mark.parametrize(
    "words",
    [
        ["replay"],
        ["run", "--engine", "gpu"],
        ["run", "--no-such-flag"],
        ["fly"],
        ["replay", "pattern:", "--max-fr", "5"],
    ],
)
def test_wrong_usage_exits_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["rnu"], "'run'"),
        (["models", "lst"], "'list'"),
        (["--devces", "0,1"], "'--devices'"),
        (["run", "--no-reconect"], "'--no-reconnect'"),
        (["replay", "sample:", "--score=1", "--max-fr=5"], "'--max-frames'"),
        (["bench", "--engine", "ort-cud"], "'ort-cuda'"),
    ],
)
def test_what_is_misspelt_is_answered_with_what_was_meant(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and f"did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["run"], ["run", "--score", "0.4"]])
def test_a_bare_source_is_run(
    words: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip").symlink_to(make_clip(tmp_path / "clip.mp4", frames=3))
    monkeypatch.chdir(tmp_path)
    for source in ("pattern:?frames=3&fps=50", "clip.mp4", "clip"):
        more = ["--headless", "--model", str(tiny_model), "--json", "out.jsonl", "--overwrite"]
        assert main([*words, source, *more]) == 0
        assert lines(tmp_path / "out.jsonl")


def test_a_missing_extra_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    code, told = fails(capsys, "fleet", "status")
    assert code == 2 and "fleet" in told


def test_a_replay_takes_headless(tiny_model: Path) -> None:
    assert main(["replay", "pattern:?frames=2", "--headless", "--model", str(tiny_model)]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--headless", "--source", "ftp://host/clip", "--max-frames", "1"],
        ["replay", "pattern:?size=big"],
        ["replay", "pattern:?frames=2", "--score", "7"],
        ["replay", "pattern:?frames=2", "--engine", "cpu", "--precision", "fp16"],
        ["replay", "camera:0"],
        ["replay", "gst:videotestsrc"],
        ["replay", "chaos:7:sample:"],
        ["run", "--source", "chaos:sulk@1+2:sample:"],
        ["run", "--source", "rtsp://h/x?rtsp_transport=pigeon"],
        ["replay", "pattern:?frames=2", "--config", "/no/such/file.toml"],
    ],
)
def test_wrong_settings_exit_with_2(
    words: list[str], tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails(capsys, *words, "--model", str(tiny_model))[0] == 2


# --- the window -----------------------------------------------------------------------------------


def run_with_window(tiny_model: Path, env: dict[str, str], *words: str) -> tuple[int, str, str]:
    process = start(
        "run", "--source", "pattern:?fps=60&frames=60", "--model", str(tiny_model), *words, env=env
    )
    out, told = process.communicate(timeout=60)
    return process.returncode, out, told


def offscreen(tmp_path: Path) -> dict[str, str]:
    """A window that nobody sees, with settings of its own."""
    own = {"QT_QPA_PLATFORM": "offscreen", "XDG_CONFIG_HOME": str(tmp_path)}
    return {**os.environ, **own, "PYTHONPATH": str(ROOT)}


def test_a_run_with_a_window_and_an_output_ends_with_its_source(
    tiny_model: Path, tmp_path: Path
) -> None:
    out_file = tmp_path / "out.jsonl"
    code, out, told = run_with_window(tiny_model, offscreen(tmp_path), "--json", str(out_file))
    assert code == 0, told
    assert "headless" not in told and "processed" in out
    lines = [json.loads(line) for line in out_file.read_text().splitlines()]
    assert lines  # which ones depends on the load
    assert lines[0]["detections"][0]["label"] == "thing"


def test_max_frames_counts_in_a_window_too(tiny_model: Path, tmp_path: Path) -> None:
    code, out, told = run_with_window(tiny_model, offscreen(tmp_path), "--max-frames", "7")
    assert code == 0, told
    assert "7 processed" in out


def test_a_headless_run_starts_without_qt_and_heavy_modules() -> None:
    heavy = {"PyQt5", "pyqtgraph", "onnxruntime", "onnx", "openvino", "av", "pycuda", "psutil"}
    heavy |= {"aiohttp", "paho", "prometheus_client", "pynvml", "pycocotools", "lap", "torch"}
    code = "import sys, app.commands.cli, app.runtime.run, app.commands.bench; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not heavy & set(done.stdout.split())
