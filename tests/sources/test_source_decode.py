"""Every kind of picture that a recording may hold comes out as it is to be seen."""

from __future__ import annotations

import itertools
import logging
import os
import resource
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clip_maker import write_clip

from app.core.errors import SourceEnded, SourceError
from app.core.frame import Colour, bgr_pixels
from app.sources.base import SourceOptions
from app.sources.uri import make_source

av = pytest.importorskip("av")

CASES = Path(__file__).parents[2].parent / "shared/cases"


def make(path, **options):
    return make_source(str(path), realtime=False, options=SourceOptions(**options))


def scene(width: int, height: int, shift: int = 0) -> np.ndarray:
    """(H, W, 3) RGB: a red, a green, a blue and a white quarter, and a moving gray bar."""
    rgb = np.zeros((height, width, 3), np.uint8)
    half_h, half_w = height // 2, width // 2
    rgb[:half_h, :half_w] = (220, 30, 30)
    rgb[:half_h, half_w:] = (30, 220, 30)
    rgb[half_h:, :half_w] = (30, 30, 220)
    rgb[half_h:, half_w:] = (230, 230, 230)
    rgb[:, shift % width : shift % width + 2] = 128
    return rgb


def corners(frame) -> list[str]:
    """Which of red, green, blue and white each quarter is: above left, right, below left, right."""
    bgr = bgr_pixels(frame).astype(int)
    height, width = bgr.shape[:2]
    names = {"red": (30, 30, 220), "green": (30, 220, 30), "blue": (220, 30, 30)}
    names["white"] = (230, 230, 230)
    found = []
    for down in (1, 3):
        for across in (1, 3):
            y, x = height * down // 4, width * across // 4
            patch = bgr[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
            centre = np.median(patch, axis=0)
            found.append(min(names, key=lambda name: abs(centre - names[name]).sum()))
    return found


def encode(
    path: Path,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    wh_px: tuple[int, int] = (160, 120),
    frames: int = 12,
    options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    times: list[int] | None = None,
) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=20)
        stream.width, stream.height = wh_px
        stream.pix_fmt = pix_fmt
        stream.options = options or {}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(*wh_px, 3 * index), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 20)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


UPRIGHT = ["red", "green", "blue", "white"]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "format"),
    [
        ("a.mp4", "libx264", "yuv420p", "i420"),
        ("a.avi", "mjpeg", "yuvj420p", "i420"),
        ("a.mp4", "libx264", "yuv422p", "i420"),
        ("a.mp4", "libx264", "yuv444p", "i420"),
        ("a.mp4", "libx264", "yuv420p10le", "i420"),
        ("a.mkv", "ffv1", "yuv420p12le", "i420"),
        ("a.mkv", "ffv1", "yuva420p", "i420"),
        ("a.mkv", "ffv1", "bgra", "bgr8"),
        ("a.avi", "rawvideo", "bgr24", "bgr8"),
        ("a.mkv", "ffv1", "rgb48le", "bgr8"),
        ("a.apng", "apng", "rgb24", "bgr8"),
        ("a.ts", "mpeg2video", "yuv420p", "i420"),
        ("a.webm", "libvpx-vp9", "yuv420p", "i420"),
    ],
)
def test_pixel_formats_keep_planes_or_become_bgr(tmp_path, read_all, name, codec, pix_fmt, format):
    frames = read_all(make(encode(tmp_path / name, codec=codec, pix_fmt=pix_fmt)))
    assert len(frames) == 12
    assert {(f.format, f.wh_px) for f in frames} == {(format, (160, 120))}
    # a bar two pixels wide passes through some quarters
    assert sum(corners(frame) == UPRIGHT for frame in frames) >= 10


@pytest.mark.parametrize("wh_px", [(161, 121), (160, 121), (162, 122), (18, 2)])
def test_sizes_that_are_not_multiples_of_anything(tmp_path, read_all, wh_px):
    frames = read_all(make(encode(tmp_path / "a.mkv", codec="ffv1", wh_px=wh_px)))
    assert {f.wh_px for f in frames} == {wh_px}
    even = wh_px[0] % 2 == 0 and wh_px[1] % 2 == 0
    assert {f.format for f in frames} == {"i420" if even else "bgr8"}
    if min(wh_px) > 2:
        assert corners(frames[0]) == UPRIGHT


