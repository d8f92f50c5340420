"""A recording shows what was seen, and survives what happens to recordings."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from app.core.detections import Result
from app.core.errors import ConfigError, SinkError
from app.core.frame import Frame, SourceInfo
from app.core.overlay import colour_of
from app.sinks.video import VideoFileSink
from tests.sinks.kit import CAMERA, CLIP, LABELS, found, gray, python, result, textured


def record(path: Path, *results: Result, source: SourceInfo = CLIP, labels=LABELS) -> None:
    sink = VideoFileSink(path)
    sink.open(source, labels)
    for each in results:
        sink.emit(each)
    sink.close()


def played(path: Path) -> list[av.VideoFrame]:
    """All frames that can be decoded, up to where the file is torn."""
    frames = []
    with av.open(str(path)) as container:
        decoded = container.decode(video=0)
        with contextlib.suppress(av.FFmpegError):
            for frame in decoded:
                frames.append(frame)
    return frames


def opencv_count(path: Path) -> int:
    capture, frames = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        frames += 1
    capture.release()
    return frames


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "MP4"])
def test_recording_plays_back_whole(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"o.{ending}"
    record(path, *(result(i, pixels=textured(i)) for i in range(30)))
    frames = played(path)
    assert len(frames) == opencv_count(path) == 30
    assert (frames[0].width, frames[0].height, frames[0].format.name) == (320, 240, "yuv420p")
    assert [round(float(f.time), 3) for f in frames] == [round(i * 0.04, 3) for i in range(30)]
    for i in (0, 15, 29):
        off = frames[i].to_ndarray(format="bgr24").astype(int) - textured(i)
        assert np.sqrt((off**2).mean()) < 9


def test_mp4_is_laid_out_as_browsers_play_it(tmp_path: Path) -> None:
    """Tried in Chromium: it plays, seeks, and plays what a killed process left."""
    record(tmp_path / "o.mp4", *(result(i, pixels=textured(i)) for i in range(60)))
    data, boxes, at = (tmp_path / "o.mp4").read_bytes(), [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append((data[at + 4 : at + 8].decode(), data[at : at + size]))
        at += size
    # what the file is comes before its frames, then fragments that are complete in themselves
    kinds = [kind for kind, _ in boxes if kind != "mfra"]
    assert kinds == ["ftyp", "moov", *["moof", "mdat"] * ((len(kinds) - 2) // 2)]
    assert len(kinds) > 4
    moov = boxes[1][1]
    assert b"avc1" in moov and b"mvex" in moov
    profile = moov[moov.index(b"avcC") + 5]
    assert profile in (66, 77, 100)  # Baseline, Main, High: no browser takes 4:4:4 or 10 bits


def test_boxes_are_drawn_where_they_are_and_the_frame_is_untouched(tmp_path: Path) -> None:
    path, pixels = tmp_path / "o.mp4", gray()
    detections = found((0, 0.9, 100, 80, 200, 180), keypoints=[[[150, 130]]])
    pixels.setflags(write=False)
    record(path, result(0, detections, pixels), result(1, detections, pixels))
    assert (pixels == 128).all()
    shown = played(path)[0].to_ndarray(format="rgb24").astype(int)
    person = np.array(colour_of(0))
    for y, x in ((130, 100), (130, 199), (80, 190), (179, 150), (130, 150)):
        assert np.abs(shown[y, x] - person).max() < 70, (y, x, shown[y, x])
    for y, x in ((130, 110), (130, 90), (130, 208), (190, 150), (130, 163)):
        assert np.abs(shown[y, x] - 128).max() < 25, (y, x, shown[y, x])
    strip = shown[65:79, 101:150]  # label and score above the box
    assert (np.abs(strip - person).max(axis=2) < 60).any() and (strip.max(axis=2) < 60).any()


def test_colours_keep_their_value(tmp_path: Path) -> None:
    pixels = gray()
    pixels[:] = (40, 90, 200)
    record(tmp_path / "o.mp4", result(0, pixels=pixels))
    shown = played(tmp_path / "o.mp4")[0].to_ndarray(format="bgr24").astype(int)
    assert np.abs(shown - (40, 90, 200)).max() <= 4


def test_odd_size_gets_one_more_row_and_column(tmp_path: Path) -> None:
    record(tmp_path / "o.mp4", result(0, pixels=textured(0, 161, 121)))
    frame = played(tmp_path / "o.mp4")[0]
    assert (frame.width, frame.height) == (162, 122)


def test_change_of_size_is_letterboxed_into_the_first(tmp_path: Path) -> None:
    white = gray(100, 200, level=255)
    record(tmp_path / "o.mp4", result(0), result(1, found((0, 0.9, 20, 50, 80, 150)), white))
    first, second = (f.to_ndarray(format="gray").astype(int) for f in played(tmp_path / "o.mp4"))
    assert first.shape == second.shape == (240, 320)
    assert second[:, :95].max() < 30 and second[:, 225:].max() < 30  # black on both sides
    assert second[10, 160] > 240 and second[230, 160] > 240


def test_live_time_stamps_are_those_of_capture(tmp_path: Path) -> None:
    times_ns = [7_000_000_000, 7_033_000_000, 7_500_000_000, 7_512_000_000]
    results = [
        Result(Frame(textured(i), i, t), result().detections, 0) for i, t in enumerate(times_ns)
    ]
    record(tmp_path / "o.mp4", *results, source=CAMERA)
    times = [float(f.time) for f in played(tmp_path / "o.mp4")]
    assert np.allclose(times, [0, 0.033, 0.5, 0.512], atol=0.0001)


def test_time_stamps_rise_when_a_clip_starts_again(tmp_path: Path) -> None:
    indices = [0, 1, 2, 0, 1, 1, 2]
    record(tmp_path / "o.mp4", *(result(i, pixels=textured(i)) for i in indices))
    stamps = [f.pts for f in played(tmp_path / "o.mp4")]
    assert len(stamps) == 7 and stamps == sorted(set(stamps))
    assert stamps[-1] * played(tmp_path / "o.mp4")[0].time_base == Fraction(6, 25)


def test_keyframes_come_by_the_clock_at_any_frame_rate(tmp_path: Path) -> None:
    results = [
        Result(Frame(textured(i), i, i * 500_000_000), result().detections, 0) for i in range(12)
    ]
    record(tmp_path / "o.mp4", *results, source=CAMERA)
    keys = [float(f.time) for f in played(tmp_path / "o.mp4") if f.key_frame]
    assert keys == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_fps_is_the_sources_unless_given(tmp_path: Path) -> None:
    for name, fps, expected in (("a.mp4", None, 25), ("b.mp4", 10.0, 10)):
        sink = VideoFileSink(tmp_path / name, fps)
        sink.open(CLIP, LABELS)
        step_ns = 1_000_000_000 // expected
        for i in range(20):
            sink.emit(Result(Frame(gray(), i, 0, i * step_ns), result().detections, 0))
        sink.close()
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].guessed_rate == expected


def test_label_and_keypoints_out_of_the_ordinary_end_no_recording(tmp_path: Path) -> None:
    wild = [[[np.nan, np.inf], [-1e30, 1e30], [500, 10]]]
    detections = found((0, 0.9, -50, -50, 400, 300), keypoints=wild)
    record(tmp_path / "o.mp4", result(0, detections), labels=["猫 é\n"])
    assert len(played(tmp_path / "o.mp4")) == 1


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("gray8", (60, 80)), ("bgra8", (60, 80, 4)), ("yuyv", (60, 80, 2)), ("i420", (90, 80))],
)
def test_other_pixel_layouts_are_recorded(tmp_path: Path, layout, shape) -> None:
    frame = Frame(np.full(shape, 128, np.uint8), 0, 0, 0, layout)
    record(tmp_path / "o.mp4", Result(frame, result().detections, 0))
    shown = played(tmp_path / "o.mp4")[0].to_ndarray(format="bgr24").astype(int)
    assert shown.shape == (60, 80, 3) and np.abs(shown - 129).max() < 6


def test_file_cut_in_the_middle_plays_up_to_there(tmp_path: Path) -> None:
    for ending in ("mp4", "mkv"):
        path = tmp_path / f"o.{ending}"
        record(path, *(result(i, pixels=textured(i)) for i in range(200)))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 6 // 10])
        assert len(played(path)) >= 100
        assert opencv_count(path) >= 100


RUN = """
import os, resource, signal, sys
from app.sinks.video import VideoFileSink
from tests.sinks.kit import CLIP, LABELS, result, textured
path, limit, kill_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sink = VideoFileSink(path)
files = len(os.listdir("/proc/self/fd"))
sink.open(CLIP, LABELS)
try:
    for i in range(400):
        if i == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sink.emit(result(i, pixels=textured(i)))
    sink.close()
