"""A camera opens, tells its mode, and names the cure when it does not (fake driver)."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest
from stream_servers import wait_until

import app.sources.camera as camera_module
from app.core.errors import SourceError
from app.core.frame import bgr_pixels
from app.sources.camera import CameraMode, CameraSource
from app.sources.reconnect import Endurance, ReconnectingSource
from app.sources.uri import make_source


class FakeDriver:
    """Acts as a cv2.VideoCapture on a V4L2 device."""

    def __init__(self, frames=(), *, opens=True, stamp_ms=0.0):
        self.frames, self.opens, self.stamp_ms = list(frames), opens, stamp_ms
        self.settings = {
            cv2.CAP_PROP_FRAME_WIDTH: 640.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FOURCC: float(int.from_bytes(b"YUYV", "little")),
        }
        self.released = False

    def isOpened(self):  # noqa: N802
        return self.opens

    def set(self, key, value):
        self.settings[key] = value
        return True

    def get(self, key):
        return self.stamp_ms if key == cv2.CAP_PROP_POS_MSEC else self.settings.get(key, 0.0)

    def read(self, buffer):
        if not self.frames:
            return False, None
        pixels = self.frames.pop(0)
        if pixels.shape == buffer.shape:
            buffer[...] = pixels
            return True, buffer
        return True, pixels

    def release(self):
        self.released = True


@pytest.fixture
def dev(tmp_path):
    for name in ("video0", "video2", "video10"):
        (tmp_path / name).touch()
    (tmp_path / "v4l/by-id").mkdir(parents=True)
    (tmp_path / "v4l/by-id/usb-Cam-index0").touch()
    return tmp_path


def camera(driver, dev, device=0, mode=None):
    return CameraSource(device, label="camera:0", mode=mode, dev=dev, open_capture=lambda _: driver)


def test_camera_tells_its_mode_and_keeps_no_queue(dev):
    driver = FakeDriver()
    info = camera(driver, dev).open()
    assert (info.uri, info.live, info.wh_px, info.fps) == ("camera:0", True, (640, 480), 30.0)
    assert info.detail == "V4L2, YUYV 640x480 30 fps"
    assert driver.settings[cv2.CAP_PROP_BUFFERSIZE] == 2  # one to fill while one is taken


def test_mode_is_asked_for(dev):
    driver = FakeDriver()
    info = camera(driver, dev, mode=CameraMode((1280, 720), 60.0, "MJPG")).open()
    assert info.detail == "V4L2, MJPG 1280x720 60 fps"


def test_frames_are_numbered_and_live(dev):
    frames = [np.full((480, 640, 3), i, np.uint8) for i in range(3)]
    source = camera(FakeDriver(frames), dev)
    source.open()
    for i in range(3):
        frame = source.read(1.0)
        assert (frame.index, frame.media_ns, frame.pixels[0, 0, 0]) == (i, None, i)
        assert abs(time.monotonic_ns() - frame.captured_ns) < 5_000_000_000


def test_kernel_stamp_is_used_when_it_is_on_our_clock(dev):
    stamp_ns = time.monotonic_ns() - 20_000_000
    frames = [np.zeros((480, 640, 3), np.uint8)]
    source = camera(FakeDriver(frames, stamp_ms=stamp_ns / 1e6), dev)
    source.open()
    assert source.read(1.0).captured_ns == pytest.approx(stamp_ns, abs=1000)


@pytest.mark.parametrize("shape", [(480, 640), (480, 640, 1), (480, 640, 4), (120, 160, 3)])
def test_other_layouts_and_sizes_become_bgr(dev, shape):
    source = camera(FakeDriver([np.full(shape, 9, np.uint8)] * 2), dev)
    source.open()
    for _ in range(2):
        frame = source.read(1.0)
        assert frame.pixels.shape == (*shape[:2], 3)
        assert (frame.pixels == 9).all() and frame.pixels.flags.c_contiguous


@pytest.mark.parametrize(
    ("fourcc", "shape", "named"),
    [
        (b"YUYV", (480, 640, 2), "yuyv"),
        (b"NV12", (720, 640), "nv12"),
        (b"NV12", (720, 640, 1), "nv12"),
    ],
)
def test_raw_frames_come_as_the_camera_has_them(dev, fourcc, shape, named):
    sent = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    driver = FakeDriver([sent])
    driver.settings[cv2.CAP_PROP_FOURCC] = float(int.from_bytes(fourcc, "little"))
    source = camera(driver, dev, mode=CameraMode(raw=True))
    assert source.open().detail.endswith("as it comes")
    frame = source.read(1.0)
    assert driver.settings[cv2.CAP_PROP_CONVERT_RGB] == 0
    assert (frame.format, frame.wh_px) == (named, (640, 480))
    assert (frame.pixels.reshape(-1) == sent.reshape(-1)).all()
    assert bgr_pixels(frame).shape == (480, 640, 3)


def test_raw_means_nothing_to_a_camera_that_gives_jpeg(dev):
    driver = FakeDriver([np.full((480, 640, 3), 9, np.uint8)])
    source = camera(driver, dev, mode=CameraMode(fourcc="MJPG", raw=True))
    source.open()
    assert source.read(1.0).format == "bgr8"
    assert cv2.CAP_PROP_CONVERT_RGB not in driver.settings


def test_raw_frames_of_another_size_are_a_fault_with_the_cure(dev):
    source = camera(FakeDriver([np.zeros((1, 5000), np.uint8)]), dev, mode=CameraMode(raw=True))
    source.open()
    with pytest.raises(SourceError, match="raw=0"):
        source.read(1.0)


def test_unplugged_camera_is_a_fault(dev):
    driver = FakeDriver([np.zeros((480, 640, 3), np.uint8)])
    source = camera(driver, dev)
    source.open()
    source.read(1.0)
    with pytest.raises(SourceError, match=r"no frames any more after 1: .*plugged"):
        source.read(1.0)
    source.close()
    source.close()
    assert driver.released


def test_wrong_index_names_the_cameras_there_are(dev):
    with pytest.raises(SourceError, match=r"video0, .*video2, .*video10, .*usb-Cam-index0"):
        camera(FakeDriver(), dev, device=7).open()


def test_machine_without_camera_says_so(tmp_path):
    with pytest.raises(SourceError, match="no camera on this machine"):
        camera(FakeDriver(), tmp_path).open()


def test_busy_camera(dev):
    driver = FakeDriver(opens=False)
    with pytest.raises(SourceError, match="another program"):
        camera(driver, dev).open()
    assert driver.released


def test_missing_permission_names_the_video_group(dev, monkeypatch):
    monkeypatch.setattr(camera_module.os, "access", lambda *_: False)
    with pytest.raises(SourceError, match="video group"):
        camera(FakeDriver(), dev).open()


@pytest.mark.parametrize("uri", ["camera:97", "camera:/dev/v4l/by-id/none", "/dev/video97"])
def test_absent_camera_on_this_machine(uri, capfd):
    source = make_source(uri, realtime=True)
    with pytest.raises(SourceError, match="there is no camera"):
        source.open()
    source.close()
    assert capfd.readouterr() == ("", "")


def test_camera_that_vanishes_comes_back_also_from_a_read_that_hangs(dev):
    """Two ways to be unplugged: the read fails, or, as V4L2 does, does not return for long."""
    hang = threading.Event()
    pixels = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)

    class Plugged(FakeDriver):
        def read(self, buffer):
            if state["hangs"]:
                assert hang.wait(30)
            time.sleep(0.005)
            return (True, pixels) if state["there"] else (False, None)

    state, drivers = {"there": True, "hangs": False}, []

    def opened(device):
        drivers.append(Plugged())
        return drivers[-1]

    source = ReconnectingSource(
        lambda: CameraSource(0, label="camera:0", dev=dev, open_capture=opened),
        label="camera:0",
        endurance=Endurance(stall_s=0.2, silent_s=0.5, retry_s=0.2, freeze_s=None),
    )
    source.open()

    def live():
        return source.read(0.05) is not None and source.state == "live"

    def away():
        return source.read(0.05) is None and source.state == "reconnecting"

    assert wait_until(live, 10)
    state["there"] = False
    (dev / "video0").unlink()
    assert wait_until(away, 10)
    (dev / "video0").touch()
    state["there"] = True
    assert wait_until(live, 10)
    before = drivers[-1]
    state["hangs"] = True
    assert wait_until(away, 10) and not before.released
    state["hangs"] = False  # the next opening works, while the first still hangs
    assert wait_until(live, 10) and not before.released
    hang.set()
    assert wait_until(lambda: before.released, 10)
    source.close()
    assert all(driver.released for driver in drivers)
