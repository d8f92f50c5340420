"""The closing summary is right."""

from __future__ import annotations

from app.sinks.console import LabelSummary, SummarySink
from tests.sinks.kit import CLIP, LABELS, found, result

BOX = (0, 0, 9, 9)


def summed(*detections) -> SummarySink:
    sink = SummarySink()
    sink.open(CLIP, LABELS)
    for i, each in enumerate(detections):
        sink.emit(result(i, each))
    sink.close()
    return sink


def test_frames_most_at_once_and_best_score_are_counted_per_label() -> None:
    sink = summed(
        found((0, 0.9, *BOX), (1, 0.8, *BOX), (0, 0.7, *BOX)), None, found((0, 0.95, *BOX))
    )
    assert sink.frames == 3
    person, dog = sink.labels()
    assert (person.label, person.frames, person.most_at_once) == ("person", 2, 2)
    assert round(person.best_score, 3) == 0.95
    assert (dog.label, dog.frames, dog.most_at_once) == ("dog", 1, 1)
    assert "\n".join(sink.lines()) == (
        "person in 2 of 3 frames (at most 2 at once, best score 0.95)\n"
        "dog in 1 of 3 frames (at most 1 at once, best score 0.80)"
    )


def test_run_that_saw_nothing_says_so() -> None:
    assert summed(None, None).lines() == ["nothing in 2 frames"]
    assert summed().lines() == ["no frames"]


def test_many_labels_are_cut_short() -> None:
    sink = summed(found(*((i, 0.9, *BOX) for i in range(50))))
    assert len(sink.lines(5)) == 6 and sink.lines(5)[-1] == "and 45 more labels"
    assert LabelSummary("class 7", 1, 1, sink.labels()[0].best_score) in sink.labels()


def test_memory_does_not_grow_with_frames() -> None:
    sink = summed(*[found((i % 3, 0.9, *BOX)) for i in range(3000)])
    assert len(sink.labels()) == 3 and len(sink._seen) == 3
