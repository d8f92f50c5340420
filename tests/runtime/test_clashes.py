"""Outputs never overwrite inputs, under whatever name."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import ConfigError
from app.runtime.clashes import refuse_clashes


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"dear")
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    for name in (clip, link, tmp_path / "." / "clip.mp4", f"file://{clip}"):
        with pytest.raises(ConfigError, match=r"--record .* is also the source"):
            refuse_clashes(outputs={"--record": str(clip)}, inputs={"the source": str(name)})


def test_two_outputs_in_one_file_are_refused_before_it_exists(tmp_path: Path) -> None:
    target = str(tmp_path / "out.mp4")
    with pytest.raises(ConfigError, match=r"--json .* is also --record"):
        refuse_clashes(outputs={"--json": target, "--record": target}, inputs={})


def test_what_is_no_file_does_not_clash(tmp_path: Path) -> None:
    refuse_clashes(
        outputs={"--json": "-", "--record": None},
        inputs={"the source": "rtsp://host/stream", "--expect": "-", "x": "a" * 5000},
    )
    refuse_clashes(outputs={"--json": "/dev/null", "--record": "/dev/null"}, inputs={})
