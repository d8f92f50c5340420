"""What moves passes, all of it; what stands still passes now and then."""

from __future__ import annotations

import functools
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from app.config import MotionOptions
from app.core.frame import Frame
from app.sources.base import SourceOptions
from app.sources.motion import MotionDetector
from app.sources.uri import make_source

FPS, FRAMES, MOVES = 20, 200, range(93, 121)
RNG = np.random.default_rng(4)
SCENE = RNG.integers(60, 200, (180, 320), np.uint8)


@functools.cache
def picture(index: int, *, noise: int = 2) -> np.ndarray:
    """A scene with some noise, and in frames MOVES a thing that crosses it."""
    pixels = SCENE.copy()
    if index in MOVES:
        left = 10 * (index - MOVES.start)
        pixels[60:120, left : left + 24] = 250
    shake = np.random.default_rng(index).integers(-noise, noise + 1, pixels.shape)
    return np.clip(pixels + shake, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["g=10:bf=0", "g=10:bf=2", "g=45:bf=0", "g=500:bf=2"])
def film(request, tmp_path_factory) -> Path:
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.options = dict(each.split("=") for each in request.param.split(":"))
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(index), format="gray8")
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
    return path


def options(**motion: float) -> SourceOptions:
    return SourceOptions(motion=MotionOptions(**{"hold_s": 0.2, "wake_s": 1.0, **motion}))


@pytest.mark.parametrize("isolate", [False, True])
def test_what_moves_passes_whole_and_the_rest_is_counted(film, read_all, isolate: bool) -> None:
    whole = {frame.index: frame for frame in read_all(make_source(str(film), realtime=False))}
    source = make_source(str(film), realtime=False, isolate=isolate, options=options())
    given = read_all(source)
    assert {frame.index for frame in given} >= set(MOVES)
    assert len(given) < FRAMES / 2
    for frame in given:
        same = whole[frame.index]
        assert frame.media_ns == same.media_ns
        assert (frame.pixels == same.pixels).all()
    indexes = [frame.index for frame in given]
    assert indexes == sorted(set(indexes))
    assert indexes[-1] == FRAMES - 1, "the last one is given, so that all before it are counted"
    assert [f.still for f in given[1:]] == [b - a - 1 for a, b in itertools.pairwise(indexes)]
    assert all((frame.still > 0) == (frame.still_ns > 0) for frame in given)


def test_each_clip_of_a_folder_is_gated(film, read_all, tmp_path) -> None:
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(film, tmp_path / name)
    given = read_all(make_source(str(tmp_path), realtime=False, options=options()))
    assert {frame.index for frame in given} >= {*MOVES, *(FRAMES + i for i in MOVES)}
    assert len(given) < FRAMES
    assert sum(1 + frame.still for frame in given) == 2 * FRAMES, "all are counted"


def test_one_frame_passes_in_every_floor_s(film, read_all) -> None:
    given = read_all(make_source(str(film), realtime=False, options=options(floor_s=1.5)))
    times_s = [frame.media_ns / 1e9 for frame in given]
    gaps_s = np.diff([*times_s, FRAMES / FPS])
    assert gaps_s.max() <= 1.5 + 1.0  # a look may come wake_s later


def test_all_frames_are_decoded_where_wake_s_forbids_less(film, read_all) -> None:
    source = make_source(str(film), realtime=False, options=options(wake_s=0))
    given = read_all(source)
    assert not source.inner.resting
    assert {frame.index for frame in given} >= set(MOVES)
    assert len(given) < FRAMES / 2


def test_first_frame_after_a_move_in_the_recording_passes(film) -> None:
    source = make_source(str(film), realtime=False, options=options())
    source.open()
    for place_s in (3.0, 1.0, 8.0, 2.0):
        source.seek(round(place_s * 1e9))
        assert source.read(5.0).media_ns == round(place_s * 1e9)
    source.close()


def moving(pictures) -> list[bool]:
    detector = MotionDetector()
    return [
        detector.moves(Frame(np.ascontiguousarray(pixels), i, 0, round(i / FPS * 1e9), "gray8"))
        for i, pixels in enumerate(pictures)
    ]


def test_noise_and_light_are_no_motion_and_a_thing_in_them_is() -> None:
    def lit(index: int) -> np.ndarray:
        brighter = picture(index, noise=12).astype(np.int16) + (40 if index >= 60 else 0)
        return np.clip(brighter, 0, 255).astype(np.uint8)

    moves = moving(lit(i) for i in range(FRAMES))
    assert not any(moves[20:90])
    assert all(moves[i] for i in MOVES)


def test_a_clock_burnt_in_is_soon_no_motion() -> None:
    def clock(index: int) -> np.ndarray:
        pixels = picture(index % MOVES.start).copy()
        digits = np.random.default_rng(index // FPS).integers(0, 2, (2, 3), np.uint8) * 255
        pixels[8:14, 250:259] = np.kron(digits, np.ones((3, 3), np.uint8))
        return pixels

    moves = moving(clock(i) for i in range(60 * FPS))
    assert sum(moves[30 * FPS :]) < 0.05 * 30 * FPS


def test_a_thing_that_stays_becomes_part_of_the_scene_and_moves_when_it_goes() -> None:
    moves = moving(picture(105 if 40 <= i < 300 else 0, noise=2) for i in range(400))
    assert moves[40] and moves[300]
    assert not any(moves[200:300]) and not any(moves[390:])


def test_motion_in_a_masked_area_does_not_count() -> None:
    detector = MotionDetector([(False, [(0, 0), (1, 0), (1, 0.8), (0, 0.8)])])
    for i in range(MOVES.stop):
        frame = Frame(picture(i), i, 0, round(i / FPS * 1e9), "gray8")
        assert detector.moves(frame) is (i == 0)


def test_where_it_moves_is_told_with_the_frame(film, read_all) -> None:
    source = make_source(str(film), realtime=False, isolate=True, options=options(regions=True))
    for frame in read_all(source):
        if frame.index in MOVES[3:-6]:
            left = 10 * (frame.index - MOVES.start)
            assert frame.regions, "something moves"
            x0, y0, x1, y1 = np.array(frame.regions).reshape(-1, 4).T
            assert x0.min() <= left + 4 and x1.max() >= left + 20
            assert y0.min() <= 64 and y1.max() >= 116
        elif frame.index == 0:
            assert frame.regions is None
