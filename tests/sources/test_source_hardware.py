"""A decoder in hardware takes over only once it has shown the processor's pictures.

No such hardware is needed: PyAV's HWAccel is replaced by fakes. What FFmpeg itself says where a
device is missing is asked of it, too.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest
from clip_maker import FRAMES, picture, write_clip

from app.core.errors import ConfigError, SourceEnded, SourceError
from app.core.frame import Frame, SourceInfo
from app.sources import hardware
from app.sources.base import SourceOptions
from app.sources.hardware import Preferred, Unfit, jetson_pipeline, open_hardware
from app.sources.uri import make_source

av = pytest.importorskip("av")
LONG = 150


class FakeContext:
    """Stands for a CodecContext on a device; decodes on the processor, errs as ``kind`` says."""

    is_hwaccel = True

    def __init__(self, real, kind: str) -> None:
        self.__dict__.update(_real=real, _kind=kind, _fed=0)

    def __setattr__(self, name, value) -> None:
        setattr(self._real, name, value)

    def flush_buffers(self) -> None:
        self._real.flush_buffers()

    def decode(self, packet=None) -> list:
        self.__dict__["_fed"] += 1
        kind = self._kind
        if kind == "raises":
            raise av.error.ExternalError(542398533, "Generic error in an external library")
        if kind == "hangs":
            time.sleep(30)
        if kind == "dies" and self._fed > 60:
            return []
        pictures = self._real.decode(packet)
        if kind == "none":
            return []
        if kind == "wrong":
            for each in pictures:
                each.planes[1].update(bytes(each.planes[1].buffer_size))  # green, as often
        return pictures


class FakeAccel:
    kind = "right"

    def __init__(self, device: str, *, allow_software_fallback: bool) -> None:
        assert device in ("cuda", "vaapi") and not allow_software_fallback
        if self.kind == "absent":
            raise av.error.PermissionError(1, "Operation not permitted")


@pytest.fixture
def fake(monkeypatch, request) -> str:
    kind = request.param
    real = av.CodecContext

    class FakeCodecContext:
        @staticmethod
        def create(codec, mode=None, hwaccel=None):
            made = real.create(codec, mode)
            return made if hwaccel is None else FakeContext(made, hwaccel.kind)

    monkeypatch.setattr(FakeAccel, "kind", kind)
    monkeypatch.setattr(av.codec.hwaccel, "HWAccel", FakeAccel)
    monkeypatch.setattr(av.codec.hwaccel, "hwdevices_available", lambda: ["cuda", "vaapi"])
    monkeypatch.setattr(av, "CodecContext", FakeCodecContext)
    monkeypatch.setattr(hardware, "DEADLINE_S", 0.5 if kind == "hangs" else 20.0)
    return kind


@pytest.fixture(scope="module", params=[0, 2])
def clip(request, tmp_path_factory) -> Path:
    """Of 150 frames, a key frame every 10."""
    path = tmp_path_factory.mktemp("hw") / "film.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"g": "10", "bf": str(request.param)}
        for index in range(LONG):
            pixels = picture(index % FRAMES)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("fake", "said"),
    [
        ("right", "vaapi decodes from here on"),
        ("wrong", "its picture differs"),
        ("none", "it gave 0 pictures"),
        ("raises", "external library"),
        ("absent", "Operation not permitted"),
        ("hangs", "did not answer within"),
        ("dies", "gave no picture for"),
    ],
    indirect=["fake"],
)
def test_every_frame_is_given_once_and_right_whatever_the_decoder_does(
    fake, said: str, clip, read_all, caplog
) -> None:
    plain = read_all(make_source(str(clip), realtime=False))
    with caplog.at_level(logging.INFO):
        given = read_all(make_source(f"{clip}?decode=vaapi", realtime=False))
    if fake != "dies":  # which loses frames before somebody notices
        assert [f.media_ns for f in given] == [f.media_ns for f in plain]
        for one, other in zip(given, plain, strict=True):
            assert (one.pixels == other.pixels).all()
    else:
        assert len(given) > LONG - 100 and given[-1].media_ns == plain[-1].media_ns
    told = [each.getMessage() for each in caplog.records if "decode" in each.getMessage()]
    assert said in told[-1]
    assert len(told) == (2 if fake == "dies" else 1)


@pytest.mark.parametrize("fake", ["right"], indirect=True)
def test_auto_leaves_what_is_not_there(fake, clip, read_all, caplog) -> None:
    with caplog.at_level(logging.INFO):
        given = read_all(make_source(f"{clip}?decode=auto", realtime=False))
    assert len(given) == LONG
    (told,) = (each.getMessage() for each in caplog.records if "decode" in each.getMessage())
    assert "the processor decodes" in told and "there is no" in told


@pytest.mark.parametrize("fake", ["right", "none"], indirect=True)
def test_motion_gate_and_seeking_go_on(fake, clip, read_all) -> None:
    source = make_source(f"{clip}?decode=nvdec", realtime=False)
    source.open()
    for place in (100, 3, 77):
        source.seek(place * 50_000_000)
        assert source.read(5.0).media_ns == place * 50_000_000
    source.close()


def test_what_ffmpeg_says_here_without_devices(clip) -> None:
    with av.open(str(clip)) as container:
        codec = container.streams.video[0].codec_context
        for name in hardware.WAYS:
            with pytest.raises((Unfit, av.error.FFmpegError)):
                made = open_hardware(codec, name)
                for packet in container.demux(video=0):
                    if made.decode(packet):
                        pytest.skip(f"this machine decodes by {name}")


@pytest.mark.parametrize("how", ["nvdec", "v4l2m2m", "auto"])
def test_a_machine_without_the_device_says_so_once(how, tmp_path, read_all, caplog) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    with caplog.at_level(logging.INFO):
        given = read_all(make_source(f"{clip}?decode={how}", realtime=False, isolate=True))
    assert len(given) == FRAMES
    told = [each for each in caplog.records if "decode" in each.getMessage()]
    assert len(told) == 1


def test_what_is_no_way_to_decode_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="one of auto, cpu, vaapi"):
        make_source("rtsp://h/x?decode=magic", realtime=True)
    with pytest.raises(ConfigError, match="for rtsp"):
        make_source("udp://127.0.0.1:5000?decode=nvv4l2", realtime=True)


class Scripted:
    """A source of one level of grey; None: it gives nothing, "error": it does not open."""

    def __init__(self, level: int | str | None) -> None:
        self.level, self.index, self.closed = level, 0, False

    def open(self) -> SourceInfo:
        if self.level == "error":
            raise SourceError('gst: no element "nvv4l2decoder"')
        return SourceInfo(f"level {self.level}", True)

    def read(self, timeout_s: float) -> Frame | None:
        if self.level is None:
            time.sleep(timeout_s)
            return None
        if self.index == 5:
            raise SourceEnded
        self.index += 1
        return Frame(np.full((90, 160, 3), self.level, np.uint8), self.index - 1, 0)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("proof", "first", "chosen"),
    [(7, 1, 1), (200, 1, 2), (None, 1, 2), ("error", 1, 2), (7, "error", 2)],
)
def test_gstreamers_decoder_must_show_the_known_clip(proof, first, chosen, monkeypatch) -> None:
    monkeypatch.setattr(hardware, "DEADLINE_S", 0.3)
    shown, known = Scripted(proof), Scripted(7)
    source = Preferred(Scripted(first), Scripted(2), label="x", proof=shown, known=known)
    assert source.open().uri == f"level {chosen}"
    assert source.read(1.0).pixels[0, 0, 0] == chosen
    assert shown.closed and known.closed


def test_jetsons_pipeline_quotes_what_it_is_given() -> None:
    made = jetson_pipeline('rtsp://u:p"w@h/x?a=1&b=2')
    assert made.startswith('rtspsrc latency=100 location="rtsp://u:p\\"w@h/x?a=1&b=2" ! parsebin')
    assert jetson_pipeline("/a b.mp4").startswith('filesrc location="/a b.mp4"')
    assert SourceOptions().decode == "cpu"