@pytest.mark.parametrize(
    ("tags", "colour"),
    [
        ({}, Colour("bt601", False)),
        ({"colorspace": "bt709", "color_range": "tv"}, Colour("bt709", False)),
        ({"colorspace": "bt2020nc", "color_range": "pc"}, Colour("bt2020", True)),
        ({"colorspace": "smpte170m", "color_range": "tv"}, Colour("bt601", False)),
    ],
)
def test_matrix_and_range_are_those_of_the_stream(tmp_path, read_all, tags, colour):
    frames = read_all(make(encode(tmp_path / "a.mp4", options=tags)))
    assert {f.colour for f in frames} == {colour}


def test_bgr_of_an_odd_size_is_converted_by_the_matrix_of_the_stream(tmp_path, read_all):
    """Pure red in 601 is another luma than in 709: by the wrong matrix it is 20 steps off."""
    means = []
    for matrix in ("smpte170m", "bt709"):
        path = tmp_path / f"{matrix}.mkv"
        wh_px = (161, 121)
        y, u, v = {"smpte170m": (81, 90, 240), "bt709": (63, 102, 240)}[matrix]
        with av.open(str(path), "w") as out:
            stream = out.add_stream("ffv1", rate=20)
            stream.width, stream.height = wh_px
            stream.pix_fmt = "yuv420p"
            stream.options = {"colorspace": matrix, "color_range": "tv"}
            frame = av.VideoFrame(*wh_px, "yuv420p")
            for plane, value in zip(frame.planes, (y, u, v), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.colorspace = {"smpte170m": 6, "bt709": 1}[matrix]
            frame.color_range = 1
            out.mux(stream.encode(frame))
            out.mux(stream.encode())
        (got,) = read_all(make(path))
        assert got.colour.matrix == {"smpte170m": "bt601"}.get(matrix, matrix)
        means.append(got.pixels.reshape(-1, 3).mean(axis=0))
    for mean in means:
        assert mean == pytest.approx([0, 0, 254], abs=4)


def test_aspect_of_pixels_follows_the_container(tmp_path, read_all):
    path = encode(tmp_path / "a.mp4", wh_px=(80, 120), aspect=Fraction(2, 1))
    frames = read_all(make(path))
    assert {(f.wh_px, f.pixel_aspect) for f in frames} == {((80, 120), 2.0)}


def rotated(path: Path, source: Path, degrees: int) -> Path:
    """A copy that asks to be turned so far counterclockwise, as phones write it."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix comes 40 bytes after the type
    one = 1 << 16
    # stored order: a b u c d v x y w; a point (p, q) goes to (a p + c q, b p + d q)
    for number, value in ((0, cos), (1, -sin), (3, sin), (4, cos)):
        data[at + 4 * number : at + 4 * number + 4] = (value * one).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("degrees", "order"),
    [
        (90, ["green", "white", "red", "blue"]),
        (180, ["white", "blue", "green", "red"]),
        (270, ["blue", "red", "white", "green"]),
    ],
)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
def test_pictures_stand_upright(tmp_path, read_all, degrees, order, pix_fmt):
    source = encode(tmp_path / "a.mp4", pix_fmt=pix_fmt, aspect=Fraction(2, 1))
    path = rotated(tmp_path / "b.mp4", source, degrees)
    frames = read_all(make(path))
    turned = degrees != 180
    wh_px = (120, 160) if turned else (160, 120)
    opened = make(path)
    assert opened.open().wh_px == wh_px
    opened.close()
    assert {(f.wh_px, f.pixel_aspect) for f in frames} == {(wh_px, 0.5 if turned else 2.0)}
    assert sum(corners(frame) == order for frame in frames) >= 10


def test_rows_from_the_bottom_up_are_turned_over(tmp_path, read_all):
    path = encode(tmp_path / "a.avi", codec="rawvideo", pix_fmt="bgr24", wh_px=(48, 48))
    data = bytearray(path.read_bytes())
    at = data.index(b"strf") + 16  # 'strf', size, biSize, biWidth, then biHeight: negative is down
    assert int.from_bytes(data[at : at + 4], "little", signed=True) == -48
    data[at : at + 4] = (48).to_bytes(4, "little")
    path.write_bytes(data)
    frames = read_all(make(path))
    assert len(frames) == 12
    assert corners(frames[0]) == ["blue", "white", "red", "green"]


def woven(path: Path) -> Path:
    """Interlaced H.264: even rows show a bar at one place, odd rows at another."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"x264-params": "tff=1:bframes=0", "flags": "+ilme+ildct"}
        for index in range(10):
            rgb = np.full((120, 160, 3), 40, np.uint8)
            rgb[0::2, 10 * index : 10 * index + 8] = 220
            rgb[1::2, 10 * index + 20 : 10 * index + 28] = 220
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode())
    return path


