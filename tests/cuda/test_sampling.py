"""Layer norm and sampling of pictures: as ONNX Runtime, in plain NumPy and on the device."""

import numpy as np
import onnx
import pytest
from onnx import helper

from app.core.errors import ModelError
from app.cuda.native.ir import LayerNorm, read_static_graph
from app.cuda.native.lower import halved, lower
from app.models.onnx_session import open_session
from tests.cuda.step_twins import run
from tests.cuda.test_engine import on_device, saved

pytestmark = pytest.mark.gpu
node = helper.make_node
SIZE = (33, 33)


def weight(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def compare(path, frames=1):
    """Outputs in NumPy, and on the device in either precision, against ONNX Runtime's."""
    x = np.random.default_rng(2).standard_normal((frames, 3, 33, 33)).astype(np.float32)
    (wanted,) = open_session(path).run(None, {"x": x})
    program = lower(read_static_graph(path, SIZE, frames=frames))
    how = {"runs": (1, frames)} if frames > 1 else {}
    most = np.abs(wanted).max()
    assert np.abs(run(program, x)[0] - wanted).max() <= 1e-5 * most
    assert np.abs(on_device(path, SIZE, x, **how)[0] - wanted).max() <= 1e-5 * most
    assert np.abs(on_device(path, SIZE, x, half=True, **how)[0] - wanted).max() <= 5e-3 * most
    return program


@pytest.mark.parametrize("axis", [-1, 2])
def test_layer_norm(device, tmp_path, axis):
    """Before a convolution, so in half precision too; over the last axis, or the last two."""
    size = 33 if axis == -1 else 33 * 33
    shape = (33,) if axis == -1 else (33, 33)
    nodes = [
        node("LayerNormalization", ["x", "scale", "shift"], ["a"], axis=axis, epsilon=1e-3),
        node("Conv", ["a", "w"], ["y"]),
    ]
    weights = {"scale": weight(size).reshape(shape), "w": weight(8, 3, 1, 1)}
    weights["shift"] = weight(size + 1)[:size].reshape(shape)
    program = compare(saved(tmp_path, nodes, weights, ("n", 8, 33, 33), frames="n"), frames=3)
    assert any(isinstance(step, LayerNorm) for step in program.steps)


def test_layer_norm_in_many_operators(device, tmp_path):
    """As exporters write it for opsets that lack it; by another epsilon than any table knows."""
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("ReduceMean", ["c"], ["m"], axes=[-1]),
        node("Sub", ["c", "m"], ["d"]),
        node("Pow", ["d", "two"], ["p"]),
        node("ReduceMean", ["p"], ["v"], axes=[-1]),
        node("Add", ["v", "epsilon"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
        node("Div", ["d", "s"], ["n"]),
        node("Mul", ["n", "scale"], ["g"]),
        node("Sqrt", ["epsilon"], ["r"]),
        node("Add", ["g", "r"], ["y"]),
    ]
    weights = {"w": weight(8, 3, 1, 1), "two": np.float32([2]), "epsilon": np.float32([1e-3])}
    path = saved(tmp_path, nodes, weights | {"scale": weight(33)}, (1, 8, 33, 33))
    model = onnx.load(path)
    model.opset_import[0].version = 16
    onnx.save(model, path)
    compare(path)


def test_a_square_root_after_a_convolution(device, tmp_path):
    """Which the kernel for convolutions does not have."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "v"], ["c"]),
        node("Sqrt", ["c"], ["y"]),
    ]
    weights = {"w": weight(8, 3, 1, 1), "v": np.abs(weight(4, 8, 1, 1))}
    compare(saved(tmp_path, nodes, weights, (1, 4, 33, 33)))


def sampling(tmp_path, **how):
    """Places within a picture and beyond its edges, one of them computed; some on pixels."""
    rows, columns = np.meshgrid(np.linspace(-1.2, 1.2, 9), np.linspace(-1.1, 1.3, 7), indexing="ij")
    grid = np.stack([columns, rows], -1)[None].astype(np.float32)
    grid[0, 0, 0], grid[0, 0, 1], grid[0, 0, 2] = (30, 0), (-1, -1), (1, 1)
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("GridSample", ["a", "grid"], ["b"], name="sampled", **how),
        node("Conv", ["b", "v"], ["y"]),
    ]
    weights = {"w": weight(8, 3, 1, 1), "v": weight(4, 8, 1, 1), "grid": grid}
    return saved(tmp_path, nodes, weights, (1, 4, 9, 7))


def test_sampling_of_a_picture(device, tmp_path):
    path = sampling(tmp_path, mode="bilinear")
    compare(path)
    program = halved(lower(read_static_graph(path, SIZE)))
    (step,) = (s for s in program.steps if type(s).__name__ == "GridSample")
    assert step.x.buffer in program.half and step.grid.buffer not in program.half


def test_sampling_where_a_network_says(device, tmp_path):
    """Several frames, each with places of its own."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("AveragePool", ["x"], ["p"], kernel_shape=[3, 3], strides=[3, 3]),
        node("Slice", ["p", "from", "to", "axis"], ["q"]),
        node("Transpose", ["q"], ["grid"], perm=[0, 2, 3, 1]),
        node("GridSample", ["a", "grid"], ["y"], mode="bilinear"),
    ]
    weights = {"w": weight(8, 3, 1, 1), "from": np.array([0]), "to": np.array([2])}
    weights["axis"] = np.array([1])
    compare(saved(tmp_path, nodes, weights, ("n", 8, 11, 11), frames="n"), frames=2)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"mode": "nearest"}, "samples 2 axes by nearest and zeros"),
        ({"mode": "bilinear", "padding_mode": "border"}, "by bilinear and border"),
        ({"mode": "bilinear", "align_corners": 1}, "aligned corners"),
    ],
)
def test_other_ways_of_sampling_are_named_with_another_engine(tmp_path, how, told):
    path = sampling(tmp_path, **how)
    with pytest.raises(ModelError, match=rf"GridSample 'sampled'.*{told}.*--engine tensorrt"):
        lower(read_static_graph(path, SIZE))
