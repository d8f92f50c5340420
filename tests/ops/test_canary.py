"""The known picture: an engine that computes something else ends the run, and no sink sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.commands.cli import main
from app.config import Config
from app.core.detections import Detections
from app.core.errors import DeviceError, ModelError
from app.core.frame import Frame
from app.models.manifest import Model
from app.models.store import find_model
from app.ops.selftest import GoldenFrameCheck, KnownAnswer
from app.ops.systemd import Notifier, Supervised
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.runtime import service as supervision
from tests.fakes import FakeBackend, FakeSink, FakeSource
from tests.pipeline.test_pipeline import finish

PIXELS = np.zeros((4, 4, 3), np.uint8)
PERSON = KnownAnswer(0, 0.9, (10, 10, 50, 90))
FACE = KnownAnswer(1, 0.8, (20, 15, 30, 25))


def answer(*found: KnownAnswer) -> Detections:
    ordered = sorted(found, key=lambda one: -one.score)
    if not ordered:
        return Detections.empty()
    return Detections(
        np.array([one.box for one in ordered], np.float32),
        np.array([one.score for one in ordered], np.float32),
        np.array([one.class_id for one in ordered], np.int32),
    )


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def picture(
    expected: Sequence[KnownAnswer] | None = (PERSON, FACE), **more: Any
) -> GoldenFrameCheck:
    options = {"every_s": 60, "threshold": 0.4, "iou": 0.5, **more}
    return GoldenFrameCheck(PIXELS, expected=expected, **options)


def test_it_is_due_at_once_and_then_every_so_often() -> None:
    clock = Clock()
    canary = picture(clock=clock)
    due = []
    for second in range(0, 130, 10):
        clock.now_s = second
        frame = canary.due()
        if frame is not None:
            assert frame.index < 0
            due.append(second)
    assert due == [0, 60, 120]


@pytest.mark.parametrize(
    "found",
    [
        (PERSON, FACE),
        (FACE._replace(score=0.72), PERSON._replace(box=(12, 10, 52, 90), score=0.95)),
        (PERSON, FACE, KnownAnswer(0, 0.45, (60, 60, 70, 70))),  # hardly above the threshold
    ],
)
def test_what_engines_and_precisions_differ_by_is_no_fault(found: tuple[KnownAnswer, ...]) -> None:
    heard: list[int] = []
    canary = picture(on_answer=lambda: heard.append(1))
    canary.judge(answer(*found))
    assert canary.judged == 1 and heard == [1]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ((PERSON,), "class 1 at [20, 15, 30, 25] with score 0.80 is missing"),
        ((), "class 0 at .* is missing"),
        ((PERSON, FACE._replace(score=0.5)), "is missing"),
        ((PERSON._replace(box=(30, 10, 70, 90)), FACE), "is missing"),
        ((PERSON._replace(class_id=3), FACE), "is missing"),
        ((PERSON, FACE, KnownAnswer(0, 0.7, (60, 60, 70, 70))), "score 0.70 is new"),
        ((PERSON, PERSON, FACE), "is new"),
    ],
)
def test_a_box_that_is_missing_or_new_is_a_fault(found: tuple[KnownAnswer, ...], told: str) -> None:
    canary = picture()
    with pytest.raises(ModelError, match=told.replace("[", r"\[")):
        canary.judge(answer(*found))
    canary.on_gpu = True
    with pytest.raises(DeviceError, match="the GPU computes wrongly"):
        canary.judge(answer(*found))


def test_a_threshold_above_the_known_scores_expects_less() -> None:
    canary = picture(threshold=0.85)
    canary.judge(answer(PERSON))


def test_other_models_are_held_to_their_first_answer() -> None:
    canary = picture(None)
    canary.judge(answer(FACE))
    canary.judge(answer(FACE))
    with pytest.raises(ModelError):
        canary.judge(answer())
    canary.tune(score=0.1, iou=0.5)  # a lower score reports more: held to the next answer
    canary.judge(answer(PERSON, FACE))
    with pytest.raises(ModelError):
        canary.judge(answer(FACE))


def test_another_overlap_is_held_to_its_first_answer() -> None:
    canary = picture()
    canary.tune(score=0.5, iou=1.0)  # nothing is suppressed: the same box twice is no ghost
    canary.judge(answer(PERSON, PERSON, FACE))
    with pytest.raises(ModelError):
        canary.judge(answer(PERSON, FACE))
    canary.tune(score=0.5, iou=0.5)  # as recorded
    with pytest.raises(ModelError):
        canary.judge(answer(PERSON))


def test_an_answer_from_before_a_change_is_not_judged() -> None:
    heard: list[int] = []
    canary = picture(on_answer=lambda: heard.append(1), clock=iter(range(0, 900, 100)).__next__)
    assert canary.due() is not None
    canary.tune(score=0.5, iou=1.0)
    canary.judge(answer())
    assert heard == [1] and canary.judged == 0
    assert canary.due() is not None
    canary.judge(answer(PERSON, PERSON))
    assert canary.judged == 1


class Always:
    """A canary between any two frames; ``wrong_at`` is the answer that it refuses."""

    def __init__(self, wrong_at: int | None = None) -> None:
        self.judged: list[int] = []
        self._wrong_at = wrong_at
        self._turn = 0

    def due(self) -> Frame | None:
        self._turn += 1
        return Frame(np.zeros((3, 4, 3), np.uint8), -1, 0) if self._turn % 2 else None

    def tune(self, *, score: float, iou: float) -> None:
        """Not asked here."""

    on_gpu = False

    def judge(self, detections: Detections) -> None:
        self.judged.append(int(detections.class_ids[0]))
        if len(self.judged) == self._wrong_at:
            raise DeviceError("wrong")


def run(canary: Always, *sinks: FakeSink, **options: Any) -> Pipeline:
    def factory(wake: Callable[[], None]) -> FakeBackend:
        return FakeBackend(wake)

    source = FakeSource(50)
    return Pipeline(
        source, factory, sinks, labels=("a",), policy=Policy.LOSSLESS, canary=canary, **options
    )


def test_the_known_frame_is_neither_counted_nor_given_to_sinks() -> None:
    canary, sink = Always(), FakeSink()
    stats = finish(run(canary, sink))
    assert sink.frames == list(range(50)) and stats.processed == stats.captured == 50
    assert len(canary.judged) > 20 and set(canary.judged) == {-1}
    assert not stats.dropped


def test_the_known_frame_does_not_count_as_one_of_max_frames() -> None:
    sink = FakeSink()
    assert finish(run(Always(), sink, max_frames=7)).processed == 7


def test_a_wrong_answer_ends_the_run_with_its_error() -> None:
    sink = FakeSink()
    with pytest.raises(DeviceError, match="wrong"):
        finish(run(Always(wrong_at=5), sink))
    assert sink.closed == 1 and len(sink.frames) < 50


@pytest.mark.parametrize(
    ("engine", "cut"),
    [
        *(("cpu", True), ("openvino", True), ("cuda", True), ("auto", True)),
        *(("ort-cuda", False), ("ort-tensorrt", False)),
    ],
)
def test_it_is_held_to_what_its_engine_computes(
    monkeypatch: pytest.MonkeyPatch, engine: Any, cut: bool
) -> None:
    """ONNX Runtime takes the whole input on a GPU, whose weak boxes may differ from the cut's."""
    seen: list[int] = []

    def known_boxes(model: Model, *_: Any, **__: Any) -> list[Any]:
        seen.append(model.spec.input.fit)
        return []

    monkeypatch.setattr(supervision, "known_boxes", known_boxes)
    config = Config(canary_s=60, engine=engine)
    supervision.make_canary(config, find_model("kestrel"), lambda: None)
    assert seen == [32 if cut else 0]


