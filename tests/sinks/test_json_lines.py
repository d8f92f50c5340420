"""What people script against is kept, line by line."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from app.core.errors import ReaderGone, SinkError
from app.core.frame import SourceInfo
from app.core.masks import ObjectMask, unpack_runs
from app.sinks.json_lines import JsonLinesSink, LinesFile, ResultEncoder
from tests.sinks.kit import CAMERA, CLIP, LABELS, ROOT, found, python, result

WALL_NS = 1_769_860_800_123_000_000 - 5_000_000_000  # frame 0: 2026-01-31T12:00:00.123Z


def lines_of(path: Path, *results, source: SourceInfo = CLIP, labels=LABELS) -> list[str]:
    sink = JsonLinesSink(str(path), wall_offset_ns=lambda: WALL_NS)
    sink.open(source, labels)
    for each in results:
        sink.emit(each)
    sink.close()
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


def test_golden_line_is_kept_to_the_byte(tmp_path: Path) -> None:
    detections = found((0, 0.912, 10.126, 20, 110.5, 220.25), (1, 0.5, 0, 0, 5, 6))
    assert lines_of(tmp_path / "o", result(12, detections)) == [
        '{"source": "clip.mp4", "frame": 12, "media_ms": 480.0, '
        '"time": "2026-01-31T12:00:00.603Z", "age_ms": 9.41, "size": [320, 240], "detections": ['
        '{"label": "person", "class_id": 0, "score": 0.912, "box": [10.13, 20.0, 110.5, 220.25]}, '
        '{"label": "dog", "class_id": 1, "score": 0.5, "box": [0.0, 0.0, 5.0, 6.0]}]}\n'
    ]


def test_live_frame_without_detections(tmp_path: Path) -> None:
    assert lines_of(tmp_path / "o", result(0, live=True), source=CAMERA) == [
        '{"source": "camera:0", "frame": 0, "media_ms": null, "time": "2026-01-31T12:00:00.123Z", '
        '"age_ms": 9.41, "size": [320, 240], "detections": []}\n'
    ]


def test_keypoints_are_there_only_where_the_model_has_them(tmp_path: Path) -> None:
    with_points = found((2, 0.9, 1, 2, 3, 4), keypoints=[[[1.234, 2], [-3, 4.567]]])
    without = found((2, 0.9, 1, 2, 3, 4))
    first, second = map(
        json.loads, lines_of(tmp_path / "o", result(0, with_points), result(1, without))
    )
    assert first["detections"][0]["keypoints"] == [[1.23, 2.0], [-3.0, 4.57]]
    assert list(first["detections"][0]) == ["label", "class_id", "score", "box", "keypoints"]
    assert "keypoints" not in second["detections"][0]


@pytest.mark.parametrize("outlined", [False, True])
def test_what_a_model_finds_beside_boxes_is_added(tmp_path: Path, outlined: bool) -> None:
    plain = found((0, 0.9, 10, 20, 50, 60), keypoints=[[[12, 22], [30, 40]]])
    masks = np.empty(1, object)
    masks[0] = ObjectMask(10, 20, 40, 40, np.ones((2, 2), np.float32), (0, 0, 0, 0), outlined)
    corners = np.array([[[10, 20], [50, 20], [50, 60], [10, 60]]], np.float32)
    names, sure = ("nose", "tail"), np.array([[0.25, 1]], np.float32)
    full = replace(plain, masks=masks, polygons=corners, keypoint_scores=sure, point_names=names)
    (line,) = map(json.loads, lines_of(tmp_path / "o", result(0, full)))
    assert line["keypoint_names"] == ["nose", "tail"]  # once, not for each
    (told,) = line["detections"]
    assert told["keypoints"] == [[12.0, 22.0], [30.0, 40.0]]
    assert told["keypoint_scores"] == [0.25, 1.0]
    assert told["polygon"] == corners[0].tolist()
    if outlined:
        (flat,) = told["segmentation"]
        assert sorted(zip(flat[::2], flat[1::2], strict=True)) == [
            (10, 20), (10, 60), (50, 20), (50, 60),
        ]  # fmt: skip
    else:
        assert told["segmentation"]["size"] == [240, 320]
        counts = unpack_runs(told["segmentation"]["counts"])
        assert counts[:2] == [10 * 240 + 20, 40] and sum(counts) == 320 * 240


def test_wall_clock_that_jumps_shows_from_the_next_line_on(tmp_path: Path) -> None:
    offsets = iter([WALL_NS, WALL_NS + 3_600_000_000_000])
    sink = JsonLinesSink(str(tmp_path / "o"), wall_offset_ns=lambda: next(offsets))
    sink.open(CLIP, LABELS)
    sink.emit(result(0))
    sink.emit(result(0))
    sink.close()
    times = [json.loads(line)["time"][11:19] for line in (tmp_path / "o").read_text().splitlines()]
    assert times == ["12:00:00", "13:00:00"]


def test_labels_are_utf8_and_quoted(tmp_path: Path) -> None:
    (line,) = lines_of(
        tmp_path / "o",
        result(0, found((0, 0.9, 1, 2, 3, 4), (7, 0.8, 1, 2, 3, 4))),
        labels=['Kätzchen "猫"'],
    )
    assert '"Kätzchen \\"猫\\""' in line
    labels = [each["label"] for each in json.loads(line)["detections"]]
    assert labels == ['Kätzchen "猫"', "class 7"]


def test_source_whose_name_is_no_unicode_still_gives_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    (line,) = lines_of(tmp_path / "o", result(), source=SourceInfo(name, live=False))
    assert json.loads(line)["source"] == name


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 90),
            st.floats(0, 1, width=32),
            *[st.floats(-1e6, 1e6, width=32) for _ in range(4)],
        ),
        max_size=8,
    )
)
def test_every_line_is_json_and_keeps_two_decimals(tmp_path_factory, rows) -> None:
    rows.sort(key=lambda row: -row[1])
    detections = found(*rows)
    (line,) = lines_of(tmp_path_factory.getbasetemp() / "o", result(0, detections))
    read = json.loads(line)["detections"]
    assert len(read) == len(rows)
    for i, each in enumerate(read):
        assert np.allclose(each["box"], detections.xyxy[i], atol=0.00501, rtol=0)
        assert abs(each["score"] - float(detections.scores[i])) <= 0.0000501
        assert all(round(value, 2) == value for value in each["box"])


def test_line_is_in_the_file_before_the_next_frame(tmp_path: Path) -> None:
    sink = JsonLinesSink(str(tmp_path / "o"))
    sink.open(CLIP, LABELS)
    sink.emit(result())
    assert (tmp_path / "o").read_bytes().endswith(b"}\n")
    sink.close()
    sink.close()
    sink.emit(result())  # after the end: nothing
    assert (tmp_path / "o").read_bytes().count(b"\n") == 1


def test_earlier_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "o").write_text("half a li")
    assert len(lines_of(tmp_path / "o", result())) == 1


def test_missing_directory_is_told_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"absent does not exist; create it") as caught:
        JsonLinesSink(str(tmp_path / "absent" / "o")).open(CLIP, LABELS)
    assert caught.value.exit_code == 2


def test_directory_as_target_is_told_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="is a directory; name a file in it"):
        JsonLinesSink(str(tmp_path)).open(CLIP, LABELS)


def test_file_as_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="is not a directory"):
        JsonLinesSink(str(tmp_path / "file" / "o")).open(CLIP, LABELS)


@contextlib.contextmanager
def unprivileged():
    """Root may write everywhere: be nobody for a moment."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_no_permission_is_told_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with unprivileged(), pytest.raises(SinkError, match="no permission; choose a directory"):
        JsonLinesSink(str(tmp_path / "closed" / "o")).open(CLIP, LABELS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_is_told_with_the_cure() -> None:
    sink = JsonLinesSink("/dev/full")
    sink.open(CLIP, LABELS)
    with pytest.raises(SinkError, match=r"disk is full .*free some space"):
        sink.emit(result())
    sink.close()


FILL = """
import resource, sys
from app.sinks.json_lines import JsonLinesSink, ResultEncoder
from tests.sinks.kit import CLIP, LABELS, found, result
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sink = JsonLinesSink(sys.argv[1])
sink.open(CLIP, LABELS)
try:
    for i in range(100):
        sink.emit(result(i, found((0, .9, 1, 2, 3, 4))))
except Exception as error:
    sys.stderr.write(f"{type(error).__name__} {i} {error}")
sink.close()
"""


def test_disk_full_in_the_middle_of_a_line_leaves_whole_lines(tmp_path: Path) -> None:
    done = python(FILL, str(tmp_path / "o"))
    assert done.stderr.startswith("SinkError") and "size limit" in done.stderr
    text = (tmp_path / "o").read_text()
    assert text.endswith("}\n") and len(text) < 1000
    assert [json.loads(line)["frame"] for line in text.splitlines()] == [0, 1, 2, 3]


def test_disk_full_behind_a_shell_redirection_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "o").write_text("earlier\n")
    with (tmp_path / "o").open("a") as out:
        done = python(FILL, "-", capture_output=False, stdout=out, stderr=subprocess.PIPE)
    assert done.stderr.startswith("SinkError")
    first, *rest = (tmp_path / "o").read_text().splitlines(keepends=True)
    assert first == "earlier\n"
    assert rest and all(json.loads(line) and line.endswith("\n") for line in rest)


