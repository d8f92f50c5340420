"""The window stays alive, and ends in time, while what is behind it is stuck."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("PyQt5.QtWidgets", reason="PyQt5 is not installed")

from app.config import Config
from app.core.errors import ConfigError, ModelError, SourceError
from app.core.interfaces import GPU_ENGINES
from app.runtime.engines import why_no_engine, without_gpu
from app.runtime.window import WindowController, WindowSource, run_desktop
from app.session.engine_switch import Prepared
from app.session.state import Choice
from tests.fakes import FakeBackend, FakeSink
from tests.session.kit import until

PATTERN = "pattern:?fps=50&size=64x48"
ONE = [WindowSource(PATTERN)]


@pytest.fixture(autouse=True)
def offscreen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def prepared(make=FakeBackend):
    return lambda config: Prepared(lambda wake: make(wake), "fake", ("thing",), 0.3, 0.4, 0.3, 0.4)


class Counting(WindowController):
    """Counts the window's looks, and closes it so many seconds after the first."""

    def __init__(self, config: Config, *, close_after_s: float, sinks=(), **more) -> None:
        super().__init__(config, [WindowSource(PATTERN, sinks=sinks)], **more)
        self.looks: list[float] = []
        (self.view,) = self.views
        inner = self.view.state

        def state():
            self.looks.append(time.monotonic())
            now = inner()
            if self.looks[-1] - self.looks[0] > close_after_s:
                from dataclasses import replace

                now = replace(now, ended=True)
            return now

        self.view.state = state


def show(controller: Counting, config: Config) -> float:
    """Seconds from the window's closing to the end of everything."""
    run_desktop(controller, config)
    return time.monotonic() - controller.looks[-1]


@pytest.mark.parametrize("stuck", ["model", "fetch", "output"])
def test_window_lives_while_something_is_stuck_and_closes_in_time(stuck: str) -> None:
    freed = threading.Event()

    class StuckSink(FakeSink):
        def emit(self, result) -> None:
            freed.wait(30)

    def fetch(config: Config) -> Prepared:
        freed.wait(30)
        raise ModelError("no network")

    def never(wake) -> FakeBackend:
        return FakeBackend(wake, run=lambda frame, finish: None)

    config = Config()
    controller = Counting(
        config,
        prepare=fetch if stuck == "fetch" else prepared(never if stuck == "model" else FakeBackend),
        sinks=[StuckSink()] if stuck == "output" else [],
        close_after_s=2.0,
    )
    try:
        closing_s = show(controller, config)
    finally:
        freed.set()
    assert len(controller.looks) > 20, "the window stood still"
    assert closing_s < 20, "a bound for a busy machine; scripts/measure_gui.py measures it"


def test_snapshot_of_a_run(tmp_path: Path) -> None:
    config = Config()
    controller = Counting(config, prepare=prepared(), close_after_s=60.0)
    controller.session.start(PATTERN)
    view = controller.view
    try:
        shown = []
        until(lambda: shown.append(view.take()) or shown[-1])
        view.snapshot(str(tmp_path / "x"), shown[-1], "small")
        until(lambda: view.state().notice is not None)
        assert (tmp_path / "x.json").is_file()
        view.record(str(tmp_path / "x.mp4"))
        until(lambda: (tmp_path / "x.mp4").is_file())
        view.record("")
        until(lambda: "Recorded" in view.state().notice.text)
    finally:
        controller.session.stop()
        assert controller.session.join(10)


def test_a_precision_goes_with_the_engine_that_it_was_asked_for() -> None:
    """Else the window could show no other engine, not even the one that it goes on with."""
    asked: list[tuple[str, str]] = []

    def note(config: Config) -> Prepared:
        asked.append((config.engine, config.precision))
        return prepared()(config)

    controller = WindowController(Config(engine="openvino", precision="bf16"), ONE, prepare=note)
    (view,) = controller.views
    controller.session.start(PATTERN)
    try:
        for engine in ("cpu", "openvino"):
            until(lambda: view.state().running is not None)
            view.choose(Choice(None, engine))
            until(lambda engine=engine: asked[-1][0] == engine)
    finally:
        controller.session.stop()
        assert controller.session.join(10)
    assert asked[0] == ("openvino", "bf16") and ("cpu", "auto") in asked
    assert asked[-1] == ("openvino", "bf16")


def test_catalogue_comes_from_the_shelf_and_the_machine() -> None:
    controller = WindowController(Config(), ONE, prepare=prepared())
    assert [offer.value for offer in controller.catalogue().engines][:2] == ["auto", "cpu"]
    controller.refresh()
    until(lambda: controller.catalogue().cameras or not controller._looking.is_alive())
    catalogue = controller.catalogue()
    assert "kestrel" in {offer.title for offer in catalogue.models}
    refused = {offer.value: offer.refused for offer in catalogue.engines}
    assert refused["auto"] == refused["cpu"] == ""
    assert all(refused[name] == (why_no_engine(name) or "") for name in refused)
    if without_gpu():
        assert all(refused[name] for name in GPU_ENGINES)