def comb(frame) -> float:
    """How much neighbouring rows differ: fields of two moments make a comb."""
    luma = frame.pixels[:120].astype(int)
    return float(abs(luma[1:] - luma[:-1]).mean())


def test_interlaced_pictures_are_decoded_and_made_whole_on_request(tmp_path, read_all):
    path = woven(tmp_path / "a.mp4")
    plain = read_all(make(path))
    whole = read_all(make(f"{path}?deinterlace=1"))
    assert [f.media_ns for f in plain] == [f.media_ns for f in whole]
    assert len(plain) == 10 and plain[3].pixels.max() > 150
    for before, after in zip(plain[1:-1], whole[1:-1], strict=True):
        assert comb(after) < 0.4 * comb(before)


def test_change_of_size_and_aspect_is_followed_and_told_once(tmp_path, read_all, caplog):
    first = encode(tmp_path / "1.ts", options={"g": "5"})
    second = encode(tmp_path / "2.ts", wh_px=(80, 90), aspect=Fraction(3, 2))
    third = encode(tmp_path / "3.ts")
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(each.read_bytes() for each in (first, second, third)))
    with caplog.at_level(logging.INFO):
        frames = read_all(make(path))
    seen = [(f.wh_px, f.pixel_aspect) for f in frames]
    assert seen == [((160, 120), 1.0)] * 12 + [((80, 90), 1.5)] * 12 + [((160, 120), 1.0)] * 12
    told = [r.getMessage() for r in caplog.records if "80x90" in r.getMessage()]
    assert len(told) == 1
    assert all(a.media_ns < b.media_ns for a, b in itertools.pairwise(frames))


def test_segment_whose_clock_starts_late_starts_at_nought(tmp_path, read_all):
    path = encode(tmp_path / "a.mkv", times=[2000 + i for i in range(12)])
    frames = read_all(make(path))
    assert [f.media_ns for f in frames] == [50_000_000 * i for i in range(12)]


def test_uneven_times_are_kept(tmp_path, read_all):
    times = [0, 1, 2, 10, 11, 30, 31, 32, 33, 34, 60, 61]
    frames = read_all(make(encode(tmp_path / "a.mkv", times=times, options={"bf": "2"})))
    assert [f.media_ns for f in frames] == [50_000_000 * t for t in times]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.h264"])
def test_every_place_is_found_in_every_container(tmp_path, name):
    codec = "mpeg4" if name == "a.avi" else "libx264"
    options = {"g": "8", "bf": "0" if codec == "mpeg4" else "2"}
    path = encode(tmp_path / name, codec=codec, frames=30, options=options)
    source = make(path)
    source.open()
    straight = []
    with pytest.raises(SourceEnded):
        while True:
            frame = source.read(1.0)
            straight.append((frame.media_ns, frame.pixels.copy()))
    source.close()
    assert len(straight) == 30
    source = make(path)
    source.open()
    for place in (0, 29, 15, 1, 16, 8, 7, 9, 0):
        media_ns, pixels = straight[place]
        source.seek(media_ns + 10_000_000)  # between two frames: the one that is shown then
        frame = source.read(1.0)
        assert frame.media_ns == media_ns, place
        assert np.array_equal(frame.pixels, pixels), place
        if place < 29:
            assert source.read(1.0).media_ns == straight[place + 1][0]
    source.close()


def test_picture_above_the_limit_is_refused_before_it_is_decoded(tmp_path):
    source = make(encode(tmp_path / "a.mp4"), max_megapixels=0.01)
    with pytest.raises(SourceError, match=r"160x120, above 0\.01 megapixels: raise max_megapixels"):
        source.open()
    source.close()


def test_limit_is_named_where_the_decoder_keeps_the_size_to_itself(tmp_path):
    path = encode(tmp_path / "a.avi", codec="mjpeg", pix_fmt="yuvj420p")
    source = make(path, max_megapixels=0.01)
    with pytest.raises(SourceError, match="raise max_megapixels"):
        source.open()
    source.close()


