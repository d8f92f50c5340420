"""Recordings of copied packets hold every frame, whatever becomes of its boxes."""

from __future__ import annotations

import json
import os
import signal
from itertools import islice
from pathlib import Path

import pytest

from app.config import ClipOptions, RecordOptions
from app.core.errors import SinkError
from app.core.packets import EncodedPacket, PacketFan, PacketTap, StreamHead
from app.core.stats import OutputMeter
from app.sinks.events import EventMessage
from app.sinks.packets import CopyingFileSink
from app.sinks.recordings import ClipSink, SegmentsSink
from app.sinks.video import VideoFileSink
from app.sources.packets import PipeReader, PipeTap
from tests.processes import json_lines as lines
from tests.sinks.kit import CAMERA, LABELS, python, result
from tests.sinks.packet_kit import FPS, Collected, Played, encoded, times_ms

FRAMES = 100


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES)


def copying(path: Path, tap: PacketTap, *, overwrite: bool = True) -> CopyingFileSink:
    encoder = VideoFileSink(path, overwrite=overwrite)
    return CopyingFileSink(path, tap, OutputMeter("r"), encoded=encoder, overwrite=overwrite)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("source", ["mp4", "ts"])  # their parameter sets differ in form
@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_every_frame_is_there_though_few_were_processed(
    tmp_path: Path, ending: str, codec: str, source: str
) -> None:
    fan, path = PacketFan(), tmp_path / f"o.{ending}"
    played = Played(encoded(tmp_path / f"in.{source}", FRAMES, codec=codec), fan)
    sink = copying(path, fan.tap())
    results = played.results()
    sink.open(CAMERA, LABELS)
    for each in islice(results, 0, None, 10):  # as a slow engine leaves most frames out
        sink.emit(each)
    sink.close()
    shown = times_ms(path)
    assert shown == pytest.approx([i * 1000 / FPS for i in range(FRAMES)], abs=1)
    told = lines(path.with_suffix(".jsonl"))
    assert [line["frame"] for line in told] == list(range(0, FRAMES, 10))
    assert [line["at_ms"] for line in told] == pytest.approx([shown[x["frame"]] for x in told])
    assert told[0]["detections"][0]["label"] == "person"


def test_segments_begin_at_key_frames_and_lose_nothing(tmp_path: Path, clip: Path) -> None:
    fan, now = PacketFan(), [0.0]
    options = RecordOptions(path=str(tmp_path), segment_minutes=1.5 / 60)
    sink = SegmentsSink(options, OutputMeter("r"), tap=fan.tap(), clock_s=lambda: now[0])
    results = Played(clip, fan).results()
    first = next(results)
    sink.open(CAMERA, LABELS)
    sink.emit(first)
    for each in results:
        now[0] += 1 / FPS
        sink.emit(each)
    sink.close()
    files = sorted(tmp_path.glob("*.mp4"))
    counts = [len(times_ms(file)) for file in files]
    assert counts == [2 * FPS, 2 * FPS] and sum(counts) == FRAMES
    told = [lines(file.with_suffix(".jsonl")) for file in files]
    assert [len(each) for each in told] == counts, "each frame's boxes are beside its video"
    assert [each[0]["at_ms"] for each in told] == [0, 0]


def test_a_stream_that_comes_back_goes_on_in_the_same_file(tmp_path: Path, clip: Path) -> None:
    fan, path = PacketFan(), tmp_path / "o.mp4"
    sink = copying(path, fan.tap())
    sink.open(CAMERA, LABELS)
    for count in (30, FRAMES):  # the first time it is lost
        for each in islice(Played(clip, fan).results(), count):
            sink.emit(each)
    other = encoded(tmp_path / "other.mp4", 50, wh=(320, 240))
    for each in Played(other, fan).results():
        sink.emit(each)
    sink.close()
    assert len(times_ms(path)) >= 30 + FRAMES and times_ms(path) == sorted(times_ms(path))
    assert len(times_ms(tmp_path / "o-2.mp4")) == 50, "another size needs another file"


def test_without_packets_frames_are_encoded(tmp_path: Path) -> None:

    tap = PacketTap()
    sink = copying(tmp_path / "o.mp4", tap)
    sink.open(CAMERA, LABELS)
    for i in range(10):
        sink.emit(result(i, live=True))
    sink.close()
    assert len(times_ms(tmp_path / "o.mp4")) == 10


def test_what_exists_is_not_replaced_unasked(tmp_path: Path, clip: Path) -> None:
    boxes = tmp_path / "o.jsonl"
    boxes.write_text("dear\n")
    with pytest.raises(SinkError, match="--overwrite"):
        copying(tmp_path / "o.mp4", PacketTap(), overwrite=False).open(CAMERA, LABELS)
    assert boxes.read_text() == "dear\n"


