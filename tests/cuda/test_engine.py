"""The native engine on the simulated device: the numbers that ONNX Runtime gives."""

import json
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.errors import ModelError
from app.cuda.context import GpuContext
from app.cuda.graph import CudaGraph
from app.cuda.kernels import cubin_dir
from app.cuda.native import schedule
from app.cuda.native.autotune import TILES, ConvAutotuner, k_steps, sensible
from app.cuda.native.engine import NativeNetwork, Weights
from app.cuda.native.ir import Conv, read_static_graph
from app.cuda.native.lower import halved, lower
from app.models.onnx_session import open_session
from tests.cuda.test_lower import SIZES, attention
from tests.shelf_kit import REAL, asset

pytestmark = pytest.mark.gpu


def download(context, address, shape):
    """A tensor from the device, at once."""
    values = np.empty(shape, np.float32)
    context.driver.memcpy_dtoh(values, address)
    return values


def on_device(path, size_wh, *xs, runs=(1,), **how):
    """The outputs for each x (frames,3,H,W) in turn, with Weights built as ``how`` says and runs
    for so many frames; of one x its outputs, of several a list of each."""
    programs = [lower(read_static_graph(path, size_wh, frames=n)) for n in runs]
    answers = []
    with GpuContext() as context:
        weights = Weights(context, programs, **how)
        network = NativeNetwork(context, weights)
        stream = context.driver.Stream()
        for x in xs:
            run = network.run_for(len(x))
            x = x.astype(np.float16) if network.input_half else x
            context.driver.memcpy_htod(run.input, np.ascontiguousarray(x))
            run.enqueue(stream)
            stream.synchronize()
            answers.append([download(context, *output)[: len(x)] for output in run.outputs])
        network.close()
        weights.close()
        del network, weights, stream, run
    return answers[0] if len(xs) == 1 else answers


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
@pytest.mark.parametrize("name", REAL)
def test_real_networks(device, name, half):
    """Half precision: what a network says of noise, to a hundredth of its largest value, nearly
    everywhere. Whether that is good enough for boxes is tested with frames."""
    path, side = asset(name), SIZES.get(name, 320)
    size_wh = (side, 240) if "ultraface" in name else (side, side)
    x = np.random.default_rng(0).random((1, 3, size_wh[1], size_wh[0]), np.float32) * 255
    session = open_session(path)
    wanted = session.run(None, {session.get_inputs()[0].name: x})
    for mine, theirs in zip(on_device(path, size_wh, x, half=half), wanted, strict=True):
        apart = np.abs(mine - theirs) / max(1.0, np.abs(theirs).max())
        assert np.quantile(apart, 0.999) <= (1e-2 if half else 1e-4)
        assert apart.max() <= (5e-2 if half else 1e-4)


