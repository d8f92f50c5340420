"""The fallback backend: the run's own network and smaller ones that take turns, frame by frame.

All are built before the first frame: a device that is too slow or too hot has no time to build an
engine, and what cannot be built is told at the start. What an input shape needs besides is made
when its first frame comes. Then a change of network costs nothing: each frame goes to the network
that is chosen at that moment, and frames in flight end where they began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.detections import Detections
from ..core.errors import KestrelError
from ..core.frame import Frame
from ..core.interfaces import Answer, Backend, BackendFactory, EngineKind, Fitted, Slot, Tunable
from ..pipeline.degrade import Network

log = logging.getLogger(__name__)

OWN = Network()  # the run's own


class Fallback(NamedTuple):
    """``make`` gives the factory, and may take long. ``class_ids``: see ``renumbered``."""

    make: Callable[[], BackendFactory]
    class_ids: NDArray[np.int32] | None


class NetworkChoice:
    """Which network is in use, and which could not be built; pipeline thread only.

    Shared by the degradation policy, which chooses, and the backend.
    """

    def __init__(self) -> None:
        self.now = OWN
        self.missing: set[Network] = set()

    def use(self, network: Network) -> None:
        self.now = network

    def leave_out(self, network: Network, fault: KestrelError) -> None:
        """A network that cannot be built: warn once, and go on with the run's own."""
        if network in self.missing:
            return
        self.missing.add(network)
        if self.now == network:
            self.now = OWN
        log.warning("ladder: %s cannot be built and is left out: %s", network.name, fault)


class FallbackBackend:
    """A ``Backend`` of several networks; a context manager for the pipeline thread.

    The run's own must open; of the others one that does not is left out, with one warning.
    """

    def __init__(
        self,
        own: BackendFactory,
        others: Mapping[Network, Fallback],
        choice: NetworkChoice,
        wake: Callable[[], None],
    ) -> None:
        self._own, self._others, self._choice, self._wake = own, others, choice, wake
        self._stack = ExitStack()
        self._backends: dict[Network, Backend] = {}
        self.slots: Sequence[FallbackSlot] = ()

    def __enter__(self) -> FallbackBackend:
        with ExitStack() as stack:
            self._backends[OWN] = stack.enter_context(self._own(self._wake))
            for network, other in self._others.items():
                try:
                    self._backends[network] = stack.enter_context(other.make()(self._wake))
                except KestrelError as fault:
                    self._choice.leave_out(network, fault)
            class_ids = {network: other.class_ids for network, other in self._others.items()}
            each = zip(*(backend.slots for backend in self._backends.values()), strict=False)
            self.slots = [
                FallbackSlot(dict(zip(self._backends, slots, strict=True)), class_ids, self._choice)
                for slots in each
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.slots, self._backends = (), {}
        self._stack.__exit__(*error)

    def tune(self, *, score: float, iou: float) -> None:
        for backend in self._backends.values():
            each: object = backend
            if isinstance(each, Tunable):
                each.tune(score=score, iou=iou)

    @property
    def kind(self) -> EngineKind:
        return self._backends[OWN].kind

    @property
    def description(self) -> str:
        """See interfaces.Backend: of the run's own network, and which others stand by."""
        waiting = "; ".join(network.name for network in self._backends if network != OWN)
        return self._backends[OWN].description + (f" (ladder: {waiting})" if waiting else "")

    @property
    def remarks(self) -> Sequence[str]:
        return self._backends[OWN].remarks


class FallbackSlot:
    """A slot of each network, of which one at a time is used."""

    def __init__(
        self,
        slots: Mapping[Network, Slot],
        class_ids: Mapping[Network, NDArray[np.int32] | None],
        choice: NetworkChoice,
    ) -> None:
        self._slots, self._class_ids, self._choice = slots, class_ids, choice
        self.capacity = min(slot.capacity for slot in slots.values())
        self._network = OWN
        self._shape = ((0, 0), 1.0)  # size and pixel aspect of the frame before

    def enqueue(self, frames: Sequence[Frame]) -> None:
        """See interfaces.Slot. The canary's frame asks for the run's own network's answer."""
        for frame in frames:
            shape = frame.wh_px, frame.pixel_aspect
            if shape != self._shape:
                self._shape = shape
                self._prepare()
        self._network = OWN if frames[0].index < 0 else self._choice.now
        self._slots[self._network].enqueue(frames)

    def _prepare(self) -> None:
        """Prepare the other networks for frames of this size: in an overload there is no time."""
        for network, slot in self._slots.items():
            each: object = slot
            if network == OWN or network in self._choice.missing or not isinstance(each, Fitted):
                continue
            try:
                each.prepare(*self._shape)
            except KestrelError as fault:
                self._choice.leave_out(network, fault)

    def ready(self) -> bool:
        return self._slots[self._network].ready()

    def collect(self) -> Sequence[Answer]:
        answers = self._slots[self._network].collect()
        class_ids = self._class_ids.get(self._network)
        if class_ids is None:
            return answers
        return [(renumbered(found, class_ids), stages_ns) for found, stages_ns in answers]


def matching_classes(
    labels: Sequence[str], wanted: Sequence[str]
) -> tuple[NDArray[np.int32] | None, list[str]]:
    """For each of ``labels`` its number among ``wanted``, or -1; and those that are not there.

    None where both are the same.
    """
    if tuple(labels) == tuple(wanted):
        return None, []
    numbers = {label: i for i, label in enumerate(wanted)}
    class_ids = np.array([numbers.get(label, -1) for label in labels], np.int32)
    return class_ids, [label for label in wanted if label not in labels]


def renumbered(found: Detections, class_ids: NDArray[np.int32]) -> Detections:
    """With the run's class numbers; ``class_ids`` has -1 for a class that the run does not have."""
    renamed = replace(found, class_ids=class_ids[found.class_ids])
    return renamed[renamed.class_ids >= 0]
