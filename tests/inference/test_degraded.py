"""Several networks take turns between frames, and come back (simulated engines, own clock)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from app.core.detections import Detections
from app.core.errors import DeviceError, ModelError
from app.core.frame import Frame
from app.inference.degraded import (
    Fallback,
    FallbackBackend,
    NetworkChoice,
    matching_classes,
    renumbered,
)
from app.pipeline.degrade import CALM_NS, WINDOW_NS, DegradationPolicy, Network, parse_ladder
from app.pipeline.handoff import Policy
from tests.fakes import FakeBackend, FakeSink, FakeSource
from tests.pipeline.test_pipeline import build, finish

SMALL, TINY = Network(None, (256, 256)), Network("tiny")
STEPS = parse_ladder(["input 256x256", "model tiny"])
FRAME = np.zeros((3, 4, 3), np.uint8)


def rung(make: Callable, class_ids=None) -> Fallback:
    return Fallback(lambda: make, class_ids)


class Simulated(FakeBackend):
    """Takes ``service_ms`` of the world's clock for each frame."""

    def __init__(self, wake: Callable[[], None], world: World, service_ms: float) -> None:
        super().__init__(wake, slots=2, run=self.work)
        self.world, self.service_ms, self.processed = world, service_ms, 0

    def work(self, frame: Frame, finish: Callable[[], None]) -> None:
        self.processed += 1
        self.world.now_ns += round(self.service_ms * self.world.slowness * 1e6)
        finish()


class World:
    """A device at 10 frames a second, of which one takes 80, 40 or 10 ms when all is well."""

    def __init__(self) -> None:
        self.now_ns, self.slowness, self.events = 0, 1.0, Counter()
        self.choice = NetworkChoice()
        self.made = {
            network: Simulated(lambda: None, self, ms)
            for network, ms in ((Network(), 80), (SMALL, 40), (TINY, 10))
        }
        others = {n: rung(lambda wake, n=n: self.made[n]) for n in (SMALL, TINY)}
        self.backend = FallbackBackend(
            lambda wake: self.made[Network()], others, self.choice, print
        )
        self.ladder = DegradationPolicy(
            STEPS,
            budget_ms=100,
            on_step=lambda event: self.events.update([event]),
            use=self.choice.use,
            missing=self.choice.missing,
            now_ns=lambda: self.now_ns,
        )

    def play(self, seconds: float) -> None:
        end_ns, index = self.now_ns + round(seconds * 1e9), 0
        while self.now_ns < end_ns:
            captured_ns = self.now_ns
            if self.ladder.wants():
                slot = self.backend.slots[index % 2]
                slot.enqueue([Frame(FRAME, index, captured_ns)])
                assert slot.ready()
                slot.collect()
                self.ladder.took(self.now_ns - captured_ns)
            self.now_ns = max(self.now_ns, captured_ns + 100_000_000)
            index += 1

    def network(self) -> Network:
        return self.ladder.step.network


def test_a_device_that_slows_down_goes_to_the_network_that_fits_and_back() -> None:
    world = World()
    with world.backend:
        world.play(20)
        assert world.network() == Network() and not world.events
        world.slowness = 2  # 160, 80, 20 ms
        world.play(8)
        assert world.network() == SMALL and world.events == {"ladder steps down": 1}
        world.slowness = 4  # 320, 160, 40
        world.play(8)
        assert world.network() == TINY
        assert all(each.processed > 10 for each in world.made.values())
        world.slowness = 1
        world.play(3 * CALM_NS / 1e9 + 10)
        assert world.network() == Network()
        assert world.events == {"ladder steps down": 2, "ladder steps up": 2}
    assert all(each.left for each in world.made.values())