NODES = [
    helper.make_node("Conv", ["x", "stem"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
    helper.make_node("Sigmoid", ["a"], ["s"]),
    helper.make_node("Mul", ["a", "s"], ["b"]),
    helper.make_node("Conv", ["b", "depth"], ["c"], pads=[2, 2, 2, 2], group=24),
    helper.make_node("Add", ["b", "c"], ["d"]),
    helper.make_node("Conv", ["d", "point"], ["e"]),
    helper.make_node("MaxPool", ["e"], ["f"], kernel_shape=[3, 3], strides=[2, 2]),
    helper.make_node("Conv", ["f", "grouped"], ["g"], group=2, pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["g"], ["h"]),
    helper.make_node("Concat", ["f", "h"], ["i"], axis=1),
    helper.make_node("Conv", ["i", "last"], ["j"]),
    helper.make_node("Sigmoid", ["j"], ["k"]),
    helper.make_node("Mul", ["k", "hundreds"], ["boxes"]),
    helper.make_node("Softmax", ["i"], ["shares"], axis=1),
]


SHAPES = {
    "stem": (24, 3, 3, 3),
    "depth": (24, 1, 5, 5),
    "point": (70, 24, 1, 1),
    "grouped": (40, 35, 3, 3),
    "last": (5, 110, 1, 1),
}

# channels by eights: what lies between the picture and the outputs has its channels last
EIGHTS = [
    helper.make_node("Conv", ["x", "stem"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("Conv", ["b", "depth"], ["c"], pads=[2, 2, 2, 2], group=24),
    helper.make_node("LeakyRelu", ["c"], ["d"]),
    helper.make_node("Conv", ["d", "point"], ["e"]),
    helper.make_node("Conv", ["e", "wide"], ["f"], pads=[1, 1, 1, 1], strides=[2, 2]),
    helper.make_node("Relu", ["f"], ["g"]),
    helper.make_node("AveragePool", ["e"], ["i"], kernel_shape=[2, 2], strides=[2, 2],
                     pads=[1] * 4),
    helper.make_node("Conv", ["e", "side"], ["j"], pads=[1, 1, 1, 1], strides=[2, 2]),
    helper.make_node("Add", ["j", "i"], ["k"]),
    helper.make_node("Concat", ["g", "k"], ["l"], axis=1),
    helper.make_node("Conv", ["l", "deep"], ["m"], pads=[1, 1, 1, 1], group=72),
    helper.make_node("Conv", ["m", "narrow"], ["n"]),
    helper.make_node("Resize", ["n", "", "scales"], ["o"], mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="asymmetric"),
    helper.make_node("Conv", ["o", "last"], ["boxes"]),
    helper.make_node("Conv", ["n", "spread"], ["shares"], dilations=[2, 2], pads=[2, 2, 2, 2]),
]  # fmt: skip
EIGHTHS = {
    "stem": (24, 3, 3, 3),
    "depth": (24, 1, 5, 5),
    "point": (40, 24, 1, 1),
    "wide": (32, 40, 3, 3),
    "side": (40, 40, 3, 3),
    "deep": (72, 1, 3, 3),
    "narrow": (16, 72, 1, 1),
    "last": (5, 16, 1, 1),
    "spread": (110, 16, 3, 3),
}


@pytest.fixture(params=["small", "eights"])
def small(tmp_path, request):
    if request.param == "small":
        return save_small(tmp_path, 1)
    return save_small(tmp_path, 1, EIGHTS, EIGHTHS, sides=(18, 9))


def save_small(tmp_path, frames, nodes=NODES, shapes=SHAPES, sides=(8, 8)):
    """An ONNX file with a step of nearly every kind, 33×33 pixels; one output reads a tensor that
    a convolution reads too."""
    chance = np.random.default_rng(1)
    weights = {
        name: (chance.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    weights["hundreds"] = np.array([300.0], np.float32)
    weights["scales"] = np.array([1, 1, 2, 2], np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("x", TensorProto.FLOAT, (frames, 3, 33, 33))],
        [
            value(name, TensorProto.FLOAT, (frames, channels, side, side))
            for name, channels, side in zip(("boxes", "shares"), (5, 110), sides, strict=True)
        ],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "small.onnx"))
    return tmp_path / "small.onnx"


def compare(path, tolerance, **how):
    """Outputs of the device against ONNX Runtime's, each to ``tolerance`` of its largest value."""
    x = np.random.default_rng(2).standard_normal((1, 3, 33, 33)).astype(np.float32)
    wanted = open_session(path).run(None, {"x": x})
    for mine, theirs in zip(on_device(path, (33, 33), x, **how), wanted, strict=True):
        assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()


def share_sums(patch, parts):
    """Among so many blocks, or as many as there are K steps."""

    def shared(wave, _):
        return [min(parts, k_steps(s)) if s.kernel == "dense" else 1 for s in wave]

    patch.setattr(schedule, "parts_for", shared)


@pytest.mark.parametrize("parts", [1, 3], ids=["whole sums", "shared sums"])
@pytest.mark.parametrize("how", [(), (EIGHTS, EIGHTHS, (18, 9))], ids=["small", "eights"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
def test_each_frame_of_a_batch_gets_the_very_numbers_that_it_gets_alone(
    device, tmp_path, monkeypatch, half, how, parts
):
    """To the bit, whichever run has room for them, and whatever ran in the memory before."""
    share_sums(monkeypatch, parts)
    path = save_small(tmp_path, "frames", *how)
    x = np.random.default_rng(3).standard_normal((4, 3, 33, 33)).astype(np.float32)
    alone = [on_device(path, (33, 33), one[None], half=half) for one in x]
    parts = [x, x[2:3], x[:3], x[1:3]]
    together = on_device(path, (33, 33), *parts, runs=(1, 2, 4), half=half)
    for indices, outputs in zip([(0, 1, 2, 3), (2,), (0, 1, 2), (1, 2)], together, strict=True):
        for name, output in zip(("boxes", "shares"), outputs, strict=True):
            wanted = [alone[i][name == "shares"][0] for i in indices]
            assert np.array_equal(output, wanted), name


@pytest.mark.parametrize(
    "how",
    [
        {"op_type": "Resize", "mode": "nearest"},
        {"op_type": "Resize", "mode": "linear"},
        {"op_type": "AveragePool", "kernel_shape": [3, 3], "strides": [2, 2]},
    ],
    ids=["nearest", "linear", "mean"],
)
def test_planes_of_several_frames(device, tmp_path, how):
    """Of a part of the channels: the frames lie further apart than their planes take."""
    more = ["", "scales"] if how["op_type"] == "Resize" else []
    weights = {"scales": np.array([1, 1, 2, 2], np.float32)} if more else {}
    sizes = {"axis": np.array([1]), "from": np.array([1]), "to": np.array([3])}
    weights |= {"w": square(3), **sizes}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Slice", ["a", "from", "to", "axis"], ["b"]),
        helper.make_node(inputs=["b", *more], outputs=["y"], **how),
    ]
    path = saved(tmp_path, nodes, weights, ("n", 2, "h", "w"), frames="n")
    x = np.random.default_rng(4).standard_normal((3, 3, 33, 33)).astype(np.float32)
    wanted = open_session(path).run(None, {"x": x})
    (found,) = on_device(path, (33, 33), x, runs=(1, 3))
    assert np.abs(found - wanted[0]).max() <= 1e-5 * np.abs(wanted[0]).max()


def test_weights_are_on_the_device_once_for_all_numbers_of_frames(device, tmp_path):
    path = save_small(tmp_path, "frames")
    sizes = []
    for runs in ((1,), (1, 2, 4)):
        programs = [lower(read_static_graph(path, (33, 33), frames=n)) for n in runs]
        with GpuContext() as context:
            weights = Weights(context, programs)
            steps = [step for program in programs for step in program.steps]
            assert len({weights.convolutions[id(s)] for s in steps if type(s) is Conv}) == 5
            sizes.append([arena.size for arena in weights.arenas])
            weights.close()
            del weights
    one, _, four = sizes[1]
    assert sizes[0] == [one] and 3 * one < four <= 4 * one


def test_a_network_for_one_frame_is_refused_with_the_cure(small):
    with pytest.raises(ModelError, match=r"one frame at a time; leave --batch out"):
        read_static_graph(small, (33, 33), frames=2)


def test_float32_is_exact(device, small):
    compare(small, 1e-5)


def test_tensor_cores_sum_in_float32(device, small):
    """Halves have 11 bits: a few roundings in a row stay below 0.3 %."""
    compare(small, 3e-3, half=True)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("tile", TILES)
def test_every_tile_gives_the_same(device, small, monkeypatch, tile, half):
    monkeypatch.setattr(ConvAutotuner, "_by_rule", lambda self, sizes: tile)
    compare(small, 3e-3 if half else 1e-5, half=half)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
@pytest.mark.parametrize("parts", [2, 4, 5])
def test_blocks_that_share_sums_give_the_same_in_whatever_order(
    device, small, monkeypatch, parts, half
):
    """Sums of 1 to 12 K steps, which not all of these numbers divide; and with every tile."""
    share_sums(monkeypatch, parts)
    x = np.random.default_rng(2).standard_normal((1, 3, 33, 33)).astype(np.float32)
    wanted = open_session(small).run(None, {"x": x})
    first = None
    for seed in range(len(TILES)):
        device.delay(0, seed)
        tile = (lambda i: lambda self, sizes: (sensible(sizes) * len(TILES))[i])(seed)
        monkeypatch.setattr(ConvAutotuner, "_by_rule", tile)
        found = on_device(small, (33, 33), x, half=half)
        for mine, theirs in zip(found, wanted, strict=True):
            assert np.abs(mine - theirs).max() <= (3e-3 if half else 1e-5) * np.abs(theirs).max()
        first = first or found
        assert all(np.array_equal(a, b) for a, b in zip(first, found, strict=True))


def test_two_slots_share_no_sums(device, tmp_path, monkeypatch):
    """At work at once, each again and again as a graph: counters begin at zero each time."""
    share_sums(monkeypatch, 3)
    path = save_small(tmp_path, 1, EIGHTS, EIGHTHS, sides=(18, 9))
    x = np.random.default_rng(5).standard_normal((2, 3, 33, 33)).astype(np.float32)
    alone = [on_device(path, (33, 33), one[None], half=True) for one in x]
    device.delay(200, 7)
    with GpuContext() as context:
        weights = Weights(context, [lower(read_static_graph(path, (33, 33)))], half=True)
        networks = [NativeNetwork(context, weights) for _ in x]
        runs = [network.run_for(1) for network in networks]
        graphs = []
        for run, one in zip(runs, x, strict=True):
            context.driver.memcpy_htod(run.input, one.astype(np.float16))
            stream = context.driver.Stream()
            work = partial(lambda r, s, _: r.enqueue(s), run, stream)
            graphs.append(CudaGraph(context, stream, work, marks=0))
        for _ in range(3):
            for graph in graphs:
                graph.launch()
        for run, graph, wanted in zip(runs, graphs, alone, strict=True):
            graph.wait()
            found = [download(context, *output) for output in run.outputs]
            assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
        for each in (*graphs, *networks, weights):
            each.close()
        del weights, networks, runs, graphs, run, graph, stream, each, work


HARD = [
    helper.make_node("HardSigmoid", ["b"], ["s"], alpha=1 / 6, beta=0.5),
    helper.make_node("Mul", ["b", "s"], ["c"]),
]
SILU = [helper.make_node("Sigmoid", ["b"], ["s"]), helper.make_node("Mul", ["b", "s"], ["c"])]


@pytest.mark.parametrize(
    ("channels", "between", "how"),
    [
        (16, SILU, {"pads": [1, 1, 1, 1]}),
        (24, HARD, {"pads": [0, 1, 1, 0], "strides": [2, 2]}),
        (40, [helper.make_node("Relu", ["b"], ["c"])], {"pads": [2] * 4, "dilations": [2, 2]}),
        (8, SILU, {"pads": [1, 1, 1, 1]}),  # too few for the quick kernel
    ],
    ids=["silu", "hard swish and stride", "relu and dilation", "few channels"],
)
@pytest.mark.parametrize("tile", TILES[:3:2])
def test_a_depthwise_convolution_within_a_dense_one(
    device, tmp_path, monkeypatch, channels, between, how, tile
):
    """Half precision, 8 channels at a time: rows of a window are summed in half."""
    monkeypatch.setattr(ConvAutotuner, "_by_rule", lambda self, sizes: tile)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["a", "d", "e"], ["b"], group=channels, **how),
        *between,
        helper.make_node("Conv", ["c", "p"], ["f"]),
        helper.make_node("Conv", ["f", "last"], ["y"]),
    ]
    chance = np.random.default_rng(channels)
    shapes = {"w": (channels, 3, 1, 1), "d": (channels, 1, 3, 3), "e": (channels,)}
    shapes |= {"p": (72, channels, 1, 1), "last": (8, 72, 1, 1)}
    weights = {
        name: (chance.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    side = 16 if "strides" in how else 33
    path = saved(tmp_path, nodes, weights, (1, 8, side, side))
    steps = halved(lower(read_static_graph(path, (33, 33)))).steps
    assert [s.kernel for s in steps if isinstance(s, Conv)] == ["dense", "fused", "dense"]
    assert steps[1].eight == (channels > 8)
    compare(path, 3e-3, half=True)


def test_tiles_are_measured_once_and_remembered(device, monkeypatch, tmp_path):
    small = save_small(tmp_path, 1)
    compare(small, 3e-3, half=True)
    for path in cubin_dir().glob("*.cubin"):  # compiled already
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setenv("KESTREL_CUBIN_CACHE", str(tmp_path))
    compare(small, 3e-3, half=True, tune=True)
    (file,) = tmp_path.glob("tiles-*.json")
    known = json.loads(file.read_text())
    assert len(known) == 4  # the depthwise one has no tiles
    monkeypatch.setattr(ConvAutotuner, "_fastest", lambda *_: pytest.fail("measured again"))
    compare(small, 3e-3, half=True, tune=True)
    file.write_text("no JSON")
    monkeypatch.setattr(ConvAutotuner, "_fastest", lambda *_: TILES[-1])
    compare(small, 3e-3, half=True, tune=True)
    assert set(map(tuple, json.loads(file.read_text()).values())) == {TILES[-1]}


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_part_that_is_made_after_another_was_read_is_half_as_the_whole(device, tmp_path, op):
    """Both parts of "y" lie in one buffer; a convolution reads only the first of them."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["a", "v"], ["b"]),
        helper.make_node("Conv", ["a", "u"], ["c"]),
        helper.make_node(op, ["b", "c"], ["s"]),
        helper.make_node("Concat", ["a", "s"], ["y"], axis=1),
    ]
    weights = {name: square(8 if name != "w" else 3) for name in "wvu"}
    compare(saved(tmp_path, nodes, weights, (1, 16, 33, 33)), 3e-3, half=True)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
def test_products_of_matrices(device, tmp_path, half):
    nodes, weights, y_shape = attention(33 * 33)
    compare(saved(tmp_path, nodes, weights, y_shape), 1e-2 if half else 1e-5, half=half)


def test_numbers_beyond_half_precision_are_refused_with_the_cure(device, tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    path = saved(tmp_path, nodes, {"w": square(3) * 1e6}, (1, 8, 33, 33))
    with pytest.raises(ModelError, match=r"beyond 65504.*--precision fp32"):
        compare(path, 1, half=True)
    compare(path, 1e-5)


def test_nan_goes_through_activations_and_pools(device, tmp_path):
    """As in ONNX Runtime; fmaxf would make numbers of it, and hide it."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("HardSigmoid", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    path = saved(tmp_path, nodes, {"w": square(3)}, (1, 8, 33, 33))
    x = np.ones((1, 3, 33, 33), np.float32)
    x[0, 1, 10, 20] = np.nan
    (found,) = on_device(path, (33, 33), x)
    assert np.isnan(found[0, :, 9:12, 19:22]).all()
    assert np.isfinite(found[0, :, 20:]).all()


def square(channels):
    return np.random.default_rng(channels).standard_normal((8, channels, 1, 1)).astype(np.float32)


def saved(folder, nodes, weights, y_shape, frames=1):
    """An ONNX file from "x" (frames,3,33,33) to "y"."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, (frames, 3, 33, 33))],
        [value("y", TensorProto.FLOAT, y_shape)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "net.onnx"))
    return folder / "net.onnx"