POUR = """
import sys
from app.core.errors import ReaderGone, SinkError
from app.sinks.json_lines import JsonLinesSink, ResultEncoder
from tests.sinks.kit import CLIP, LABELS, result
print("before", flush=False)
sink = JsonLinesSink("-")
try:
    sink.open(CLIP, LABELS)
    for i in range(100_000):
        sink.emit(result(i))
except (ReaderGone, SinkError) as end:
    sys.stderr.write(f"{type(end).__name__}: {end}")
finally:
    sink.close()
print("after")
"""


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


def test_reader_that_leaves_ends_the_run_without_noise() -> None:
    done = shell(f"{sys.executable} -W error -c '{POUR}' | head -2")
    before, line = done.stdout.splitlines()
    assert before == "before" and json.loads(line)["frame"] == 0
    assert done.stderr == "ReaderGone: nobody reads standard output any more"


def test_closed_standard_output_is_told() -> None:
    done = shell(f"{sys.executable} -c '{POUR}' >&-")
    assert "SinkError: cannot write JSON lines to standard output" in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_behind_standard_output_is_told_without_noise() -> None:
    code = POUR.replace('print("before", flush=False)', "")
    with Path("/dev/full").open("w") as full:
        done = python(code, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert "SinkError: cannot write JSON lines to standard output: the disk is full" in done.stderr
    assert "Exception ignored" not in done.stderr


def test_fifo_reader_sees_each_line_at_once_and_may_leave(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    seen: list[str] = []

    def read_one() -> None:
        with fifo.open() as reader:
            seen.append(reader.readline())

    reader = threading.Thread(target=read_one)
    reader.start()
    sink = JsonLinesSink(str(fifo))
    sink.open(CLIP, LABELS)
    sink.emit(result())
    reader.join(10)
    assert json.loads(seen[0])["frame"] == 0
    with pytest.raises(ReaderGone):
        sink.emit(result(1))
    sink.close()


def test_pipe_made_non_blocking_by_somebody_else_loses_nothing(monkeypatch) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
    with pytest.raises(BlockingIOError) as full:
        while True:
            os.write(writing, b"x" * 4096)
    assert full.value.errno == errno.EAGAIN
    received = bytearray()

    def drain() -> None:
        while chunk := os.read(reading, 65536):
            received.extend(chunk)

    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        sink = JsonLinesSink("-")
        sink.open(CLIP, LABELS)
        reader = threading.Thread(target=drain)
        threading.Timer(0.2, reader.start).start()
        for i in range(300):
            sink.emit(result(i))
        sink.close()
    reader.join(10)
    os.close(reading)
    lines = bytes(received).lstrip(b"x").splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(300))


def test_a_track_id_is_told_once_there_is_one() -> None:
    two = replace(found((0, 0.9, 1, 2, 3, 4), (1, 0.8, 1, 2, 3, 4)), track_ids=np.array([7, -1]))
    line = ResultEncoder()
    line.open(CLIP, LABELS)
    first, second = json.loads(line(result(0, two)))["detections"]
    assert first["track_id"] == 7 and "track_id" not in second


def test_a_file_that_holds_something_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.touch()
    file = LinesFile(str(path), overwrite=False)
    file.open()  # empty: nothing is lost
    file.close()
    path.write_text("dear\n")
    with pytest.raises(SinkError, match="--overwrite"):
        LinesFile(str(path), overwrite=False).open()
    assert path.read_text() == "dear\n"


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    one, two = LinesFile(str(path)), LinesFile(str(path))
    one.open()
    one.write("first")
    with pytest.raises(SinkError, match="another run"):
        two.open()
    one.close()
    assert path.read_text() == "first\n"
    two.open()
    two.close()