def test_a_network_that_cannot_be_built_is_passed_over_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()

    def refuses(wake: Callable[[], None]) -> FakeBackend:
        return FakeBackend(wake, enter_error=DeviceError("out of memory"))

    def gone() -> Callable:
        raise ModelError("no network to fetch it from")

    for broken in (rung(refuses), Fallback(gone, None)):
        caplog.clear()
        world = World()
        others = {SMALL: broken, TINY: rung(lambda wake, w=world: w.made[TINY])}
        own = world.made[Network()]
        world.backend = FallbackBackend(lambda wake, own=own: own, others, world.choice, print)
        with world.backend:
            world.slowness = 2
            world.play(8)
            assert world.network() == TINY and world.events == {"ladder steps down": 1}
            world.slowness = 1
            world.play(30)
            assert world.network() == Network() and world.events["ladder steps up"] == 1
        warnings = [r for r in caplog.records if "cannot be built" in r.message]
        assert len(warnings) == 1 and "input 256x256" in warnings[0].message


def test_the_run_s_own_network_must_open() -> None:
    wrong = FakeBackend(print, enter_error=ModelError("damaged"))
    other = FakeBackend(print)
    ladder = FallbackBackend(
        lambda wake: wrong, {SMALL: rung(lambda wake: other)}, NetworkChoice(), print
    )
    with pytest.raises(ModelError, match="damaged"), ladder:
        pass
    assert not other.threads, "nothing else is built"


def test_frames_under_way_end_where_they_began_and_the_canary_asks_the_run_s_own() -> None:
    choice = NetworkChoice()
    waiting: list[Callable[[], None]] = []
    own = FakeBackend(print, run=lambda frame, done: waiting.append(done))
    small = FakeBackend(print)
    with FallbackBackend(lambda w: own, {SMALL: rung(lambda w: small)}, choice, print) as backend:
        first, second = backend.slots
        first.enqueue([Frame(FRAME, 7, 0)])
        choice.use(SMALL)
        second.enqueue([Frame(FRAME, 8, 0)])
        assert second.ready() and not first.ready()
        waiting.pop()()
        assert int(first.collect()[0][0].class_ids[0]) == 7
        assert int(second.collect()[0][0].class_ids[0]) == 8
        first.enqueue([Frame(FRAME, -1, 0)])
        assert own.in_flight == 1 and small.in_flight == 0


def test_in_the_pipeline_all_frames_arrive_in_order_whichever_network_had_them() -> None:
    """Every frame is late, as the budget is next to nothing: each window leads a step down."""
    clock = iter(range(0, 10**15, WINDOW_NS // 20))
    choice, sink = NetworkChoice(), FakeSink()
    networks = [FakeBackend(print) for _ in range(3)]
    counts: Counter[int] = Counter()
    for i, each in enumerate(networks):
        each.run = lambda frame, done, i=i: (counts.update([i]), done())
    others = {SMALL: rung(lambda w: networks[1]), TINY: rung(lambda w: networks[2])}

    def make_ladder(on_step):
        return DegradationPolicy(
            STEPS, budget_ms=1e-6, on_step=on_step, use=choice.use, now_ns=lambda: next(clock)
        )

    def backend(wake):
        networks[0].wake = wake
        return FallbackBackend(lambda w: networks[0], others, choice, wake)

    pipeline, _ = build(
        FakeSource(200), [sink], policy=Policy.LOSSLESS, backend=backend, make_ladder=make_ladder
    )
    stats = finish(pipeline)
    assert sink.frames == list(range(200)) and stats.events == {"ladder steps down": 2}
    assert min(counts[i] for i in range(3)) > 5 and sum(counts.values()) == 200


def test_classes_of_another_model_get_the_run_s_numbers() -> None:
    class_ids, lacking = matching_classes(["cat", "face", "dog", "person"], ["person", "face"])
    assert class_ids is not None and class_ids.tolist() == [-1, 1, -1, 0] and not lacking
    assert matching_classes(["a", "b"], ["a", "b"]) == (None, [])
    assert matching_classes(["person"], ["person", "face"])[1] == ["face"]
    found = Detections(
        np.arange(16, dtype=np.float32).reshape(4, 4),
        np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        np.array([3, 0, 1, 2], np.int32),
        np.zeros((4, 5, 2), np.float32),
    )
    left = renumbered(found, class_ids)
    assert left.class_ids.tolist() == [0, 1] and left.class_ids.dtype == np.int32
    assert left.xyxy[:, 0].tolist() == [0, 8] and left.keypoints is not None
    assert left.keypoints.shape == (2, 5, 2)
    assert len(renumbered(Detections.empty(), class_ids)) == 0
