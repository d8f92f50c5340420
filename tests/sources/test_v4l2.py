"""Cameras are listed with their names and formats, as the kernel tells them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from app.sources import camera as v4l2
from app.sources.camera import CameraDevice, Mode, list_cameras

MJPG = int.from_bytes(b"MJPG", "little")
YUYV = int.from_bytes(b"YUYV", "little")
SIZES = {MJPG: [(640, 480), (1920, 1080)], YUYV: [(640, 480)]}
RATES = {MJPG: [(1, 30), (1, 60)], YUYV: [(1, 15)]}


class Driver:
    """Answers like a UVC camera; ``caps`` are its device capabilities."""

    def __init__(self, caps: int = 0x04200001, *, stepwise: bool = False) -> None:
        self.caps, self.stepwise = caps, stepwise

    def __call__(self, fd: int, request: int, answer: bytearray) -> int:
        if request == v4l2._QUERYCAP:
            answer[16:48] = b"Front Camera: Front Camera".ljust(32, b"\0")
            struct.pack_into("=II", answer, 84, 0x84A00001 | 0x80000000, self.caps)
            return 0
        (index,) = struct.unpack_from("=I", answer, 0)
        if request == v4l2._ENUM_FMT:
            (kind,) = struct.unpack_from("=I", answer, 4)
            assert kind == 1
            struct.pack_into("=I", answer, 44, self.pick([MJPG, YUYV], index))
        elif request == v4l2._ENUM_FRAMESIZES:
            (code,) = struct.unpack_from("=I", answer, 4)
            if self.stepwise:
                struct.pack_into("=7I", answer, 8, 3, 16, 4096, 16, 16, 3072, 16)
            else:
                struct.pack_into("=3I", answer, 8, 1, *self.pick(SIZES[code], index))
        elif request == v4l2._ENUM_FRAMEINTERVALS:
            (code,) = struct.unpack_from("=I", answer, 4)
            struct.pack_into("=3I", answer, 16, 1, *self.pick(RATES[code], index))
        else:
            raise OSError(25, "Inappropriate ioctl for device")
        return 0

    @staticmethod
    def pick(values: list, index: int):
        if index >= len(values):
            raise OSError(22, "Invalid argument")
        return values[index]


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    (tmp_path / "video0").write_bytes(b"")
    return tmp_path


def test_camera_is_told_with_name_and_formats(dev: Path) -> None:
    (camera,) = list_cameras(dev, Driver())
    assert camera.name == "Front Camera: Front Camera" and camera.uri == "camera:0"
    assert camera.modes == (
        Mode("MJPG", (1920, 1080), 60.0),
        Mode("MJPG", (640, 480), 60.0),
        Mode("YUYV", (640, 480), 15.0),
    )
    assert camera.modes[0].query == "size=1920x1080&format=MJPG&fps=60"


def test_query_of_a_format_is_understood_by_the_source(dev: Path) -> None:
    from app.sources.uri import make_source

    (camera,) = list_cameras(dev, Driver())
    source = make_source(f"{camera.uri}?{camera.modes[0].query}", realtime=True)
    assert source._mode.wh_px == (1920, 1080) and source._mode.fourcc == "MJPG"


def test_metadata_device_of_a_camera_is_left_out(dev: Path) -> None:
    assert list_cameras(dev, Driver(caps=0x04A00000)) == []


def test_any_size_in_a_range_gives_the_largest(dev: Path) -> None:
    (camera,) = list_cameras(dev, Driver(stepwise=True))
    assert {mode.wh_px for mode in camera.modes} == {(4096, 3072)}


def test_camera_that_answers_nothing_is_listed_by_its_path(dev: Path) -> None:
    def deaf(fd: int, request: int, answer: bytearray) -> int:
        raise OSError(16, "Device or resource busy")

    assert list_cameras(dev, deaf) == [CameraDevice(0, str(dev / "video0"))]


def test_no_camera() -> None:
    assert list_cameras(Path("/nonexistent")) == []


def test_real_devices_can_be_asked() -> None:
    for camera in list_cameras():
        assert camera.name
