"""No output has a picture of what is private, and masked sources are never copied."""

from __future__ import annotations

import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from app.commands.cli import main
from app.config import make_config
from app.core.errors import ConfigError
from app.pipeline.handoff import Policy
from app.runtime.inputs import packets_for, privacy_of
from tests.processes import half_red, start
from tests.runtime.test_outputs import ask
from tests.sinks.mqtt.broker import free_port, until

PRIVATE = """
[[privacy]]
name = "garden"
points = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
"""


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return half_red(tmp_path / "film.mp4", frames=40)


def red(bgr: np.ndarray) -> bool:
    """Whether anything of the private half is there; boxes are drawn in white and yellow."""
    pixels = bgr.reshape(-1, 3).astype(int)
    return bool(((pixels[:, 2] > 90) & (pixels[:, 1] < 60) & (pixels[:, 0] < 60)).mean() > 0.002)


def pictures(path: Path) -> list[np.ndarray]:
    if path.suffix == ".jpg":
        return [cv2.imread(str(path))]
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_the_film_itself_shows_it(film: Path) -> None:
    assert all(red(each) for each in pictures(film))


@pytest.mark.parametrize("burn_in", ["", "--burn-in", "--no-burn-in"])
def test_no_file_shows_it(film: Path, tiny_model: Path, tmp_path: Path, burn_in: str) -> None:
    config = tmp_path / "k.toml"
    config.write_text(PRIVATE)
    out = tmp_path / "out"
    words = ["replay", str(film), "--config", str(config), "--model", str(tiny_model)]
    words += ["--record", f"{out}/record.mp4", "--store", f"{out}/store"]
    out.mkdir()
    assert main([*words, *filter(None, [burn_in])]) == 0
    files = [*out.rglob("*.mp4"), *out.rglob("*.jpg")]
    assert {path.parent.name for path in files} >= {"out", "snapshots", "clips"}
    for path in files:
        shown = pictures(path)
        assert shown and not any(red(each) for each in shown), path


def test_no_page_shows_it(film: Path, tiny_model: Path, tmp_path: Path) -> None:
    config, port = tmp_path / "k.toml", free_port()
    config.write_text(PRIVATE)
    words = ["run", "--headless", "--source", str(film), "--http", str(port)]
    words += ["--config", str(config), "--model", str(tiny_model)]
    process = start(*words, stdout=None, stderr=None)
    try:
        until(lambda: ask(port, "/snapshot.jpg")[0] == 200, 60)
        time.sleep(0.3)
        jpeg = ask(port, "/snapshot.jpg")[1]
    finally:
        process.terminate()
        process.wait(60)
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None and not red(shown)


def test_packets_of_a_private_source_are_not_copied_and_of_others_are() -> None:
    row = {"name": "x", "points": [[0, 0], [1, 0], [0, 1]], "source": "a"}
    config = make_config(
        {"sources": ["a=sample:", "b=sample:"], "record": "out/", "privacy": (row,)}
    )
    assert packets_for(config, Policy.LATEST, "a") is None
    assert packets_for(config, Policy.LATEST, "b") is not None
    faces = make_config({"source": "sample:", "record": "out/", "blur_faces": True})
    assert packets_for(faces, Policy.LATEST) is None


def test_an_area_of_a_source_that_is_not_there_is_refused() -> None:
    row = {"name": "x", "points": [[0, 0], [1, 0], [0, 1]], "source": "garden"}
    for sources in ({"source": "sample:"}, {"sources": ["a=sample:", "gardens=sample:"]}):
        with pytest.raises(ConfigError, match=r"\[\[privacy\]\] 1"):
            privacy_of(make_config({**sources, "privacy": (row,)}), "a")


def test_what_would_hide_nothing_is_refused_before_the_run(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat.toml"
    flat.write_text('[[privacy]]\nname = "x"\npoints = [[0, 0], [0.5, 0.5], [1, 1]]\n')
    words = ["--source", "sample:", "--headless", "--model", str(tiny_model)]
    for more in (["--config", str(flat)], ["--blur-faces"]):
        assert main(["run", *words, *more, "--check"]) == 2
        assert main(["run", *words, *more]) == 2
        assert "privacy" in capsys.readouterr().err


def test_faces_are_hidden_whatever_score_is_asked_of_what_is_reported(tmp_path: Path) -> None:
    def shown(name: str, *more: str) -> np.ndarray:
        words = [
            "--record",
            str(tmp_path / name),
            "--no-burn-in",
            "--max-frames",
            "3",
            "--headless",
        ]
        assert main(["replay", "sample:", *words, *more]) == 0
        with av.open(str(tmp_path / name)) as film:
            last = list(film.decode(video=0))[-1]
        return last.to_ndarray(format="gray").astype(int)

    clear = shown("clear.mp4", "--score", "0.99")
    changed = np.abs(shown("blurred.mp4", "--score", "0.99", "--blur-faces") - clear) > 40
    assert changed.any()
