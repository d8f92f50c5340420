"""Two networks on one GPU, taking turns on the pipeline thread: each its own boxes, no leak."""

from functools import partial

import pytest

from app.cuda.backend import CudaBackend
from app.inference.degraded import Fallback, FallbackBackend, NetworkChoice
from app.models.store import locate
from app.pipeline.degrade import Network
from tests.blob_detector import save_blob_detector
from tests.cuda.test_cuda_backend import square_at

pytestmark = pytest.mark.gpu


def test_two_networks_take_turns_between_frames(device, tmp_path):
    """The second is blind, so an answer tells whose it is."""
    models = [
        locate(str(save_blob_detector(tmp_path, name, gain=gain)))
        for name, gain in (("own", 24.0), ("blind", 0.0))
    ]
    own, blind = (
        partial(CudaBackend, m.spec, m.weights, score=m.spec.score + 0.1, iou=m.spec.iou)
        for m in models
    )
    before, choice, other = device.holds(), NetworkChoice(), Network("blind")
    backend = FallbackBackend(
        lambda wake: own(wake=wake),
        {other: Fallback(lambda: lambda wake: blind(wake=wake), None)},
        choice,
        lambda: None,
    )
    with backend:
        assert "blind" in backend.description
        for turn in range(3):
            first, second = backend.slots
            choice.use(Network())
            first.enqueue([square_at(turn)])
            choice.use(other)
            second.enqueue([square_at(turn)])
            assert len(first.collect()[0][0]) == 1 and len(second.collect()[0][0]) == 0
        backend.tune(score=0.99, iou=0.5)
        choice.use(Network())
        backend.slots[0].enqueue([square_at(1)])
        backend.slots[0].collect()
        del first, second  # nothing of the GPU outlives the backend
    assert device.holds() == before
