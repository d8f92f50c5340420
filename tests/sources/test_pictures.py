"""Pictures are cut out of a stream of bytes, whatever surrounds them and wherever it is split."""

from __future__ import annotations

import random
import time

import cv2
import pytest
from clip_maker import picture
from hypothesis import given, strategies as st

from app.core.errors import SourceError
from app.sources.pictures import MOST_BYTES, PictureCutter


def encoded(kind: str, index: int = 0, wh_px: tuple[int, int] = (160, 120), *flags: int) -> bytes:
    return bytes(cv2.imencode(kind, cv2.resize(picture(index), wh_px), list(flags))[1])


def with_thumbnail(jpeg: bytes) -> bytes:
    """A whole JPEG within a segment of this one, as cameras put it into EXIF."""
    inner = b"Exif\0\0" + encoded(".jpg", 3, (32, 24))
    return jpeg[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + jpeg[2:]


PICTURES = {
    "jpeg": encoded(".jpg"),
    "thumbnail": with_thumbnail(encoded(".jpg")),
    "progressive": encoded(".jpg", 1, (160, 120), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": encoded(".jpg", 1, (160, 120), cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "fill bytes": b"\xff\xd8\xff\xff" + encoded(".jpg", 2)[2:],
    "png": encoded(".png"),
    "webp": encoded(".webp", 0, (160, 120), cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless webp": encoded(".webp", 0, (160, 120), cv2.IMWRITE_WEBP_QUALITY, 101),
}
BETWEEN = b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"
AROUND = [
    b"",
    BETWEEN,
    b"\n--x\n\n",
    bytes(7),
    b"\xff\xd8",
]


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("around", AROUND)
def test_a_picture_is_whole_at_its_last_byte(name: str, around: bytes) -> None:
    cutter, data = PictureCutter(), PICTURES[name]
    found = [each for byte in around + data for each in cutter.feed(bytes([byte]))]
    assert found == [data]


@given(
    st.lists(st.sampled_from([*PICTURES.values(), *AROUND]), max_size=8),
    st.integers(1, 5000),
)
def test_no_split_loses_a_picture(pieces: list[bytes], step: int) -> None:
    stream, cutter = b"".join(pieces), PictureCutter()
    found = []
    for at in range(0, len(stream), step):
        found += cutter.feed(stream[at : at + step])
    assert found == [each for each in pieces if each in PICTURES.values()]


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "webp"])
def test_one_that_is_cut_off_is_passed_over(name: str) -> None:
    data, between = PICTURES[name], BETWEEN
    if name in ("png", "webp"):  # the rest is swallowed up to the length that it names
        stream = (between + data[: len(data) // 2]) + (between + data) * 4
        assert PictureCutter().feed(stream)[-1] == data
        return
    cutter = PictureCutter()
    whole = PICTURES["jpeg"]
    found = cutter.feed((between + data[: len(data) // 2] + between + whole) * 3)
    assert found == [whole] * 3
    assert cutter.damaged == 3


def test_noise_between_pictures_does_no_harm() -> None:
    rng, cutter = random.Random(7), PictureCutter()
    pieces = [part for _ in range(40) for part in (rng.randbytes(3000), PICTURES["jpeg"])]
    found = [each for piece in pieces for each in cutter.feed(piece)]
    assert found.count(PICTURES["jpeg"]) >= 38


@pytest.mark.parametrize(
    "fill",
    [bytes(65536), b"\xff\xd8\xff\xe0\xff\xff" * 9000, b"\xff\xd8\xff\xda\0\2" + bytes(65536)],
)
def test_a_stream_without_a_picture_ends_in_bounded_memory(fill: bytes) -> None:
    cutter = PictureCutter()
    cutter.feed(b"--frame\r\nContent-Length: 2147483647\r\n\r\n")
    began_s = time.perf_counter()
    with pytest.raises(SourceError, match=r"no whole one|without one whole picture"):
        for _ in range(2 * MOST_BYTES // len(fill)):
            cutter.feed(fill)
    assert time.perf_counter() - began_s < 60


@given(st.binary(max_size=300))
def test_any_bytes_may_come(data: bytes) -> None:
    for start in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x50\0\0\0WEBP"):
        cutter = PictureCutter()
        for each in cutter.feed(start + data):
            assert len(each) <= len(start + data)
