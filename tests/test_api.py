"""The public API: frames in, detections out; streams end with their reader; errors are ours."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import app
from app import ConfigError, Detector, KestrelError, ModelError, SourceError, Stream, stream
from tests.shelf_kit import save_graph

ROOT = Path(__file__).parents[1]


@pytest.fixture
def frames() -> list[np.ndarray]:
    """The first frames of the bundled clip."""
    capture = cv2.VideoCapture(str(ROOT / "app" / "sources" / "sample.mp4"))
    taken = [capture.read()[1] for _ in range(6)]
    capture.release()
    return taken


def our_threads() -> set[str]:
    """Names of threads that a pipeline or an engine has left."""
    return {thread.name for thread in threading.enumerate()} & {"capture", "pipeline", "worker-0"}


def test_a_detector_finds_what_the_bundled_clip_shows(frames: list[np.ndarray]) -> None:
    with Detector("kestrel", engine="cpu") as detect:
        found = detect(frames[0])
        assert {"person", "face"} <= set(detect.names(found))
        assert found.xyxy.shape == (len(found), 4) and found.scores[0] <= 1
        right, bottom = found.xyxy[:, 2].max(), found.xyxy[:, 3].max()
        assert right <= frames[0].shape[1] and bottom <= frames[0].shape[0]
    assert not our_threads()


def test_a_list_gives_the_same_as_frame_after_frame(frames: list[np.ndarray]) -> None:
    with Detector(engine="cpu") as detect:
        one_by_one = [detect(frame) for frame in frames]
        together = detect([*frames[:5], frames[5][:, ::-1][:, ::-1]])  # one that is not contiguous
        assert detect([]) == []
    assert [len(each) for each in together] == [len(each) for each in one_by_one]
    for a, b in zip(one_by_one, together, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)


def test_a_higher_score_leaves_fewer(frames: list[np.ndarray]) -> None:
    with Detector(engine="cpu") as all_, Detector(engine="cpu", score=0.9) as few:
        scores = all_(frames[0]).scores
        np.testing.assert_array_equal(few(frames[0]).scores, scores[scores >= 0.9])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
        "clip.mp4",
        None,
    ],
)
def test_what_is_no_frame_is_refused_and_the_next_one_is_taken(
    wrong: object, frames: list[np.ndarray]
) -> None:
    with Detector(engine="cpu") as detect:
        with pytest.raises(ConfigError, match="uint8 BGR"):
            detect(wrong)
        assert len(detect(frames[0]))


def test_a_model_that_is_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="model is a int"):
        Detector(7)


def test_a_closed_detector_says_so(frames: list[np.ndarray]) -> None:
    detect = Detector(engine="cpu")
    detect.close()
    detect.close()
    with pytest.raises(ConfigError, match="closed"):
        detect(frames[0])


def test_a_network_that_gives_nonsense_fails_with_our_error(
    tmp_path: Path, frames: list[np.ndarray]
) -> None:
    weights = save_graph(tmp_path / "nan.onnx", {"out": np.full((1, 5, 4), np.nan, np.float32)})
    weights.with_suffix(".toml").write_text(
        'file = "nan.onnx"\nlabels = ["thing"]\n'
        '[input]\nsize = [64, 64]\nresize = "stretch"\n[decoder]\nfamily = "yolov8"\n'
    )
    with Detector(str(weights), engine="cpu") as detect, pytest.raises(ModelError):
        for _ in range(100):  # one frame of nonsense alone is forgiven
            detect(frames)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model": "kestrel_321"}, ModelError),
        ({"engine": "tpu"}, ConfigError),
        ({"score": 7}, ConfigError),
        ({"engine": "cpu", "precision": "int8"}, ConfigError),
    ],
)
def test_wrong_settings_are_refused_at_once(settings: dict, error: type[KestrelError]) -> None:
    for make in (Detector, lambda **given: stream("sample:", **given)):
        with pytest.raises(error):
            make(**settings)


def test_every_frame_of_a_recording_comes_in_order(frames: list[np.ndarray]) -> None:
    results = stream("sample:", engine="cpu")
    indices, count = [], 0
    for result in results:
        indices.append(result.index)
        count += len(result.detections)
        assert len(result.labels) == len(result.detections)
        assert result.age_ms > 0 and result.media_ns is not None and "network" in result.stages_ms
        if result.index < len(frames):
            assert result.frame.shape == frames[0].shape
    assert indices == list(range(240)) and count > 240
    assert results.stats().processed == 240 and not results.stats().dropped
    assert not our_threads()


def test_a_slow_reader_of_a_recording_loses_nothing_and_fills_no_memory(tiny_model: Path) -> None:
    results = stream("pattern:?frames=40", model=str(tiny_model), engine="cpu")
    for result in results:
        if result.index == 3:
            time.sleep(0.5)
            assert results.stats().captured < 20  # what is read ahead is bounded
    assert result.index == 39 and not results.stats().dropped


def test_a_slow_reader_of_a_live_source_gets_the_newest(tiny_model: Path) -> None:
    with stream("pattern:?fps=100", model=str(tiny_model), engine="cpu") as results:
        for n, result in enumerate(results):
            time.sleep(0.1)
            if n == 5:
                assert result.index > n + 10  # it passed over frames, and told how many
                break
        assert sum(results.stats().dropped.values()) >= 10
    assert not our_threads()


def test_leaving_a_loop_ends_the_stream(tiny_model: Path) -> None:
    for source in ("pattern:?fps=50", "sample:"):
        for _ in stream(source, model=str(tiny_model), engine="cpu"):
            break
        assert not our_threads()
        with pytest.raises(ZeroDivisionError), stream(source, model=str(tiny_model)) as results:
            for _ in results:
                1 / 0  # noqa: B018
        assert not our_threads()


def test_a_stream_is_read_once(tiny_model: Path) -> None:
    results = stream("sample:", model=str(tiny_model), engine="cpu", max_frames=2)
    assert isinstance(results, Stream) and len(list(results)) == 2
    with pytest.raises(ConfigError, match="once"):
        list(results)
    with stream("sample:", model=str(tiny_model)) as never_read:
        pass
    never_read.close()


def test_a_source_that_is_not_there_or_breaks_is_a_source_error(
    tmp_path: Path, tiny_model: Path
) -> None:
    with pytest.raises(SourceError, match=r"none\.mp4"):
        stream(str(tmp_path / "none.mp4"))
    with pytest.raises(ConfigError, match="nothing of a recording is dropped"):
        stream("sample:", max_age_ms=100)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video" * 100)
    with pytest.raises(SourceError):
        list(stream(str(broken), model=str(tiny_model), engine="cpu"))
    gone = stream("rtsp://127.0.0.1:1/", model=str(tiny_model), engine="cpu", reconnect=False)
    with pytest.raises(SourceError):
        list(gone)
    assert not our_threads()


def test_importing_the_package_loads_nothing_heavy_until_it_is_used() -> None:
    code = (
        "import sys, app\n"
        "assert 'numpy' not in sys.modules\n"
        "from app import Detector, Detections, stream, KestrelError\n"
        "heavy = {'cv2', 'onnxruntime', 'av', 'PyQt5', 'openvino'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError):
        _ = app.no_such_name
    assert all(getattr(app, name) is not None for name in app.__all__)


def snippets() -> list[str]:
    """The Python of docs/python.md that is meant to run: blocks marked ``python``."""
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", snippets(), ids=lambda text: text.strip().splitlines()[-1])
def test_the_examples_of_the_documentation_run(snippet: str, tmp_path: Path) -> None:
    # the package under its name when installed, from this checkout
    (tmp_path / "kestrel_vision").symlink_to(ROOT / "app")
    frame = cv2.VideoCapture(str(ROOT / "app" / "sources" / "sample.mp4")).read()[1]
    cv2.imwrite(str(tmp_path / "photo.jpg"), frame)
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_tracks_and_events_come_with_the_results(tiny_model: Path) -> None:
    results = list(stream("pattern:?frames=5", model=str(tiny_model), engine="cpu", track=True))
    ids = [r.detections.track_ids for r in results]
    assert all(each is not None and each.tolist() == [1] for each in ids[1:])
    assert [event.type for r in results for event in r.events] == ["appear"]