RUN = """
import os, signal, sys
from pathlib import Path
from app.core.packets import PacketFan
from tests.sinks.kit import CAMERA, LABELS
from tests.sinks.packet_kit import Played
from tests.sinks.test_packets import copying
fan = PacketFan()
sink = copying(Path(sys.argv[2]), fan.tap())
sink.open(CAMERA, LABELS)
for i, each in enumerate(Played(Path(sys.argv[1]), fan).results()):
    sink.emit(each)
    if i == 90:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_killed_process_leaves_all_but_the_last_second(
    tmp_path: Path, clip: Path, ending: str
) -> None:
    path = tmp_path / f"o.{ending}"
    assert python(RUN, str(clip), str(path)).returncode == -signal.SIGKILL
    assert len(times_ms(path)) >= 90 - 2 * FPS // 2 - 3
    assert len(lines(path.with_suffix(".jsonl"))) == 91


def test_a_full_tap_drops_whole_groups_and_counts(clip: Path) -> None:
    whole, small = PacketTap(), PacketTap(most_bytes=20_000)
    head = StreamHead(b"", (1, 1000))
    for tap in (whole, small):
        tap.begin(head)
        for i in range(100):
            tap.put(EncodedPacket(bytes(1000), i, i, 1, i % 10 == 0, 0))
    assert len(whole.take()) == 101 and whole.dropped() == 0
    kept = small.take()
    assert kept[0] == head and isinstance(kept[1], EncodedPacket) and kept[1].key
    assert small.dropped() > 0 and small.dropped() == 0


def test_packets_cross_from_another_process(clip: Path) -> None:
    ours, theirs = os.pipe()
    direct, through = Collected(), Collected()
    reader, tap = PipeReader(ours, through), PipeTap(theirs)

    class Both:
        def begin(self, head):
            direct.begin(head)
            tap.begin(head)

        def put(self, packet):
            direct.put(packet)
            tap.put(packet)
            reader.drain()

    for _ in Played(clip, Both()).results():
        pass
    tap.begin(None)
    reader.drain()
    assert through.items == [*direct.items, None] and len(direct.items) == FRAMES + 1
    reader.close()
    os.close(theirs)


def test_a_pipe_that_nobody_empties_never_blocks(clip: Path) -> None:
    ours, theirs = os.pipe()
    tap = PipeTap(theirs)
    tap.begin(StreamHead(b"head", (1, 1000)))
    for i in range(600):
        tap.put(EncodedPacket(bytes(100_000), i, i, 1, i % 25 == 0, 0))
    assert tap.dropped() > 0
    os.close(ours)
    os.close(theirs)


def event(kind: str, number: int, subject: str = "1") -> EventMessage:
    told = {
        "type": "appear" if kind == "appear" else "gone",
        "id": f"01KG{number:022}",
        "time": "2026-01-31T12:00:04.500Z",
        "track_id": int(subject),
        "label": "person",
    }
    return EventMessage(kind, subject, json.dumps(told))


def test_a_clip_of_packets_has_all_that_belongs_to_it(tmp_path: Path, clip: Path) -> None:
    fan = PacketFan()
    options = ClipOptions(path=str(tmp_path), before_s=0.4, after_s=0.4)
    sink = ClipSink(options, OutputMeter("clips"), tap=fan.tap())
    sink.open(CAMERA, LABELS)
    happens = {
        40: event("appear", 1),
        44: event("appear", 2, "2"),  # overlaps: the same clip
        46: event("disappear", 3),
        50: event("disappear", 4, "2"),
        80: event("appear", 5, "3"),
        82: event("disappear", 6, "3"),
    }
    for each in Played(clip, fan).results():
        if each.frame.index in happens:
            sink.notice(happens[each.frame.index])
        sink.emit(each)
    sink.close()
    stems = [f"20260131T120004_01KG{number:022}" for number in (1, 5)]
    names = {f"{stem}.{ending}" for stem in stems for ending in ("mp4", "jpg", "json", "jsonl")}
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == names
    shown = [len(times_ms(tmp_path / f"{stem}.mp4")) for stem in stems]
    assert shown[0] == pytest.approx(36, abs=3), "from the key frame 25 to 60"
    assert shown[1] == pytest.approx(43, abs=3), "from the key frame 50 to 92: before, and after"
    told = json.loads((tmp_path / f"{stems[0]}.json").read_text())
    assert (
        told["label"] == "person" and told["track_id"] == 1 and told["video"] == f"{stems[0]}.mp4"
    )
    assert [each["track_id"] for each in told["events"]] == [1, 2, 1, 2]
    boxes = lines(tmp_path / f"{stems[0]}.jsonl")
    assert boxes[0]["frame"] == 25 and boxes[0]["at_ms"] == 0
    frames = [each["frame"] for each in boxes]
    assert frames == list(range(25, 25 + len(frames))) and len(frames) >= 33  # B-frames, too
    assert (tmp_path / f"{stems[0]}.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_a_stream_that_comes_back_goes_on_in_the_same_clip(tmp_path: Path, clip: Path) -> None:
    fan = PacketFan()
    options = ClipOptions(path=str(tmp_path), before_s=0.4, after_s=0.4)
    sink = ClipSink(options, OutputMeter("clips"), tap=fan.tap())
    sink.open(CAMERA, LABELS)
    name = "20260131T120000_a.mp4"
    for frames in (60, 40):  # lost in the middle of the clip, and its clock begins at 0 again
        for each in islice(Played(clip, fan).results(), frames):
            if each.frame.index == (40 if frames == 60 else 2):
                told = {"type": "appear", "id": "x", "clip": name}
                sink.notice(EventMessage("appear", str(frames), json.dumps(told)))
            sink.emit(each)
    sink.close()
    assert [path.name for path in tmp_path.glob("*.mp4")] == [name]
    # from the key frame 25 to 59, and the 40 after the loss
    assert len(times_ms(tmp_path / name)) == pytest.approx(35 + 40, abs=3)


def test_the_name_that_an_event_tells_is_the_clips(tmp_path: Path, clip: Path) -> None:
    fan = PacketFan()
    options = ClipOptions(path=str(tmp_path), before_s=0.4, after_s=0.4)
    sink = ClipSink(options, OutputMeter("clips"), tap=fan.tap())
    sink.open(CAMERA, LABELS)
    for each in Played(clip, fan).results():
        if each.frame.index in (40, 42, 44):
            name = "b" if each.frame.index == 44 else "a"
            told = {"id": "x", "clip": f"front/20260131T120000_{name}.mp4"}
            sink.notice(EventMessage("moment", "1", json.dumps(told)))
        sink.emit(each)
    sink.close()
    made = sorted(path.name for path in tmp_path.glob("*.mp4"))
    assert made == ["20260131T120000_a.mp4", "20260131T120000_b.mp4"]


def test_the_ring_before_an_event_is_bounded(tmp_path: Path, clip: Path) -> None:
    fan = PacketFan()
    options = ClipOptions(path=str(tmp_path), before_s=1, memory_mb=0.1)
    sink = ClipSink(options, OutputMeter("clips"), tap=fan.tap())
    sink.open(CAMERA, LABELS)
    held = []
    for each in Played(clip, fan).results():
        sink.emit(each)
        held.append(sink._packets.bytes)
    sink.close()
    assert 0 < max(held) <= 150_000


@pytest.mark.parametrize("folder", [True, False])
def test_a_stream_that_cannot_be_copied_is_encoded(tmp_path: Path, folder: bool) -> None:
    tap = PacketTap()
    tap.begin(StreamHead(b"no NUT file", (1, 1000)))
    tap.put(EncodedPacket(b"x", 0, 0, 1, True, 0))
    meter, path = OutputMeter("r"), tmp_path / "o.mp4"
    options = RecordOptions(path=str(tmp_path))
    sink = SegmentsSink(options, meter, tap=tap) if folder else copying(path, tap)
    sink.open(CAMERA, LABELS)
    for i in range(10):
        sink.emit(result(i, live=True))
    sink.close()
    (made,) = tmp_path.glob("*.mp4")
    assert len(times_ms(made)) == 10


FILL = """
import resource, sys
from pathlib import Path
from app.core.errors import SinkError
from app.core.packets import PacketFan
from tests.sinks.kit import CAMERA, LABELS
from tests.sinks.packet_kit import Played
from tests.sinks.test_packets import copying
clip, path, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
fan = PacketFan()
sink = copying(path, fan.tap())
sink.open(CAMERA, LABELS)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    for each in Played(clip, fan).results():
        sink.emit(each)
    sink.close()
except SinkError as error:
    print(error)
    sink.close()
"""


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.97, 0.999])
def test_a_full_disk_is_told_and_leaves_what_plays(
    tmp_path: Path, clip: Path, ending: str, part: float
) -> None:
    path = tmp_path / f"o.{ending}"
    done = python(FILL, str(clip), str(path), "1000000000")
    assert not done.stdout and not done.stderr
    limit = round(part * path.stat().st_size)
    done = python(FILL, str(clip), str(path), str(limit))
    assert not done.stderr
    frames = len(times_ms(path))
    if frames < FRAMES or done.stdout:
        assert "reached the size limit" in done.stdout
    if not done.stdout.startswith("cannot write JSON lines"):  # the boxes reached it first
        assert f"the first {frames} of them stay playable" in done.stdout or frames == FRAMES
