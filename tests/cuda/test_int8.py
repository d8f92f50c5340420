"""Quantised models: as ONNX Runtime computes them unfused, in plain NumPy and on the device.

Sums of bytes are exact, so what is rounded after them differs by one step at most, where a number
lies between two of them. ONNX Runtime's own fused kernels saturate on some processors; the
reference is its basic optimisation, which is what the engine reads.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.commands.cli import main
from app.core.errors import ModelError
from app.cuda.context import GpuContext
from app.cuda.native.autotune import TILES, ConvAutotuner
from app.cuda.native.engine import NativeNetwork, Weights
from app.cuda.native.ir import Binary, Conv, Pool, Unary, read_static_graph
from app.cuda.native.lower import halved, lower
from app.cuda.native.schedule import waves
from app.models.onnx_edit import to_int8
from app.models.onnx_session import load_onnxruntime, quiet_options
from app.models.store import find_model
from tests.blob_detector import save_blob_detector
from tests.cuda.step_twins import run
from tests.cuda.test_engine import download, on_device

node = helper.make_node
SIZE = 17
SILU = [node("Sigmoid", ["a"], ["s"]), node("Mul", ["a", "s"], ["b"])]
# after a convolution with SiLU: nodes from "b" to "c" (32 channels), and the shape of "v" or "w24"
BODIES = {
    "window": ([node("Conv", ["b", "v"], ["c"], pads=[1] * 4, strides=[2, 2])], (32, 24, 3, 3)),
    "long sums": (
        [node("Conv", ["b", "v"], ["c"], pads=[4] * 4, dilations=[2, 2])],
        (32, 24, 5, 5),
    ),
    "groups": ([node("Conv", ["b", "v"], ["c"], pads=[1] * 4, group=2)], (32, 12, 3, 3)),
    "depthwise": (
        [
            node("Conv", ["b", "v"], ["d"], pads=[2] * 4, group=24),
            node("LeakyRelu", ["d"], ["e"]),
            node("Conv", ["e", "p"], ["c"]),
        ],
        (24, 1, 5, 5),
    ),
    "sum": (
        [
            node("Conv", ["b", "w24"], ["d"], pads=[1] * 4),
            node("Relu", ["d"], ["e"]),
            node("Add", ["b", "e"], ["f"]),
            node("Conv", ["f", "p"], ["c"]),
        ],
        (24, 24, 3, 3),
    ),
    "concatenation": (
        [
            node("Conv", ["b", "v"], ["d"]),
            node("MaxPool", ["b"], ["e"], kernel_shape=[3, 3], pads=[1] * 4),
            node("Concat", ["d", "e"], ["f"], axis=1),
            node("Conv", ["f", "p40"], ["c"]),
        ],
        (16, 24, 1, 1),
    ),
    "enlarged": (
        [
            node("Conv", ["b", "v"], ["d"], strides=[2, 2]),
            node("Resize", ["d", "", "scales"], ["e"], mode="nearest", nearest_mode="floor",
                 coordinate_transformation_mode="asymmetric"),
            node("AveragePool", ["e"], ["f"], kernel_shape=[3, 3]),
            node("Conv", ["f", "p"], ["c"]),
        ],
        (24, 24, 1, 1),
    ),
}  # fmt: skip


def made(folder, body, *, target="cpu", frames=1, stem=24):
    """A float model, quantised as ``models quantize`` does; its last convolution stays float."""
    nodes, shape = BODIES[body]
    shapes = {"w": (stem, 3, 3, 3), "v": shape, "w24": shape, "p": (32, 24, 1, 1)}
    shapes |= {"p40": (32, 40, 1, 1), "last": (5, 32, 1, 1)}
    used = {name for n in nodes for name in n.input} | {"w", "last"}
    chance = np.random.default_rng(len(body))
    weights = {
        name: (chance.standard_normal(s) / np.sqrt(np.prod(s[1:]))).astype(np.float32)
        for name, s in shapes.items()
        if name in used
    }
    if "scales" in used:
        weights["scales"] = np.array([1, 1, 2, 2], np.float32)
    bias = chance.standard_normal(stem).astype(np.float32)
    nodes = [
        node("Conv", ["x", "w", "bias"], ["a"], pads=[1] * 4, strides=[2, 2]),
        *SILU,
        *nodes,
        node("Relu", ["c"], ["g"]),
        node("Conv", ["g", "last"], ["y"]),
    ]
    for i, each in enumerate(nodes):
        each.name = f"n{i}"  # quantisation leaves the last ones out by their names
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, (frames, 3, 2 * SIZE, 2 * SIZE))],
        [value("y", TensorProto.FLOAT, (frames, 5, None, None))],
        [numpy_helper.from_array(v, k) for k, v in (weights | {"bias": bias}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "float.onnx"))
    tensors = [pictures(1, seed) for seed in range(3)]
    to_int8(folder / "float.onnx", folder / "int8.onnx", tensors, target=target)
    return folder / "int8.onnx"


def pictures(frames, seed=0):
    chance = np.random.default_rng(seed)
    return chance.standard_normal((frames, 3, 2 * SIZE, 2 * SIZE)).astype(np.float32)


def reference(path, x):
    """What ONNX Runtime makes of it, with each rounding as the file has it."""
    ort, options = load_onnxruntime(), quiet_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def near(mine, theirs, *, half=False):
    """Whether the numbers are the same, but where one that was rounded the other way is summed:
    not more often than once in fifty. Halves: to a few roundings."""
    apart = np.abs(mine - theirs) / np.abs(theirs).max()
    assert np.quantile(apart, 0.98) <= (5e-3 if half else 1e-5), np.sort(apart.ravel())[-20:]
    assert apart.max() <= 0.05


@pytest.mark.parametrize("target", ["cpu", "gpu"])
@pytest.mark.parametrize("body", BODIES)
def test_steps_give_what_the_file_says(tmp_path, body, target):
    path = made(tmp_path, body, target=target)
    program = lower(read_static_graph(path, (2 * SIZE, 2 * SIZE)))
    x = pictures(1)
    near(run(program, x)[0], reference(path, x)[0])
    kinds = [s.kernel for s in program.steps if isinstance(s, Conv)]
    assert kinds[-1] == "dense" and all(kind.endswith("int8") for kind in kinds[:-1])


def test_rounding_and_activations_in_between_cost_no_launch(tmp_path):
    """But that of the picture, which is nobody's result."""
    sizes = {}
    for body in BODIES:
        path = made(tmp_path, body)
        program = halved(lower(read_static_graph(path, (2 * SIZE, 2 * SIZE))))
        sizes[body] = [type(s) for s in program.steps if not isinstance(s, Conv)]
        assert len(waves(program)) == len(program.steps)
    for body in ("window", "long sums", "groups", "depthwise", "sum"):
        assert sizes[body] == [Unary], body
    assert sizes["concatenation"].count(Pool) == 1 and Binary not in sizes["concatenation"]


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
@pytest.mark.parametrize("body", BODIES)
def test_the_device_gives_what_the_file_says(device, tmp_path, body, half):
    path, x = made(tmp_path, body, target="gpu" if half else "cpu"), pictures(1)
    near(on_device(path, (2 * SIZE,) * 2, x, half=half)[0], reference(path, x)[0], half=half)


