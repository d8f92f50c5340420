"""The native engine on the simulated device: the numbers that ONNX Runtime gives."""

import numpy as np
import pytest

from app.backends.ort import open_session
from app.gpu.context import GpuContext
from app.gpu.network.engine import Network, Weights, download
from app.gpu.network.graph import read_static_graph
from app.gpu.network.lower import lower
from tests.gpu.test_lower import SIZES
from tests.shelf_kit import REAL, asset


def on_device(path, size_wh, x):
    program = lower(read_static_graph(path, size_wh))
    with GpuContext() as context:
        weights = Weights(context, program)
        network = Network(context, weights)
        stream = context.driver.Stream()
        context.driver.memcpy_htod(network.input, x)
        network.enqueue(stream)
        stream.synchronize()
        found = [download(context, *output) for output in network.outputs]
        network.close()
        weights.close()
        del network, weights, stream
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_networks(device, name):
    path, side = asset(name), SIZES.get(name, 320)
    size_wh = (side, 240) if "ultraface" in name else (side, side)
    x = np.random.default_rng(0).random((1, 3, size_wh[1], size_wh[0]), np.float32) * 255
    session = open_session(path)
    wanted = session.run(None, {session.get_inputs()[0].name: x})
    for mine, theirs in zip(on_device(path, size_wh, x), wanted, strict=True):
        assert np.abs(mine - theirs).max() <= 1e-4 * max(1.0, np.abs(theirs).max())
