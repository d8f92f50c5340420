"""GStreamer pipelines give frames, in a process of the Python that has it."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from stream_servers import wait_until

from app.core.errors import ConfigError, SourceEnded, SourceError
from app.sources import gstreamer
from app.sources.base import SourceOptions
from app.sources.gstreamer import _without_padding
from app.sources.reconnect import Endurance
from app.sources.uri import make_source

TEST = "gst:videotestsrc is-live=true pattern=blue ! video/x-raw,width={},height={},framerate=20/1"


@pytest.fixture(scope="module")
def gst():
    try:
        gstreamer.gst_command()
    except SourceError as error:
        pytest.skip(str(error))


def make(uri, **options):
    return make_source(uri, realtime=True, options=SourceOptions(**options))


def take(source, count):
    frames = []
    assert wait_until(
        lambda: frames.append(source.read(0.2)) or sum(map(bool, frames)) >= count, 20
    )
    return [frame for frame in frames if frame]


@pytest.mark.parametrize("wh_px", [(320, 240), (321, 33)])  # the second has padded rows
def test_pipeline_gives_live_bgr_frames(gst, wh_px):
    source = make(TEST.format(*wh_px))
    info = source.open()
    assert (info.live, info.wh_px, info.fps, info.frame_count) == (True, wh_px, 20, None)
    frames = take(source, 5)
    source.close()
    for frame in frames:
        assert frame.pixels.shape == (wh_px[1], wh_px[0], 3)
        assert (np.abs(frame.pixels.astype(int) - (255, 0, 0)) < 12).all()  # blue, as BGR
        assert 0 <= time.monotonic_ns() - frame.captured_ns < 20e9


def test_user_may_write_the_appsink(gst):
    source = make(TEST.format(64, 48) + " ! videoconvert ! video/x-raw,format=BGR ! appsink")
    source.open()
    assert take(source, 2)
    source.close()


def test_end_of_a_pipeline_that_is_no_camera_is_an_end(gst):
    source = make("gst:videotestsrc num-buffers=5")
    source.open()
    with pytest.raises(SourceEnded):
        for _ in range(100):
            source.read(0.2)
    source.close()


@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        ("nosuchelement ! fakesink", "nosuchelement.*apt install"),
        ("videotestsrc ! ! x", "gst-launch"),
        ("v4l2src device=/dev/video97", "video97"),
    ],
)
def test_what_is_wrong_is_told_with_the_cure(gst, pipeline, told):
    source = make(f"gst:{pipeline}", open_timeout_s=10.0)
    with pytest.raises(SourceError, match=told):
        source.open()
    source.close()


def test_lost_pipeline_comes_back(gst):
    source = make_source(
        TEST.format(64, 48) + " ! identity eos-after=8",
        realtime=True,
        endurance=Endurance(freeze_s=None),
    )
    source.open()
    frames = take(source, 20)  # each opening gives 7 and then "unplugs"
    assert frames[-1].index > 14
    source.close()


def test_machine_without_gstreamer_names_the_cure(monkeypatch):
    monkeypatch.setattr(gstreamer, "PYTHONS", ("/nonexistent/python",))
    gstreamer._python_with_gst.cache_clear()
    try:
        with pytest.raises(SourceError, match="apt install python3-gi"):
            make("gst:videotestsrc").open()
    finally:
        gstreamer._python_with_gst.cache_clear()


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ("nvarguscamerasrc", "nvarguscamerasrc sensor-id=1 .*1920.*nvvidconv flip-method=2"),
        ("libcamerasrc", "libcamerasrc ! .*1920.*videoflip method=2"),
    ],
)
def test_csi_takes_the_platforms_own_element(monkeypatch, elements, expected):
    known = {name: name == elements for name in (gstreamer.JETSON, gstreamer.LIBCAMERA)}
    monkeypatch.setattr(gstreamer, "elements_here", lambda names: known)
    pipeline = gstreamer.csi_pipeline(1, wh_px=(1920, 1080), fps=30, flip=2)
    assert re.match(expected, pipeline)


def test_csi_where_there_is_none_names_the_cure(monkeypatch):
    monkeypatch.setattr(gstreamer, "elements_here", lambda names: dict.fromkeys(names, False))
    with pytest.raises(SourceError, match="nvidia-l4t-gstreamer"):
        make("csi:0")


@pytest.mark.parametrize("uri", ["gst:", "csi:x", "csi:0?flip=9", "csi:0?size=1"])
def test_uris_that_mean_nothing(uri):
    with pytest.raises(ConfigError):
        make(uri)


def test_rows_without_padding():
    assert _without_padding(b"abcd", 4, 1) == b"abcd"
    assert _without_padding(b"abc.def.", 3, 2) == b"abcdef"