def test_an_engine_of_intel_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.inference.openvino.openvino_version", lambda: None)
    assert "pip install" in (why_no_engine("openvino") or "")
    monkeypatch.setattr("app.inference.openvino.openvino_version", lambda: "2026.1")
    assert why_no_engine("openvino") is None
    monkeypatch.setattr("app.runtime.engines.INTEL_NODES", {"NPU": "/nowhere/accel"})
    assert "/nowhere/accel" in (why_no_engine("openvino:NPU") or "")


def test_several_sources_play_in_one_run_each_on_its_own(tmp_path: Path) -> None:
    """Paused, filtered and recorded apart; the model is that of all."""
    sources = [WindowSource(PATTERN, name) for name in ("front", "yard")]
    controller = WindowController(Config(), sources, prepare=prepared())
    front, yard = controller.views
    controller.session.start(PATTERN, PATTERN)
    try:
        for view in (front, yard):
            until(view.take)
        front.pause(True)
        until(lambda: front.state().source.paused)
        time.sleep(0.2)
        front.take()
        assert until(yard.take) is None and not yard.state().source.paused
        assert front.take() is None
        yard.record(str(tmp_path / "yard.mp4"))
        assert yard.state().recording_to and not front.state().recording_to
        until(lambda: (tmp_path / "yard.mp4").is_file())
        front.filters.write({"max_detections": 3}, "front")
        assert yard.filters.read("yard")["max_detections"] != 3
        until(lambda: yard.state().figures.processed > front.state().figures.processed > 0)
        stats = controller.session.stats()
        assert set(stats.sources) == {"front", "yard"}
    finally:
        controller.session.stop()
        assert controller.session.join(10)


def test_a_run_of_several_recordings_ends_with_the_last(tmp_path: Path) -> None:
    sources = [
        WindowSource(f"pattern:?fps=100&size=64x48&frames={count}", name)
        for count, name in ((3, "short"), (40, "long"))
    ]
    kept = FakeSink()
    sources[1] = sources[1]._replace(sinks=[kept])
    controller = WindowController(
        Config(max_frames=10_000), sources, prepare=prepared()
    )  # a job, which has an end
    controller.session.start(*(each.uri for each in sources))
    until(lambda: controller.views[0].state().ended)
    assert controller.session.join(10) and controller.session.error is None
    assert kept.frames[-1] > 2, "it ended with the short one"


def test_what_no_window_can_cure_is_told_before_one_opens(tmp_path: Path) -> None:
    config = Config()
    missing = [WindowSource(str(tmp_path / "nothing.mp4"))]
    controller = WindowController(config, missing, prepare=prepared())
    with pytest.raises(SourceError, match=r"nothing\.mp4"):
        run_desktop(controller, config)
    config = Config(model="nonsense")
    with pytest.raises(ModelError, match="nonsense"):
        run_desktop(WindowController(config, ONE, prepare=prepared()), config)


def test_given_flags_win_over_what_is_remembered() -> None:
    assert WindowController(Config(), ONE, prepare=prepared()).given == frozenset()
    config = Config(model="m", engine="cpu", score=0.5)
    given = WindowController(config, ONE, prepare=prepared()).given
    assert given == {"model", "engine", "score"}
    job = WindowController(Config(json="out.jsonl"), ONE, prepare=prepared()).given
    assert job == {"model", "engine", "score", "iou"}, "what is remembered changes a job"


def test_one_of_several_recordings_that_fails_is_the_end_of_that_alone(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    kept = FakeSink()
    sources = [
        WindowSource(str(broken), "broken"),
        WindowSource("pattern:?fps=100&size=64x48&frames=30", "whole", sinks=[kept]),
    ]
    controller = WindowController(Config(max_frames=10_000), sources, prepare=prepared())
    controller.session.start(*(each.uri for each in sources))
    until(lambda: controller.views[0].state().ended)
    assert controller.session.join(10) and len(kept.frames) > 5
    assert isinstance(controller.session.error, SourceError)


def test_headless_and_window_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        Config(headless=True, window=True)
    assert os.environ["QT_QPA_PLATFORM"] == "offscreen"


def test_slow_painting_makes_no_result_older(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paint of 200 ms over a real run: it goes on at the source's pace, and no age grows."""
    from app.gui.view import ResultView

    paints: list[int] = []
    original = ResultView.paintEvent

    def slow(self, event) -> None:
        if self.newest is not None:
            paints.append(self.newest[0].frame.index)
            time.sleep(0.2)
        original(self, event)

    monkeypatch.setattr(ResultView, "paintEvent", slow)
    kept = FakeSink()
    config = Config()
    controller = Counting(config, prepare=prepared(), sinks=[kept], close_after_s=4.0)
    show(controller, config)
    stats = controller.session.stats()
    assert len(paints) >= 2 and stats.processed > len(paints), "results wait for the paint"
    assert kept.frames == sorted(kept.frames) and len(kept.frames) == stats.processed
    assert stats.age_ms[2] < 2000, "a queue would make frames as old as the run is long"
    assert paints[-1] > 0.5 * kept.frames[-1], "what is painted last is not what came last"