def test_picture_that_grows_above_the_limit_is_refused(tmp_path):
    small = encode(tmp_path / "1.ts", wh_px=(80, 60))
    large = encode(tmp_path / "2.ts", wh_px=(320, 240))
    path = tmp_path / "a.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    source = make(path, max_megapixels=0.02)
    source.open()
    frames = 0
    with pytest.raises((SourceError, SourceEnded)):
        while source.read(1.0):
            frames += 1
    source.close()
    assert frames == 12


def test_decoding_process_has_a_limit_on_its_memory(tmp_path):
    source = make_source(str(encode(tmp_path / "a.mp4")), realtime=False, isolate=True)
    source.open()
    soft, hard = resource.prlimit(source.pid, resource.RLIMIT_DATA)
    source.close()
    assert 1 << 30 < soft == hard < 8 << 30


def test_decoder_without_memory_fails_with_a_message(tmp_path):
    path = encode(
        tmp_path / "a.mp4", wh_px=(1920, 1080), frames=20, options={"preset": "ultrafast"}
    )
    source = make_source(str(path), realtime=False, isolate=True)
    source.open()
    resource.prlimit(source.pid, resource.RLIMIT_DATA, (1 << 20, 1 << 20))
    with pytest.raises(SourceError, match=r"memory|died|failed"):
        for _ in range(40):
            source.read(5.0)
    source.close()


@pytest.mark.parametrize("isolate", [False, True])
def test_fields_of_a_frame_cross_the_process_border(tmp_path, isolate, read_all):
    path = encode(
        tmp_path / "a.mp4",
        options={"colorspace": "bt709", "color_range": "pc"},
        aspect=Fraction(4, 3),
    )
    frames = read_all(make_source(str(path), realtime=False, isolate=isolate))
    assert len(frames) == 12
    for frame in frames:
        assert (frame.format, frame.colour) == ("i420", Colour("bt709", True))
        assert frame.pixel_aspect == pytest.approx(4 / 3)


def test_recording_without_any_rate_or_length_ends_naturally(tmp_path, read_all):
    path = encode(tmp_path / "a.h264")
    source = make(path)
    assert source.open().frame_count is None
    source.close()
    assert len(read_all(make(path))) == 12


def test_matroska_cut_short_is_told_after_its_last_good_frame(tmp_path):
    path = write_clip(tmp_path / "a.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    source = make(path)
    source.open()
    frames = 0
    with pytest.raises(SourceError, match="bytes are missing"):
        while source.read(1.0):
            frames += 1
    assert 20 <= frames < 40


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """The odd recordings of ../shared/cases, where this checkout has them and FFmpeg."""
    script = CASES / "make_clips.sh"
    if not script.exists() or shutil.which("ffmpeg") is None:
        pytest.skip(f"needs {script} and ffmpeg")
    folder = tmp_path_factory.mktemp("cases")
    names = list(EXPECTED)
    environment = dict(os.environ, PYTHON=shutil.which("python3") or "python3")
    subprocess.run(
        [script, folder, CASES / "clip.mp4", *[n for n in names if n != "raw_bottomup.avi"]],
        check=True,
        env=environment,
        capture_output=True,
    )
    return folder


# frames, media_ns of the last, sizes, exit
EXPECTED = {
    "interlaced_h264.mp4": (60, 5_900, {(640, 360): 60}),
    "interlaced_dv.dv": (100, 3_960, {(720, 576): 100}),
    "progressive_then_interlaced.h264": (120, None, {(640, 360): 120}),
    "av1.mp4": (60, 2_950, {(640, 360): 60}),
    "segment.mkv": (80, 3_950, {(640, 360): 80}),
    "size_change.ts": (120, None, {(640, 360): 60, (320, 360): 60}),
    "sar2.mp4": (60, 2_950, {(320, 360): 60}),
    "animated.apng": (20, 1_900, {(320, 180): 20}),
    "truncated.ts": (136, None, {(640, 360): 136}),
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_odd_recordings(cases, read_all, name):
    count, last_ms, sizes = EXPECTED[name]
    frames = read_all(make(cases / name))
    assert len(frames) == count
    assert {wh: sum(f.wh_px == wh for f in frames) for wh in sizes} == sizes
    if last_ms is not None:
        assert frames[-1].media_ns == last_ms * 1_000_000
    assert np.mean([f.pixels[: f.wh_px[1]].std() for f in frames]) > 20, "black or gray pictures"
    assert len({f.pixels[::7, ::7].tobytes() for f in frames}) > 0.3 * count, "stands still"
