"""The bundled clip is what its README says."""

from __future__ import annotations

import hashlib
import re

import av

from tests.sinks.kit import ROOT

CLIP = ROOT / "app" / "sources" / "sample.mp4"
README = CLIP.with_name("sample.README.md")


def test_clip_has_the_size_length_and_format_that_its_readme_names() -> None:
    assert CLIP.stat().st_size < 2_000_000
    with av.open(str(CLIP)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 20
        frames = [(f.width, f.height, round(float(f.time), 3)) for f in container.decode(video=0)]
    assert frames == [(640, 360, round(i / 20, 3)) for i in range(240)]


def test_clip_is_the_one_that_its_readme_describes() -> None:
    assert hashlib.sha256(CLIP.read_bytes()).hexdigest() in README.read_text(encoding="utf-8")


def test_ground_truth_covers_every_frame_once() -> None:
    rows = re.findall(r"^\| (\d+)–(\d+) \| \d \| \d \|$", README.read_text(encoding="utf-8"), re.M)
    covered = [i for first, last in rows for i in range(int(first), int(last) + 1)]
    assert covered == list(range(240))