except Exception as error:
    sys.stderr.write(f"{type(error).__name__}: {error}\\n")
sink.close()
sys.stderr.write(f"files left open: {len(os.listdir('/proc/self/fd')) - files}\\n")
"""


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_killed_process_leaves_all_but_the_last_seconds(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"o.{ending}"
    assert python(RUN, str(path), "0", "180").returncode == -signal.SIGKILL
    assert len(played(path)) >= 150  # 180 less two seconds, at keyframes of 50
    assert opencv_count(path) >= 150


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_disk_full_while_recording_leaves_a_playable_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"o.{ending}"
    done = python(RUN, str(path), "100000", "-1")
    error, files = done.stderr.splitlines()
    assert error.startswith("SinkError: recording to") and "stay playable" in error
    assert "reached the size limit; raise it" in error
    assert files == "files left open: 0"
    assert path.stat().st_size <= 100_000
    assert len(played(path)) > 10
    assert opencv_count(path) > 10


FILL = """
import json, resource, sys
from app.core.errors import SinkError
from app.sinks.video import VideoFileSink
from tests.sinks.kit import CLIP, LABELS, result, textured
folder, ending, limits = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
results = [result(i, pixels=textured(i, 64, 48)) for i in range(90)]
told = {}
for limit in limits:
    sink = VideoFileSink(f"{folder}/{limit}.{ending}")
    sink.open(CLIP, LABELS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        for each in results:
            sink.emit(each)
        sink.close()
        told[limit] = ""
    except SinkError as error:
        told[limit] = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(told))
