"""What a V4L2 driver says of its formats, by a driver that is made up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from app.sources.camera_formats import (
    CAPABILITY,
    CAPTURE,
    ENUM_FMT,
    ENUM_FRAMESIZES,
    FORMAT,
    FRAME_SIZE,
    QUERYCAP,
    CameraFormats,
    camera_formats,
)

DEVICE_CAPS, METADATA = 0x80000000, 0x00800000


def number(code: str) -> int:
    return int.from_bytes(code.encode(), "little")


class Driver:
    """Answers the three requests as linux/videodev2.h has them; sizes by code."""

    def __init__(self, sizes: dict[str, list[tuple[int, int]]], *, caps: int = CAPTURE) -> None:
        self.sizes, self.caps = sizes, caps
        self.stepwise: set[str] = set()

    def __call__(self, fd: int, request: int, data: bytearray) -> int:
        os.fstat(fd)
        if request == QUERYCAP:
            every = CAPTURE | METADATA | DEVICE_CAPS
            data[:] = CAPABILITY.pack(b"uvcvideo", b"A Camera", b"usb-1", 6, every, self.caps)
        elif request == ENUM_FMT:
            index, kind, *_ = FORMAT.unpack(data)
            assert kind == 1
            code = self._nth(list(self.sizes), index)
            data[:] = FORMAT.pack(index, kind, 0, b"a format", number(code), 0)
        else:
            assert request == ENUM_FRAMESIZES
            index, code_number, *_ = FRAME_SIZE.unpack(data)
            code = next(each for each in self.sizes if number(each) == code_number)
            if code in self.stepwise:
                (low_w, low_h), (high_w, high_h) = self.sizes[code]
                data[:] = FRAME_SIZE.pack(index, code_number, 3, low_w, high_w, 2, low_h, high_h, 2)
            else:
                size = self._nth(self.sizes[code], index)
                data[:] = FRAME_SIZE.pack(index, code_number, 1, *size, 0, 0, 0, 0)
        return 0

    @staticmethod
    def _nth(items: list, index: int):
        if index >= len(items):
            raise OSError(errno.EINVAL, "Invalid argument")
        return items[index]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "video0"
    path.write_bytes(b"")
    return path


def test_formats_and_sizes_in_the_drivers_order(device: Path) -> None:
    sizes = {"MJPG": [(1920, 1080), (1280, 720)], "YUYV": [(640, 480)]}
    told = camera_formats(device, ioctl=Driver(sizes))
    assert told == CameraFormats("A Camera", "usb-1", sizes)


def test_a_driver_that_scales_tells_its_extremes(device: Path) -> None:
    driver = Driver({"NV12": [(64, 48), (3840, 2160)]})
    driver.stepwise.add("NV12")
    told = camera_formats(device, ioctl=driver)
    assert told is not None and told.formats == {"NV12": [(64, 48), (3840, 2160)]}


def test_a_metadata_device_is_no_camera(device: Path) -> None:
    assert camera_formats(device, ioctl=Driver({}, caps=METADATA)) is None


def test_what_is_no_v4l2_device_at_all_is_an_error(device: Path) -> None:
    with pytest.raises(OSError):
        camera_formats(device)


def test_the_request_codes_are_the_kernels() -> None:
    # direction, size of the structure, type "V", number: asm-generic/ioctl.h
    def code(direction: int, size: int, n: int) -> int:
        return direction << 30 | size << 16 | ord("V") << 8 | n

    assert code(2, CAPABILITY.size, 0) == QUERYCAP
    assert code(3, FORMAT.size, 2) == ENUM_FMT
    assert code(3, FRAME_SIZE.size, 74) == ENUM_FRAMESIZES
