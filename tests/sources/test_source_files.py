"""All frames of a file are read, once, in order, the same each time; damage is told."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clip_maker import FRAMES, picture, trim_start, write_clip

from app.core.errors import SourceEnded, SourceError
from app.core.frame import bgr_pixels
from app.sources.base import MediaClock, usable_fps
from app.sources.diagnose import bytes_missing
from app.sources.uri import make_source


def make(path, *, isolate=False):
    return make_source(str(path), realtime=False, isolate=isolate)


def read_until_fault(source):
    """(frames, error)"""
    source.open()
    frames = 0
    try:
        while source.read(5.0) is not None:
            frames += 1
    except SourceError as error:
        return frames, error
    finally:
        source.close()


def test_frames_carry_index_place_and_content(clip, read_all):
    source = make(clip)
    info = source.open()
    assert (info.wh_px, info.fps, info.frame_count, info.live) == ((160, 120), 20.0, FRAMES, False)
    source.close()
    frames = read_all(make(clip))
    assert [f.index for f in frames] == list(range(FRAMES))
    assert [f.media_ns for f in frames] == [i * 50_000_000 for i in range(FRAMES)]
    assert all(a.captured_ns < b.captured_ns for a, b in itertools.pairwise(frames))
    for frame in frames:
        assert (frame.format, frame.wh_px) == ("i420", (160, 120))
        assert frame.pixels.shape == (180, 160) and frame.pixels.flags.c_contiguous
        assert abs(bgr_pixels(frame)[:, :72].mean() - picture(frame.index)[:, :72].mean()) < 4


def test_two_openings_give_identical_frames(clip, read_all):
    first, second = read_all(make(clip)), read_all(make(clip))
    assert len(first) == len(second) == FRAMES
    for a, b in zip(first, second, strict=True):
        assert (a.index, a.media_ns) == (b.index, b.media_ns)
        assert np.array_equal(a.pixels, b.pixels)


def test_steady_reading_recycles_buffers(clip):
    source = make(clip)
    source.open()
    places = set()
    for _ in range(FRAMES):
        frame = source.read(1.0)
        places.add(frame.pixels.__array_interface__["data"][0])
    source.close()
    assert len(places) <= 2


def test_read_after_the_end_tells_the_end_again(clip):
    source = make(clip)
    source.open()
    for _ in range(FRAMES):
        source.read(1.0)
    for _ in range(3):
        with pytest.raises(SourceEnded):
            source.read(1.0)
    source.close()
    source.close()


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.avi", "mjpeg"), ("a.mov", "mpeg4"), ("a.ts", "libx264")],
)
def test_other_containers(tmp_path, read_all, name, codec):
    frames = read_all(make(write_clip(tmp_path / name, codec=codec)))
    assert len(frames) == FRAMES
    assert frames[0].media_ns == 0
    assert frames[-1].media_ns == pytest.approx((FRAMES - 1) * 50e6, abs=2e6)


def test_trimmed_clip_with_hidden_frames_ends_naturally(clip_index_last, tmp_path, read_all):
    trimmed = trim_start(tmp_path / "trimmed.mp4", clip_index_last, 1.0)
    assert len(read_all(make(trimmed))) == FRAMES - 20


def test_empty_file(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(SourceError, match="empty"):
        make(tmp_path / "a.mp4").open()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a"])
def test_text_is_no_video(tmp_path, name, capfd):
    (tmp_path / name).write_text("hello\n" * 500)
    with pytest.raises(SourceError, match="no video that FFmpeg can decode"):
        make(tmp_path / name).open()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("isolate", [False, True])
def test_clip_cut_before_its_index_does_not_open(clip_index_last, tmp_path, isolate, capfd):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip_index_last.read_bytes()[: clip_index_last.stat().st_size // 2])
    source = make(cut, isolate=isolate)
    with pytest.raises(SourceError, match=r"cut off.*moov"):
        source.open()
    source.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("isolate", [False, True])
def test_clip_cut_in_its_data_gives_its_good_frames_then_a_fault(clip, tmp_path, isolate, capfd):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    frames, error = read_until_fault(make(cut, isolate=isolate))
    assert 5 <= frames < FRAMES - 5
    assert f"after {frames} of {FRAMES} frames" in str(error) and "bytes are missing" in str(error)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mjpeg")])
def test_other_containers_cut_in_their_data(tmp_path, name, codec):
    path = write_clip(tmp_path / name, codec=codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, error = read_until_fault(make(path))
    assert 0 < frames < FRAMES and "broken or cut off" in str(error)


def test_damage_in_the_middle_is_passed_over(tmp_path, clip, caplog, read_all):
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(i * 7 % 256 for i in range(300))
    (tmp_path / "a.mp4").write_bytes(data)
    with caplog.at_level(logging.WARNING):
        frames = read_all(make(tmp_path / "a.mp4"))
    assert len(frames) >= FRAMES - 1
    assert frames[-1].media_ns == (FRAMES - 1) * 50_000_000


def test_index_without_any_frame(tmp_path, clip):
    data = clip.read_bytes()
    where = data.index(b"mdat") + 4
    (tmp_path / "a.mp4").write_bytes(data[:where] + bytes(len(data) - where))
    source = make(tmp_path / "a.mp4")
    with pytest.raises(SourceError):
        source.open()
        while source.read(1.0):
            pass
    source.close()


def test_transparent_gif_becomes_bgr(tmp_path, read_all):
    image = pytest.importorskip("PIL.Image")
    pages = []
    for i in range(5):
        pixels = np.zeros((60, 80, 4), np.uint8)
        pixels[10:30, 10 * i : 10 * i + 15] = (255, 0, 0, 255)
        pages.append(image.fromarray(pixels))
    path = tmp_path / "a.gif"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=80, disposal=2)
    frames = read_all(make(path))
    assert [f.media_ns for f in frames] == [i * 80_000_000 for i in range(5)]
    for i, frame in enumerate(frames):
        assert frame.pixels.shape == (60, 80, 3)
        assert (frame.pixels[20, 10 * i + 7] == (0, 0, 255)).all()


def test_every_real_clip_has_its_frames(assets):
    for entry in json.loads((assets / "MANIFEST.json").read_text())["clips"]:
        source = make(assets / entry["file"])
        info = source.open()
        count, last_ns = 0, -1
        with pytest.raises(SourceEnded):
            while frame := source.read(5.0):
                assert frame.media_ns > last_ns or count == 0
                assert count or frame.media_ns == 0
                last_ns = frame.media_ns
                count += 1
        source.close()
        assert abs(count - entry["frames"]) <= 1, entry["file"]
        assert last_ns / 1e9 == pytest.approx((count - 1) / entry["fps"], rel=0.06), entry["file"]
        assert info.fps == pytest.approx(entry["fps"], rel=0.05)  # GIF: an estimate


def test_real_gifs_have_the_colours_another_reader_sees(assets, read_all):
    image = pytest.importorskip("PIL.Image")
    for path in sorted((assets / "clips").glob("*.gif")):
        reference = image.open(path)
        for frame in read_all(make(path)):
            reference.seek(frame.index)
            rgb = np.asarray(reference.convert("RGB"))
            assert np.array_equal(frame.pixels, rgb[:, :, ::-1])
        assert frame.index == reference.n_frames - 1
        reference.close()


def test_missing_bytes_are_counted_in_each_container(clip, tmp_path):
    for path in (
        clip,
        write_clip(tmp_path / "a.mkv"),
        write_clip(tmp_path / "a.avi", codec="mjpeg"),
    ):
        assert bytes_missing(path) == 0
        (tmp_path / "cut").write_bytes(path.read_bytes()[:-1000])
        assert bytes_missing(tmp_path / "cut") == 1000
    assert bytes_missing(tmp_path / "none") == 0


def test_headers_of_garbage_never_raise(clip, tmp_path):
    matroska = write_clip(tmp_path / "a.mkv").read_bytes()[:6000]
    rng = np.random.default_rng(1)
    for data, at, magic in ((clip.read_bytes()[:6000], 4, b"ftyp"), (matroska, 0, matroska[:4])):
        for _ in range(100):
            broken = bytearray(data[: rng.integers(12, len(data))])
            for place in rng.integers(0, len(broken), 20):
                broken[place] = rng.integers(0, 256)
            broken[at : at + 4] = magic
            (tmp_path / "a").write_bytes(broken)
            assert bytes_missing(tmp_path / "a") >= 0


def test_clock_counts_on_where_positions_do_not_rise():
    clock = MediaClock(fps=25.0, label="x")
    places = [clock.place(ms * 1_000_000) for ms in (120, 160, 200, 0, 0, 400)]
    assert places == [0, 40_000_000, 80_000_000, 120_000_000, 160_000_000, 200_000_000]


def test_clock_without_any_position():
    clock = MediaClock(fps=None, label="x")
    assert [clock.place(None) for _ in range(3)] == [0, 40_000_000, 80_000_000]


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 90_000.0])
def test_impossible_rates_are_unknown(fps):
    assert usable_fps(fps) is None


@pytest.mark.parametrize("isolate", [False, True])
def test_name_that_is_not_utf8_is_told_and_kills_nothing(clip, tmp_path, isolate):
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    try:
        shutil.copy(os.fsencode(clip), path)
    except OSError:
        pytest.skip("this file system takes no such name")
    # in a process of its own: OpenCV 5.0 would end this one
    done = subprocess.run(
        [sys.executable, "-c", OPEN, path, "isolate" if isolate else ""],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.returncode
    assert "its name is not valid UTF-8; rename it" in done.stdout


OPEN = """
import sys
from app.core.errors import SourceError
from app.sources.uri import make_source
source = make_source(sys.argv[1], realtime=False, isolate=bool(sys.argv[2]))
try:
    source.open()
except SourceError as error:
    print(ascii(str(error)))
source.close()
"""
