"""How much copying is hidden, on time tables whose answer is known."""

import pytest

from app.cuda import timing
from app.cuda.timing import OF, REMEMBERED, TIMED, Overlap, Span, covered_ns
from tests.cuda.test_cuda_backend import backend, blob, place_of, square_at

__all__ = ["blob"]  # a fixture


@pytest.mark.parametrize(
    ("others", "covered"),
    [
        ([], 0),
        ([(0, 50)], 0),
        ([(200, 300)], 0),
        ([(90, 130)], 30),
        ([(120, 130), (125, 140)], 20),
        ([(0, 500), (110, 120)], 100),
        ([(150, 160), (110, 120)], 20),
    ],
)
def test_what_lies_in_any_of_the_others_counts_once(others, covered):
    assert covered_ns(Span(100, 200), [Span(*o) for o in others]) == covered


def test_two_slots_that_take_turns_hide_half_of_each_copy():
    overlap = Overlap()
    for i in range(20):
        begin = i * 100  # copies for 20, of which 10 while the frame before still computes
        overlap.add([Span(begin, begin + 20)], Span(begin + 20, begin + 110))
    assert overlap.counted == 20 - REMEMBERED + 1
    assert overlap.hidden_ns / overlap.copied_ns == pytest.approx(0.5)
    assert overlap.line().startswith("overlap 50%, ")


def test_one_frame_at_a_time_hides_nothing():
    overlap = Overlap()
    for i in range(10):
        begin = i * 100
        overlap.add(
            [Span(begin, begin + 20), Span(begin + 80, begin + 90)], Span(begin + 20, begin + 80)
        )
    assert overlap.copied_ns > 0
    assert overlap.hidden_ns == 0


def test_nothing_is_said_before_anything_is_known():
    overlap = Overlap()
    overlap.add([Span(0, 1)], Span(1, 2))
    assert overlap.line() == ""


@pytest.mark.gpu
@pytest.mark.parametrize("sparse_s", [1e9, 0.0])
def test_few_frames_in_a_row_are_timed_and_one_now_and_then(device, blob, monkeypatch, sparse_s):
    """With nothing said of the others, whose boxes are as good."""
    monkeypatch.setattr(timing, "SPARSE_S", sparse_s)
    timed = []
    with backend(blob, transfer="pinned") as running:
        for i in range(OF + TIMED):
            running.slots[i % 2].enqueue([square_at(i)])
            ((found, times),) = running.slots[i % 2].collect()
            assert place_of(found) == (i % 7, i // 7 % 7)
            assert not times or sum(times.values()) > 0
            timed.append(bool(times))
        overlap = running._timeline.overlap
        assert overlap.counted == 2 * (TIMED - REMEMBERED + 1)
    assert timed == [sparse_s == 0 or i % OF < TIMED for i in range(OF + TIMED)]
