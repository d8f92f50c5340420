"""A folder of pictures plays in order, whatever its pictures are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.core.errors import SourceError
from app.sources.images import FolderSource, natural_key


def folder(path):
    return FolderSource(path, label=str(path))


def write(path, pixels):
    assert cv2.imwrite(str(path), pixels)


def test_natural_order_and_place(tmp_path, read_all):
    for number in (10, 2, 1):
        write(tmp_path / f"f{number}.png", np.full((8, 10, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    source = folder(tmp_path)
    info = source.open()
    assert (info.frame_count, info.wh_px, info.fps, info.live) == (3, (10, 8), 10.0, False)
    source.close()
    frames = read_all(folder(tmp_path))
    assert [f.pixels[0, 0, 0] for f in frames] == [1, 2, 10]
    assert [f.media_ns for f in frames] == [0, 100_000_000, 200_000_000]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "bmp", "webp", "tif", "JPG"])
def test_each_kind_of_picture(tmp_path, read_all, suffix):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    write(tmp_path / f"a.{suffix}", pixels)
    (frame,) = read_all(folder(tmp_path))
    assert np.abs(frame.pixels.astype(int) - pixels).max() < 12


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("gray", np.full((9, 7), 77, np.uint8)),
        ("deep", np.full((9, 7, 3), 77 * 257, np.uint16)),
        ("alpha", np.full((9, 7, 4), 77, np.uint8)),
        ("deep_gray", np.full((9, 7), 77 * 257, np.uint16)),
    ],
)
def test_other_pixel_layouts_become_bgr(tmp_path, read_all, name, pixels):
    write(tmp_path / f"{name}.png", pixels)
    (frame,) = read_all(folder(tmp_path))
    assert frame.pixels.shape == (9, 7, 3) and frame.pixels.dtype == np.uint8
    assert (frame.pixels == 77).all()


def test_photographs_are_turned_upright(tmp_path, read_all):
    image = pytest.importorskip("PIL.Image")
    picture = image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture.save(tmp_path / "a.jpg", exif=exif)
    (frame,) = read_all(folder(tmp_path))
    assert frame.wh_px == (20, 40)


def test_pictures_may_differ_in_size(tmp_path, read_all):
    write(tmp_path / "1.png", np.zeros((8, 10, 3), np.uint8))
    write(tmp_path / "2.png", np.zeros((20, 6, 3), np.uint8))
    assert [f.wh_px for f in read_all(folder(tmp_path))] == [(10, 8), (6, 20)]


def test_unreadable_picture_is_named_and_left_out(tmp_path, read_all, caplog):
    write(tmp_path / "1.png", np.full((8, 10, 3), 1, np.uint8))
    (tmp_path / "2.png").write_bytes(b"\x89PNG nonsense")
    write(tmp_path / "3.png", np.full((8, 10, 3), 3, np.uint8))
    frames = read_all(folder(tmp_path))
    assert [f.pixels[0, 0, 0] for f in frames] == [1, 3]
    assert [(f.index, f.media_ns) for f in frames] == [(0, 0), (1, 200_000_000)]
    named = [record.getMessage() for record in caplog.records if "2.png" in record.getMessage()]
    assert len(named) == 1 and any("1 of 3" in r.getMessage() for r in caplog.records)


def test_first_picture_may_be_the_bad_one(tmp_path, read_all):
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    write(tmp_path / "2.png", np.zeros((8, 10, 3), np.uint8))
    assert folder(tmp_path).open().wh_px == (10, 8)
    assert len(read_all(folder(tmp_path))) == 1


def test_folder_of_which_nothing_can_be_read_is_an_error(tmp_path):
    for name in ("1.jpg", "2.png"):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(SourceError, match=r"1\.jpg"):
        folder(tmp_path).open()


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif", "ppm"])
def test_picture_that_is_cut_off_is_none(tmp_path, suffix):
    path = tmp_path / f"1.{suffix}"
    write(path, np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(SourceError, match=path.name.replace(".", "[.]")):
        folder(path).open()


def test_folder_without_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match="has no pictures"):
        folder(tmp_path).open()


def test_natural_key_orders_numbers_by_value():
    names = ["b1", "a10", "a2", "A3", "10", "9", "a2b10", "a2b9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a2", "a2b9", "a2b10", "A3", "a10", "b1"]


def test_name_that_is_not_utf8_is_read(tmp_path):
    write(tmp_path / "a.png", np.full((8, 10, 3), 7, np.uint8))
    try:
        (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system takes no such name")
    # in a process of its own: with imread OpenCV 5.0 would end this one
    program = (
        "import sys\n"
        "from app.sources.uri import make_source\n"
        "source = make_source(sys.argv[1], realtime=False)\n"
        "source.open()\n"
        "assert source.read(1.0).pixels.mean() == 7\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_empty_and_vanished_pictures_are_named(tmp_path, caplog):
    for name in ("1.png", "2.png", "3.png", "4.png"):
        write(tmp_path / name, np.zeros((8, 10, 3), np.uint8))
    source = folder(tmp_path)
    source.open()
    source.read(1.0)
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").unlink()
    assert source.read(1.0).media_ns == 300_000_000
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "2.png is empty" in told and "No such file" in told
    source.close()