"""


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_wherever_the_disk_is_full_the_frames_told_can_be_played(
    tmp_path: Path, ending: str
) -> None:
    whole = tmp_path / f"whole.{ending}"
    record(whole, *(result(i, pixels=textured(i, 64, 48)) for i in range(90)))
    size = whole.stat().st_size
    limits = [10, 600, *(size * i // 20 for i in range(1, 20)), size - 30, size - 1]
    done = python(FILL, str(tmp_path), ending, json.dumps(limits))
    assert not done.stderr
    kept = []
    for limit, told in json.loads(done.stdout).items():
        path = tmp_path / f"{limit}.{ending}"
        if not path.exists():
            assert told.endswith("none of them was written whole, so the file is removed")
            continue
        with av.open(str(path)) as container:
            frames = len(list(container.decode(video=0)))  # raises where the file is torn
        kept.append(frames)
        if not told:  # only the index behind the last frame is torn, which players do without
            assert frames == 90
            continue
        assert "reached the size limit" in told
        assert re.search(rf"; the first {frames} of them stay playable$", told), (limit, told)
    # a piece holds a second: three of 25 frames (a cluster may hold one more), and what is left
    assert kept == sorted(kept) and len(set(kept)) == 4 and kept[-1] == 90


def test_file_that_was_moved_away_meanwhile_is_whole(tmp_path: Path) -> None:
    sink = VideoFileSink(tmp_path / "o.mp4")
    sink.open(CLIP, LABELS)
    for i in range(30):
        sink.emit(result(i, pixels=textured(i)))
    (tmp_path / "o.mp4").rename(tmp_path / "moved.mp4")
    sink.close()
    assert len(played(tmp_path / "moved.mp4")) == 30


def test_earlier_recording_outlives_one_that_cannot_begin(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    record(path, result())
    before = path.read_bytes()
    with pytest.raises(SinkError, match=r"cannot record to .*16386x2 px"):
        record(path, result(pixels=gray(16386, 2)))
    assert path.read_bytes() == before


def test_frames_too_wide_for_the_encoder_are_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("app.sinks.video.MAX_SIDE_PX", 1 << 20)  # so that libav itself refuses
    with pytest.raises(SinkError, match="libav refused"):
        record(tmp_path / "o.mp4", result(pixels=gray(16386, 2)))
    assert not list(tmp_path.iterdir())


def test_pipe_or_device_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "null.mkv").symlink_to("/dev/null")
    for name, kind in (("pipe.mp4", "pipe"), ("null.mkv", "device")):
        with pytest.raises(SinkError, match=f"it is a {kind}, .*regular file; name another"):
            VideoFileSink(tmp_path / name).open(CLIP, LABELS)


def test_run_without_frames_leaves_no_file(tmp_path: Path) -> None:
    record(tmp_path / "o.mp4")
    assert not list(tmp_path.iterdir())


def test_run_without_frames_leaves_an_earlier_recording(tmp_path: Path) -> None:
    record(tmp_path / "o.mp4", result())
    before = (tmp_path / "o.mp4").read_bytes()
    record(tmp_path / "o.mp4")
    assert (tmp_path / "o.mp4").read_bytes() == before


def test_shorter_run_replaces_a_longer_one(tmp_path: Path) -> None:
    record(tmp_path / "o.mp4", *(result(i, pixels=textured(i)) for i in range(60)))
    record(tmp_path / "o.mp4", result())
    assert len(played(tmp_path / "o.mp4")) == 1


def test_unknown_ending_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"\.mp4, \.mov, \.mkv"):
        VideoFileSink("clip.avi")


def test_missing_directory_is_told_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="absent does not exist; create it"):
        VideoFileSink(tmp_path / "absent" / "o.mp4").open(CLIP, LABELS)


def test_name_with_a_colon_is_a_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    record(Path("rtsp:12:30.mp4"), result())
    assert [each.name for each in tmp_path.iterdir()] == ["rtsp:12:30.mp4"]


def test_close_again_and_emit_afterwards_do_nothing(tmp_path: Path) -> None:
    sink = VideoFileSink(tmp_path / "o.mp4")
    sink.close()
    sink.open(CLIP, LABELS)
    sink.emit(result())
    sink.close()
    sink.close()
    sink.emit(result(1))
    assert len(played(tmp_path / "o.mp4")) == 1


def test_a_recording_that_exists_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    record(path, result())
    before = path.read_bytes()
    with pytest.raises(SinkError, match="--overwrite"):
        VideoFileSink(path, overwrite=False).open(CLIP, LABELS)
    assert path.read_bytes() == before


def test_two_runs_do_not_write_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    one, two = VideoFileSink(path), VideoFileSink(path)
    one.open(CLIP, LABELS)
    for i in range(5):
        one.emit(result(i))
        with pytest.raises(SinkError, match="another run"):
            two.open(CLIP, LABELS)
    one.close()
    assert len(played(path)) == 5


def test_boxes_may_be_beside_and_not_drawn(tmp_path: Path) -> None:
    plain, drawn = tmp_path / "plain.mp4", tmp_path / "drawn.mp4"
    for path in (plain, drawn):
        sink = VideoFileSink(path, draw=path is drawn, beside=path is plain)
        sink.open(CLIP, LABELS)
        for i in range(5):
            sink.emit(result(i, found((0, 0.9, 40, 60, 200, 220))))
        sink.close()
    pictures = [played(path)[4].to_ndarray(format="bgr24").astype(int) for path in (plain, drawn)]
    assert abs(pictures[0] - gray()).max() < 6 < abs(pictures[1] - gray()).max()
    lines = [json.loads(line) for line in plain.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["at_ms"] for line in lines] == [0, 40, 80, 120, 160]
    assert lines[4]["detections"][0]["label"] == "person"
    assert not drawn.with_suffix(".jsonl").exists()


def test_what_was_captured_and_not_recorded_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        record(tmp_path / "o.mp4", *(result(i) for i in (0, 1, 4, 5, 7)))
    assert "3 that were captured are missing: 2-3, 6" in caplog.text