def test_the_default_model_gives_its_known_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--headless", "--source", "pattern:?fps=50&size=320x240", "--engine", "cpu"]
    assert main([*words, "--max-frames", "20", "--canary-s", "1"]) == 0
    assert "20 processed" in capsys.readouterr().out


def test_an_engine_that_computes_otherwise_ends_with_the_models_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ghost = KnownAnswer(0, 0.9, (5, 5, 50, 50))
    monkeypatch.setattr(supervision, "known_boxes", lambda *_, **__: [ghost])
    words = ["run", "--headless", "--source", "pattern:?fps=50&size=320x240", "--engine", "cpu"]
    assert main([*words, "--max-frames", "500", "--canary-s", "1"]) == 4
    assert "canary: in the known picture class 0 at" in capsys.readouterr().err


def test_any_models_boxes_are_known_before_the_engine_gives_its_first(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that is wrong from the start is not taken for right."""
    config = Config(canary_s=60, model=str(tiny_model))
    model = find_model(str(tiny_model))
    canary = supervision.make_canary(config, model, Supervised(Notifier()).inferred)
    assert canary is not None
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    (thing,) = canary._expected
    assert thing.class_id == 0 and round(thing.score, 2) == 0.9
    canary.judge(answer(thing))
    canary.on_gpu = True
    with pytest.raises(DeviceError, match="is missing"):
        canary.judge(answer())


def test_a_picture_without_a_sure_box_is_told_as_a_poor_canary(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(canary_s=60, score=0.95)
    supervision.make_canary(config, find_model(str(tiny_model)), Supervised(Notifier()).inferred)
    assert "WARNING" in caplog.text


def test_a_model_that_the_cpu_cannot_run_is_held_to_its_first_answer(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = find_model(str(tiny_model))
    tiny_model.write_bytes(b"no network")
    canary = supervision.make_canary(Config(canary_s=60), model, Supervised(Notifier()).inferred)
    assert canary is not None and "WARNING" in caplog.text
    canary.judge(answer(FACE))
    with pytest.raises(ModelError):
        canary.judge(answer())
