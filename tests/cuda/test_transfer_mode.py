"""Pinned or mapped: the faster one, measured once and told; the boxes are the same."""

import logging

import pytest

from app.cuda.timing import DeviceTimeline, TransferMode
from tests.blob_detector import SIDE
from tests.cuda.test_cuda_backend import backend, blob, place_of, square_at

pytestmark = pytest.mark.gpu

__all__ = ["blob"]  # a fixture


@pytest.mark.parametrize(("pinned_ns", "mapped_ns"), [(2e6, 1e6), (1e6, 2e6)])
def test_the_faster_one_is_chosen_once_and_told(caplog, pinned_ns, mapped_ns):
    caplog.set_level(logging.INFO)
    mode = TransferMode()
    tried = []

    def trial_ns(mapped):
        tried.append(mapped)
        return mapped_ns if mapped else pinned_ns

    assert mode.decide(trial_ns) == (mapped_ns < pinned_ns)
    assert mode.decide(trial_ns) == (mapped_ns < pinned_ns)
    assert tried == [False, True]
    assert "pinned, " in mode.remark and mode.remark in caplog.text


def test_what_was_asked_for_is_not_measured():
    for name in ("pinned", "mapped"):
        assert TransferMode(name).decide(lambda _: pytest.fail("measured")) == (name == "mapped")


@pytest.mark.parametrize("transfer", ["pinned", "mapped", "auto"])
def test_boxes_do_not_depend_on_how_frames_travel(device, blob, transfer):
    device.delay(100, 1)
    with backend(blob, transfer=transfer) as running:
        for start in range(0, 40, 2):
            for i in (0, 1):
                running.slots[i].enqueue([square_at(start + i)])
            for i in (0, 1):
                ((found, _),) = running.slots[i].collect()
                assert place_of(found) == ((start + i) % 7, (start + i) // 7 % 7)
        first, *more = running.remarks
        mapped = running._transfer.mapped
    assert first.startswith("transfer ")
    assert [line.partition(" ")[0] for line in more] == ([] if mapped else ["overlap"])


def test_mapped_frames_are_not_copied(device, blob):
    with backend(blob, transfer="mapped") as running:
        slot = running.slots[0]
        slot.enqueue([square_at(0)])
        slot.collect()
        before = device.holds()
        for i in range(1, 5):
            slot.enqueue([square_at(i)])
            slot.collect()
        assert device.holds() == before
        memory = slot.shapes.for_frame((SIDE, SIDE))._inputs[0]._memory
        assert memory.mapped and isinstance(memory.device, int)


def test_all_slots_are_at_work_while_the_ways_are_compared(device, blob, monkeypatch):
    seen, span_ns = [], DeviceTimeline.span_ns

    def noting(self, work):
        def noted():
            seen.append(work())
            return seen[-1]

        return span_ns(self, noted)

    monkeypatch.setattr(DeviceTimeline, "span_ns", noting)
    device.delay(100, 3)
    with backend(blob, transfer="auto", slots=3) as running:
        for i in range(6):
            running.slots[i % 3].enqueue([square_at(i)])
            assert place_of(running.slots[i % 3].collect()[0][0]) == (i % 7, 0)
        assert [len(set(graphs)) for graphs in seen] == [3, 3]  # pinned, mapped
        seen.clear()