@pytest.mark.gpu
@pytest.mark.parametrize("stem", [24, 32, 20], ids=["eights", "sixteens", "neither"])
@pytest.mark.parametrize("tile", TILES)
def test_every_tile_and_width_gives_the_same(device, tmp_path, monkeypatch, tile, stem):
    """Unsigned: the picture's edge is not the byte 0."""
    monkeypatch.setattr(ConvAutotuner, "_by_rule", lambda self, sizes: tile)
    monkeypatch.setitem(BODIES, "any", ([BODIES["window"][0][0]], (32, stem, 3, 3)))
    path, x = made(tmp_path, "any", stem=stem), pictures(1)
    near(on_device(path, (2 * SIZE,) * 2, x, half=True)[0], reference(path, x)[0], half=True)


@pytest.mark.gpu
def test_each_frame_of_a_batch_gets_the_very_numbers_that_it_gets_alone(device, tmp_path):
    path, x = made(tmp_path, "sum", frames="n"), pictures(4)
    size = (2 * SIZE,) * 2
    alone = [on_device(path, size, one[None], half=True)[0][0] for one in x]
    together = on_device(path, size, x, x[1:3], runs=(1, 2, 4), half=True)
    for indices, (found,) in zip(((0, 1, 2, 3), (1, 2)), together, strict=True):
        assert np.array_equal(found, [alone[i] for i in indices])


@pytest.mark.gpu
def test_two_slots_at_once(device, tmp_path):
    """Each on its own stream and memory, with the same weights and tables."""
    path, x = made(tmp_path, "concatenation", target="gpu"), pictures(2)
    device.delay(300, seed=1)
    with GpuContext() as context:
        program = lower(read_static_graph(path, (2 * SIZE,) * 2))
        weights = Weights(context, [program], half=True)
        networks = [NativeNetwork(context, weights) for _ in x]
        streams = [context.driver.Stream() for _ in x]
        runs = [network.run_for(1) for network in networks]
        for one, made_by, stream in zip(x, runs, streams, strict=True):
            values = one[None].astype(np.float16 if networks[0].input_half else np.float32)
            context.driver.memcpy_htod(made_by.input, np.ascontiguousarray(values))
            made_by.enqueue(stream)
        for stream in streams:
            stream.synchronize()
        found = [download(context, *made_by.outputs[0]) for made_by in runs]
        for network in networks:
            network.close()
        weights.close()
        del weights, networks, network, streams, stream, runs, made_by
    for mine, one in zip(found, x, strict=True):
        near(mine, reference(path, one[None])[0], half=True)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """The small bundled model, quantised with noise."""
    path = tmp_path_factory.mktemp("int8") / "small.onnx"
    chance = np.random.default_rng(0)
    tensors = [chance.random((1, 3, 64, 64), np.float32) * 255]
    to_int8(find_model("kestrel_small").weights, path, tensors, target="gpu")
    return path


