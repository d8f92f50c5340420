"""How much copying is hidden, on time tables whose answer is known."""

import pytest

from app.cuda.timing import REMEMBERED, Overlap, Span, covered_ns


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
