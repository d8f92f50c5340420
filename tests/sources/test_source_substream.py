"""Two streams of one camera: one is looked at, the other is recorded, and both show one moment."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from stream_servers import FPS, RtspServer, free_port, wait_until

from app.config import ClipOptions, EventOptions, RecordOptions
from app.core.detections import Result, scaled
from app.core.errors import ConfigError
from app.core.frame import Frame
from app.core.masks import ObjectMask
from app.core.stats import OutputMeter
from app.sinks.adapters import QueuedSink
from app.sinks.events import EventMessage
from app.sinks.recordings import ClipSink, SegmentsSink
from app.sinks.snapshots import SnapshotSink
from app.sources.base import SourceOptions
from app.sources.reconnect import Endurance
from app.sources.substream import ArrivalClock, Substream, refuse_unrecordable
from app.sources.uri import make_source
from tests.sinks.kit import CAMERA, LABELS, event, found

av = pytest.importorskip("av")

LOW, HIGH, BITS, COUNT = (160, 96), (480, 288), 8, 200
NAME = "20260131T120004_01KG9V8Q7N7Z1WRR0000000002_best.jpg"
ENDURANCE = Endurance(freeze_s=None, black_s=None, wait=True, retry_s=0.3, silent_s=2.0)


def counting(wh: tuple[int, int]) -> Callable[[int], np.ndarray]:
    """A picture that tells its number by bars, and its size by red."""

    def show(index: int) -> np.ndarray:
        bars = [255 if index >> i & 1 else 0 for i in range(BITS)]
        row = np.repeat(np.array(bars, np.uint8), wh[0] // BITS)
        return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (wh[1], wh[0], 3)))

    return show


def number(pixels: np.ndarray) -> int:
    """Of the picture, or of a crop of all its width."""
    parts = np.array_split(pixels[pixels.shape[0] // 4 : -pixels.shape[0] // 4], BITS, axis=1)
    return sum((part[..., 1].mean() > 127) << i for i, part in enumerate(parts))


def apart(a: int, b: int) -> int:
    """Of numbers that begin again after COUNT."""
    return min((a - b) % COUNT, (b - a) % COUNT)


def substream(uri: str, **more: bool) -> tuple[Substream, OutputMeter]:
    meter = OutputMeter("record-source")
    made = Substream(
        lambda taps: make_source(
            uri,
            realtime=True,
            options=SourceOptions(packets_only=True, open_timeout_s=3.0, read_timeout_s=2.0),
            endurance=ENDURANCE,
            packets=taps,
        ),
        meter,
        label=uri,
        **more,
    )
    return made, meter


def tracked(frame: Frame) -> Result:
    width, height = frame.wh_px
    one = found((0, 0.9, 0, 0, width, height))
    return Result(frame, replace(one, track_ids=np.array([1], np.int64)), 0)


def numbers_of(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [number(p.to_ndarray(format="bgr24")) for p in container.decode(video=0)]


def lines_of(video: Path) -> list[dict]:
    return [json.loads(text) for text in video.with_suffix(".jsonl").read_text().splitlines()]


@contextlib.contextmanager
def streams() -> Iterator[tuple[RtspServer, RtspServer]]:
    epoch_s = time.monotonic() - 3
    with (
        RtspServer(show=counting(LOW), distinct=COUNT, epoch_s=epoch_s) as low,
        RtspServer(show=counting(HIGH), distinct=COUNT, epoch_s=epoch_s) as high,
    ):
        yield low, high


def rtsp(server: RtspServer) -> str:
    return f"rtsp://127.0.0.1:{server.port}/x"


def recorder(folder: Path, beside: Substream) -> QueuedSink:
    options, meter = RecordOptions(path=f"{folder}/"), OutputMeter("record")
    return QueuedSink(SegmentsSink(options, meter, tap=beside.fan.tap()), meter)


def test_snapshot_and_clip_are_of_the_high_stream_at_the_moment_of_the_low_one(tmp_path) -> None:
    with streams() as (low, high):
        beside, meter = substream(rtsp(high))
        clips = ClipSink(
            ClipOptions(path=str(tmp_path / "clips"), before_s=1, after_s=0.2),
            OutputMeter("clips"),
            tap=beside.fan.tap(),
        )
        whole = recorder(tmp_path / "all", beside)
        options = EventOptions(snapshots=str(tmp_path / "shots"))
        shots = SnapshotSink(options, OutputMeter("snapshots"), waits=False, beside=beside)
        beside.start()
        source = make_source(rtsp(low), realtime=True)
        source.open()
        assert wait_until(lambda: meter.figures().delivered > FPS, 40.0)
        for sink in (clips, whole, shots):
            sink.open(CAMERA, LABELS)
        looked_at = {}
        for i in range(4 * FPS):
            frame = source.read(2.0)
            result = tracked(frame)
            looked_at[frame.index] = number(cv2.cvtColor(frame.pixels, cv2.COLOR_YUV2BGR_I420))
            if i == 2 * FPS:
                shown = looked_at[frame.index]
                clips.notice(EventMessage("appear", "1", "{}"))
                shots.emit(replace(result, events=[event("appear", 1, snapshot=NAME)]))
            if i == 3 * FPS:
                clips.notice(EventMessage("disappear", "1", "{}"))
            clips.emit(result)
            whole.emit(result)
        source.close()
        for sink in (shots, clips, whole):
            sink.close()
        beside.stop()

    shot = cv2.imread(str(tmp_path / "shots" / NAME))
    assert shot.shape[1] == HIGH[0], "the crop is of the large picture"
    bound = FPS  # servers that get no processor are late, each by another time
    assert apart(number(shot), shown) <= bound
    for path in (*(tmp_path / "clips").glob("*.mp4"), *(tmp_path / "all").glob("*.mp4")):
        numbers = numbers_of(path)
        assert all((b - a) % COUNT == 1 for a, b in pairwise(numbers)), "no frame is missing"
        lines = lines_of(path)
        assert len(lines) > FPS
        for line in lines:
            assert line["size"] == list(HIGH)
            assert line["detections"][0]["box"] == [0, 0, *HIGH]
            in_video = numbers[round(line["at_ms"] * FPS / 1000)]
            assert apart(in_video, looked_at[line["frame"]]) <= bound


def test_either_stream_goes_on_without_the_other_and_says_so(tmp_path) -> None:
    epoch_s = time.monotonic() - 3
    with streams() as (low, _):
        port = free_port()
        with RtspServer(show=counting(HIGH), distinct=COUNT, epoch_s=epoch_s, port=port):
            beside, meter = substream(f"rtsp://127.0.0.1:{port}/x")
            sink = recorder(tmp_path, beside)
            beside.start()
            assert wait_until(lambda: meter.figures().delivered > FPS, 40.0)
            assert meter.trouble == ""
        assert wait_until(lambda: "reconnecting" in meter.trouble, 40.0)
        source = make_source(rtsp(low), realtime=True)
        source.open()
        assert beside.picture(beside.place(source.read(2.0)) or 0) is None, "it is not there"
        source.close()
        with RtspServer(show=counting(HIGH), distinct=COUNT, epoch_s=epoch_s, port=port):
            assert wait_until(lambda: meter.trouble == "", 40.0)
            sink.open(CAMERA, LABELS)
            before = meter.figures().delivered
            assert wait_until(lambda: meter.figures().delivered > before + 3 * FPS, 40.0)
            sink.close()  # without a single result
        beside.stop()
    assert max(len(numbers_of(each)) for each in tmp_path.glob("*.mp4")) > 2 * FPS


def test_what_has_no_packets_is_told(tmp_path) -> None:
    clip = tmp_path / "film.mp4"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("mpeg4", rate=250)
        stream.width, stream.height, stream.pix_fmt = *LOW, "yuv420p"
        for i in range(500):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(counting(LOW)(i % 8), format="bgr24")))
        out.mux(stream.encode())
    beside, meter = substream(str(clip))
    beside.start()
    assert wait_until(lambda: "H.264" in meter.trouble, 40.0)
    beside.stop()
    with pytest.raises(ConfigError, match="no stream"):
        refuse_unrecordable("camera:0")


def test_times_follow_the_least_delay_and_a_stream_that_begins_anew() -> None:
    clock = ArrivalClock()
    for i, delay_ms in enumerate([900, 400, 80, 20, 300, 25]):
        clock.note(i * 10**8, i * 10**8 + delay_ms * 10**6 + 7 * 10**9)
    assert clock.offset_ns == 7 * 10**9 + 20 * 10**6
    clock.note(0, 50 * 10**9)
    assert clock.offset_ns == 50 * 10**9
    for i in range(150):  # the other clock runs slower: after some seconds that is noticed
        clock.note(i * 10**8, 50 * 10**9 + i * (10**8 + 10**6))
    assert clock.offset_ns > 50 * 10**9


def test_boxes_points_and_masks_are_scaled() -> None:
    field = np.ones((4, 4), np.float32)
    mask = ObjectMask(10, 20, 8, 16, field, (0.5, -0.25, 0.25, -0.375))
    masks = np.empty(1, object)
    masks[:] = [mask]
    one = replace(found((0, 0.5, 10, 20, 18, 36), keypoints=[[[12, 24]]]), masks=masks)
    large = scaled(one, (100, 50), (300, 100))
    assert large.xyxy.tolist() == [[30, 40, 54, 72]]
    assert large.keypoints is not None and large.keypoints.tolist() == [[[36, 48]]]
    (made,) = large.masks
    assert (made.x, made.y, made.width, made.height) == (30, 40, 24, 32)
    # the middle of the first column of the mask was a quarter before the first of the field
    assert made.to_field == pytest.approx((0.5 / 3, -0.25 - 0.5 / 3, 0.125, -0.375 - 0.25 / 4))
    assert scaled(one, (9, 9), (9, 9)) is one