@pytest.mark.gpu
def test_the_bundled_model(device, bundled):
    """116 of its 131 convolutions are of bytes; the last ones are not quantised."""
    x = np.random.default_rng(1).random((1, 3, 64, 64), np.float32) * 255
    program = lower(read_static_graph(bundled, (64, 64)))
    convolutions = [s for s in program.steps if isinstance(s, Conv)]
    assert sum(s.int8 for s in convolutions) >= 0.85 * len(convolutions)
    (wanted,) = reference(bundled, x)
    near(run(program, x)[0], wanted)
    (found,) = on_device(bundled, (64, 64), x)
    near(found, wanted)


def quantised(x, y, scale="s", zero="z"):
    return [
        node("QuantizeLinear", [x, scale, zero], [f"{y}_q"]),
        node("DequantizeLinear", [f"{y}_q", scale, zero], [y]),
    ]


def by_hand(tmp_path, nodes, constants, shape=(1, 8, 6, 6)):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, (1, 3, 6, 6))],
        [value("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    return tmp_path / "net.onnx"


WEIGHTS = {
    "w": np.random.default_rng(0).integers(-127, 128, (8, 3, 1, 1)).astype(np.int8),
    "ws": np.float32(0.02),
    "wz": np.int8(0),
    "s": np.float32(0.05),
    "z": np.int8(3),
}


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_one_scale_for_all_weights_and_an_output_in_bytes(device, tmp_path, kind):
    """To the step, but for one number in a hundred that lies between two."""
    nodes = [
        *quantised("x", "a"),
        node("DequantizeLinear", ["w", "ws", "wz"], ["v"]),
        node("Conv", ["a", "v"], ["b"]),
        *quantised("b", "y"),
    ]
    path = by_hand(tmp_path, nodes, WEIGHTS | {"z": kind(3)})
    x = np.random.default_rng(1).standard_normal((1, 3, 6, 6)).astype(np.float32) * 3
    (wanted,) = reference(path, x)
    (found,) = on_device(path, (6, 6), x)
    steps = np.abs(np.rint((found - wanted) / 0.05))
    assert steps.max() <= 1 and np.mean(steps > 0) <= 0.01
    assert len(np.unique(wanted)) > 50


@pytest.mark.gpu
def test_layouts_between_rounding_and_numbers(device, tmp_path):
    """Bytes are reshaped, transposed and put side by side; a product and a mean take numbers."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("Transpose", ["q"], ["t"], perm=[0, 1, 3, 2]),
        node("DequantizeLinear", ["t", "s", "z"], ["a"]),
        node("Concat", ["a", "a"], ["b"], axis=1),
        node("AveragePool", ["b"], ["c"], kernel_shape=[3, 3]),
        *quantised("c", "d", "s2"),
        node("MatMul", ["d", "d"], ["e"]),
        node("Softmax", ["e"], ["y"], axis=1),
    ]
    path = by_hand(tmp_path, nodes, WEIGHTS | {"s2": np.float32(0.03)}, (1, 6, 4, 4))
    x = np.random.default_rng(1).standard_normal((1, 3, 6, 6)).astype(np.float32)
    for half in (False, True):
        (found,) = on_device(path, (6, 6), x, half=half)
        assert np.abs(found - reference(path, x)[0]).max() <= 1e-5


@pytest.mark.gpu
def test_precision_int8_asks_for_a_quantised_model(device, tmp_path, capsys):
    words = ["replay", "pattern:?size=64x64&frames=2", "--engine", "cuda", "--precision", "int8"]
    assert main([*words, "--model", str(save_blob_detector(tmp_path))]) == 2
    assert "precision int8 needs a quantised model: `models quantize" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"z": np.int16(0)}, "neither int8 nor uint8"),
        ({"s": np.full(3, 0.1, np.float32), "z": np.zeros(3, np.int8)}, "several scales"),
    ],
    ids=["16 bits", "a scale for each channel"],
)
def test_what_bytes_cannot_be_is_named_with_another_engine(tmp_path, change, told):
    constants = WEIGHTS | {"z": np.int8(0)} | change
    nodes = [*quantised("x", "a"), node("Relu", ["a"], ["y"])]
    path = by_hand(tmp_path, nodes, constants, (1, 3, 6, 6))
    model = onnx.load(path)
    model.opset_import[0].version = 21
    onnx.save(model, path)
    with pytest.raises(ModelError, match=rf"{told}.*--engine tensorrt"):
        lower(read_static_graph(path, (6, 6)))
