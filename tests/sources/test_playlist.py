"""Several files are one source: folders, patterns, lists, clips and loops."""

from __future__ import annotations

import shutil
from itertools import pairwise

import cv2
import numpy as np
import pytest

from app.commands.cli import make_parser
from app.core.errors import ConfigError, SourceError
from app.core.frame import bgr_pixels
from app.core.interfaces import Seekable
from app.sources.images import find
from app.sources.uri import is_recording, make_source


def make(uri, **options):
    return make_source(str(uri), realtime=False, **options)


@pytest.fixture
def photos(tmp_path):
    """Pictures 1, 2, 10 in photos/ and 3 in photos/more/; a note."""
    for name in ("photos/1.png", "photos/2.png", "photos/10.png", "photos/more/3.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((64, 64, 3), int(path.stem), np.uint8))
    (tmp_path / "photos/note.txt").write_text("no picture")
    return tmp_path / "photos"


def values(frames):
    return [int(bgr_pixels(f)[0, 0, 0]) for f in frames]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.png", [1, 2, 10]),
        ("*", [1, 2, 10]),
        ("?.png", [1, 2]),
        ("[12]*.png", [1, 2, 10]),
        ("**/*.png", [1, 2, 10, 3]),
        ("%d.png", [1, 2, 10]),
        ("%02d.png", [10]),
    ],
)
@pytest.mark.parametrize("isolate", [False, True])
def test_patterns(photos, read_all, pattern, wanted, isolate):
    assert values(read_all(make(photos / pattern, isolate=isolate))) == wanted
    assert is_recording(str(photos / pattern))


def test_link_to_a_folder_above_plays_nothing_twice(photos):
    (photos / "more/up").symlink_to(photos)
    names = [str(path.relative_to(photos)) for path in find(str(photos / "**/*.png"))]
    assert names == ["1.png", "2.png", "10.png", "more/3.png"]


@pytest.mark.parametrize("name", ["a[1].png", "a%d.png", "a*.png", "a.png?loop=1", "a|b.png"])
def test_file_of_that_very_name_wins(tmp_path, read_all, name):
    pixels = np.full((8, 8, 3), 5, np.uint8)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    (tmp_path / name).write_bytes(data)
    (tmp_path / "a1.png").write_bytes(cv2.imencode(".png", pixels + 1)[1].tobytes())
    if name.endswith("1"):  # no suffix of a picture: it is taken for a video
        assert find(str(tmp_path / name)) == [tmp_path / name]
    else:
        assert values(read_all(make(tmp_path / name))) == [5]


@pytest.mark.parametrize("pattern", ["*.jpg", "x%04d.png", "**/*.mp4", "x?loop=1"])
def test_pattern_that_means_nothing(photos, pattern):
    with pytest.raises(SourceError) as caught:
        make(photos / pattern)
    assert caught.value.exit_code == 3


def test_folder_of_clips_plays_on(tmp_path, clip, read_all):
    single = read_all(make(clip))
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip, tmp_path / name)
    frames = read_all(make(tmp_path))
    assert len(frames) == 2 * len(single)
    assert [f.index for f in frames] == list(range(len(frames)))
    times = [f.media_ns for f in frames]
    assert all(a < b for a, b in pairwise(times))
    assert times[len(single)] == pytest.approx(times[len(single) - 1] + 50_000_000, abs=2_000_000)


def test_pictures_and_clips_mix_and_a_bad_clip_is_left_out(tmp_path, clip, read_all, caplog):
    caplog.set_level("INFO")
    shutil.copy(clip, tmp_path / "b.mp4")
    (tmp_path / "c.mp4").write_bytes(b"nonsense")
    for name in ("a", "d"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((64, 64, 3), 9, np.uint8))
    frames = read_all(make(tmp_path))
    assert len(frames) == 1 + len(read_all(make(clip))) + 1
    assert values(frames)[0] == values(frames)[-1] == 9
    assert all(a.media_ns < b.media_ns for a, b in pairwise(frames))
    told = "\n".join(r.getMessage() for r in caplog.records)
    assert "2 pictures and 2 videos" in told and "c.mp4" in told and "1 of 4" in told


@pytest.mark.parametrize("isolate", [False, True])
def test_loop_goes_on_in_index_and_time(photos, clip, read_all, isolate):
    frames = read_all(make(f"{photos}?loop=1", isolate=isolate), limit=8)
    assert values(frames) == [1, 2, 10, 1, 2, 10, 1, 2]
    assert [f.index for f in frames] == list(range(8))
    assert [f.media_ns for f in frames] == [i * 100_000_000 for i in range(8)]
    frames = read_all(make(f"{clip}?loop=1", isolate=isolate), limit=100)
    assert len(frames) == 100 and all(a.media_ns < b.media_ns for a, b in pairwise(frames))
    assert not is_recording(f"{clip}?loop=1") and is_recording(f"{clip}?loop=0")


@pytest.mark.parametrize("query", ["?loop=2", "?loop=yes", "?loop="])
def test_other_values_of_loop_are_refused(clip, query):
    with pytest.raises(ConfigError, match="0 or 1"):
        make(f"{clip}{query}")


def test_loop_over_nothing_that_can_be_read_ends(tmp_path):
    (tmp_path / "1.png").write_bytes(b"nonsense")
    with pytest.raises(SourceError):
        make(f"{tmp_path}?loop=1").open()


def test_one_cannot_move_among_clips(tmp_path, clip):
    shutil.copy(clip, tmp_path / "a.mp4")
    shutil.copy(clip, tmp_path / "b.mp4")
    source = make(tmp_path)
    source.open()
    assert not isinstance(source, Seekable) or not source.can_seek
    source.close()


@pytest.mark.parametrize("start", [["run"], ["replay"], ["run", "--headless"], ["run", "--source"]])
def test_pattern_that_the_shell_has_expanded(photos, read_all, start):
    files = sorted(map(str, photos.glob("*.png")))
    args = make_parser(start[0]).parse_args([*start, *files, "--headless"])
    source = args.source if start[0] == "replay" else args.sources[0]
    assert sorted(values(read_all(make(source)))) == [1, 2, 10]
