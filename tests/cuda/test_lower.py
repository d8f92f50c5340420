"""Graphs as steps: the same numbers as ONNX Runtime, for our own and for others' networks."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.errors import ModelError
from app.cuda.native.ir import (
    Binary,
    Conv,
    Unary,
    View,
    may_overlap,
    moved,
    read_static_graph,
    row_major,
)
from app.cuda.native.launch import KINDS
from app.cuda.native.lower import halved, lower
from app.cuda.native.schedule import waves
from app.models.onnx_session import open_session
from app.models.store import default_model, find_model
from tests.cuda.step_twins import run
from tests.shelf_kit import REAL, asset

SIZES = {"yolox_nano_416": 416, "light_person_192": 192, "fastestdet_352": 352}


def compare(path, size_wh, seed=0, frames=1):
    """The program of an ONNX file, after comparing its outputs with ONNX Runtime's."""
    program = lower(read_static_graph(path, size_wh, frames=frames))
    x = np.random.default_rng(seed).random((frames, 3, size_wh[1], size_wh[0]), np.float32) * 255
    session = open_session(path)
    wanted = session.run(None, {session.get_inputs()[0].name: x})
    for mine, theirs in zip(run(program, x), wanted, strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() <= 1e-4 * max(1.0, np.abs(theirs).max())
    return program


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_networks(name):
    side = SIZES.get(name, 320)
    compare(asset(name), (side, 240) if "ultraface" in name else (side, side))


@pytest.mark.parametrize("name", ["kestrel", "kestrel_small"])
def test_two_heads_in_one_output(name):
    """Sizes open, the classes of the second head constant."""
    compare(find_model(name).weights, (96, 64), frames=2)


def graph(tmp_path, nodes, constants, y_shape, size=16, frames=1):
    """An ONNX file of these nodes from "x" (frames,3,size,size) to "y"."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (frames, 3, size, size))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)],
            [numpy_helper.from_array(v, k) for k, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, str(tmp_path / "net.onnx"))
    return tmp_path / "net.onnx"


def weight(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32) * 0.1


node = helper.make_node


def test_silu_and_a_residual_become_part_of_the_convolution(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Sigmoid", ["a"], ["s"]),
        node("Mul", ["a", "s"], ["b"]),
        node("Conv", ["b", "v"], ["c"], pads=[1, 1, 1, 1], group=3),
        node("Relu", ["c"], ["d"]),
        node("Add", ["b", "d"], ["y"]),
    ]
    constants = {"w": weight(3, 3, 3, 3), "v": weight(3, 1, 3, 3)}
    program = compare(graph(tmp_path, nodes, constants, (1, 3, 16, 16)), (16, 16))
    first, second = program.steps
    assert isinstance(first, Conv) and first.activation[0] == "silu"
    assert isinstance(second, Conv) and second.late and second.activation[0] == "clip"


def launches(program):
    """How many steps each launch takes."""
    return [len(wave) for wave in waves(program)]


def test_the_default_network_takes_at_most_six_tenths_of_the_launches_that_its_steps_would():
    """147 of them, one a step, before steps were fused and launched together."""
    program = halved(lower(read_static_graph(default_model().weights, (320, 320))))
    assert len(waves(program)) <= 0.6 * 147
    dense = [s for s in program.steps if isinstance(s, Conv) and s.kernel != "depthwise"]
    assert [s.eight for s in dense] == [False] + [True] * (len(dense) - 1)  # but for the picture


def test_both_halves_of_a_split_tensor_are_written_where_they_are_put_together(tmp_path):
    """As in the blocks of YOLOv8, where one half is convolved too."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Split", ["b", "halves"], ["c", "d"], axis=1),
        node("Conv", ["d", "v"], ["e"], pads=[1] * 4),
        node("Add", ["d", "e"], ["f"]),
        node("Concat", ["c", "d", "f"], ["g"], axis=1),
        node("Conv", ["g", "u"], ["y"]),
    ]
    constants = {"w": weight(16, 3, 1, 1), "v": weight(8, 8, 3, 3), "u": weight(8, 24, 1, 1)}
    constants["halves"] = np.array([8, 8])
    program = compare(graph(tmp_path, nodes, constants, (1, 8, 16, 16)), (16, 16))
    assert [type(step) for step in program.steps] == [Conv] * 3


def test_a_depthwise_convolution_becomes_part_of_the_one_after_it(tmp_path):
    nodes = [
        node("Conv", ["x", "d"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2], group=3),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "p"], ["c"]),
        node("Relu", ["c"], ["y"]),
    ]
    constants = {"d": weight(3, 1, 3, 3), "p": weight(8, 3, 1, 1)}
    (step,) = compare(graph(tmp_path, nodes, constants, (1, 8, 8, 8)), (16, 16)).steps
    assert step.before.activation[0] == step.activation[0] == "clip"


@pytest.mark.parametrize(("side", "op"), [(5, "Relu"), (3, "Erf")])
def test_one_that_the_kernel_for_both_cannot_do_stays(tmp_path, side, op):
    nodes = [
        node("Conv", ["x", "d"], ["a"], pads=[side // 2] * 4, group=3),
        node(op, ["a"], ["b"]),
        node("Conv", ["b", "p"], ["y"]),
    ]
    constants = {"d": weight(3, 1, side, side), "p": weight(8, 3, 1, 1)}
    program = compare(graph(tmp_path, nodes, constants, (1, 8, 16, 16)), (16, 16))
    assert [s.kernel for s in program.steps] == ["depthwise", "dense"]


def test_a_depthwise_convolution_that_others_read_too_stays(tmp_path):
    nodes = [
        node("Conv", ["x", "d"], ["a"], pads=[1, 1, 1, 1], group=3),
        node("Conv", ["a", "p"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    constants = {"d": weight(3, 1, 3, 3), "p": weight(3, 3, 1, 1)}
    program = compare(graph(tmp_path, nodes, constants, (1, 3, 16, 16)), (16, 16))
    assert [s.kernel for s in program.steps] == ["depthwise", "dense"]


def test_convolutions_that_do_not_wait_for_each_other_share_a_launch(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "v"], ["b"]),
        node("Conv", ["a", "u"], ["c"]),
        node("Concat", ["b", "c"], ["y"], axis=1),
    ]
    constants = {"w": weight(4, 3, 1, 1), "v": weight(5, 3, 1, 1), "u": weight(4, 4, 1, 1)}
    program = compare(graph(tmp_path, nodes, constants, (1, 9, 16, 16)), (16, 16))
    assert launches(program) == [2, 1]


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 0, 0, 0]])
def test_every_second_pixel_as_channels_is_a_larger_window(tmp_path, pads):
    """As YOLOX's first layer, exported by slices."""
    ends, constants = [], {"axes": np.array([2, 3]), "steps": np.array([2, 2])}
    nodes = []
    for i, (dy, dx) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        constants |= {f"from{i}": np.array([dy, dx]), "to": np.array([999, 999])}
        nodes.append(node("Slice", ["x", f"from{i}", "to", "axes", "steps"], [f"s{i}"]))
        ends.append(f"s{i}")
    nodes += [node("Concat", ends, ["a"], axis=1), node("Conv", ["a", "w"], ["y"], pads=pads)]
    side = 8 if pads[0] else 6
    path = graph(tmp_path, nodes, constants | {"w": weight(5, 12, 3, 3)}, (1, 5, side, side))
    (step,) = compare(path, (16, 16)).steps
    assert step.weight.shape == (5, 3, 6, 6) and step.stride == (2, 2)


def test_an_enlarged_result_is_written_by_its_convolution(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"], strides=[2, 2]),
        node("Resize", ["a", "", "scales"], ["b"], mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("Concat", ["b", "x"], ["c"], axis=1),
        node("Conv", ["c", "v"], ["d"], strides=[2, 2]),
        node("Add", ["a", "d"], ["y"]),
    ]  # fmt: skip
    scales = np.array([1, 1, 2, 2], np.float32)
    constants = {"w": weight(4, 3, 1, 1), "v": weight(4, 7, 1, 1), "scales": scales}
    program = compare(graph(tmp_path, nodes, constants, (1, 4, 8, 8)), (16, 16))
    assert [type(s) for s in program.steps] == [Conv, Unary, Conv]  # x is nobody's result
    assert program.steps[0].also is not None


def test_a_head_writes_its_rows_at_once(tmp_path):
    """Boxes as they are, scores after the sigmoid, cells by rows, constants beside them."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Reshape", ["a", "flat"], ["b"]),
        node("Split", ["b", "sizes"], ["box", "score"], axis=1),
        node("Sigmoid", ["score"], ["s"]),
        node("Concat", ["box", "s", "fixed"], ["c"], axis=1),
        node("Transpose", ["c"], ["y"], perm=[0, 2, 1]),
    ]
    constants = {
        "w": weight(6, 3, 1, 1),
        "flat": np.array([1, 6, 256], np.int64),
        "sizes": np.array([4, 2], np.int64),
        "fixed": weight(1, 2, 256),
    }
    program = compare(graph(tmp_path, nodes, constants, (1, 256, 8)), (16, 16))
    assert [s.activation[0] for s in program.steps] == ["none", "sigmoid"]
    assert len(program.once) == 1 and launches(program) == [2]


def test_what_depends_on_the_picture_is_computed_for_each(tmp_path):
    """Though a constant comes first."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Mul", ["fixed", "a"], ["b"]),
        node("Concat", ["b", "fixed"], ["y"], axis=1),
    ]
    constants = {"w": weight(4, 3, 1, 1), "fixed": weight(1, 4, 16, 16)}
    program = compare(graph(tmp_path, nodes, constants, (1, 8, 16, 16)), (16, 16))
    assert len(program.once) == 1 and len(program.steps) == 2


def test_two_activations_of_the_same_channels_stay_two(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Sigmoid", ["a"], ["b"]),
        node("Relu", ["a"], ["c"]),
        node("Concat", ["b", "c"], ["y"], axis=1),
    ]
    compare(graph(tmp_path, nodes, {"w": weight(4, 3, 1, 1)}, (1, 8, 16, 16)), (16, 16))


@pytest.mark.parametrize("seed", range(40))
def test_a_moved_view_shows_the_same_elements(seed):
    """Of a tensor in a random layout and a part of it, after a copy to another random layout."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 5, 4))
    size = int(np.prod(shape))

    def anyhow(buffer):
        order = rng.permutation(4)
        view = View(
            buffer, tuple(shape[a] for a in order), row_major(tuple(shape[a] for a in order))
        )
        return view.permuted([int(a) for a in np.argsort(order)])

    source, target, part = anyhow(0), anyhow(1), anyhow(0)
    if seed % 2:
        part = source
    for axis, n in enumerate(shape):
        start = int(rng.integers(n))
        part = part.sliced(axis, start, int(rng.integers(1, n - start + 1)))
    memory = [np.arange(size), np.full(size, -1)]

    def at(view):
        start = memory[view.buffer][view.offset :]
        return np.lib.stride_tricks.as_strided(start, view.shape, [s * 8 for s in view.strides])

    at(target)[...] = at(source)
    found = moved(part, source, target)
    if found is not None:
        assert (at(found) == at(part)).all()
    else:
        assert not seed % 2  # a box of the source is always one of the target
    assert may_overlap(part, source)
    assert may_overlap(part, part.sliced(0, 0, 1))


def test_parts_of_a_tensor_do_not_overlap_whatever_its_layout():
    whole = View(0, (2, 16, 4, 5), row_major((2, 16, 4, 5)))
    last = View(0, (2, 4, 5, 16), row_major((2, 4, 5, 16))).permuted([0, 3, 1, 2])
    for view in (whole, last):
        assert not may_overlap(view.sliced(1, 0, 8), view.sliced(1, 8, 8))
        assert may_overlap(view.sliced(1, 0, 9), view.sliced(1, 8, 8))


def test_an_activation_after_the_sum_is_fused_too(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Add", ["a", "x"], ["b"]),
        node("Relu", ["b"], ["y"]),
    ]
    path = graph(tmp_path, nodes, {"w": weight(3, 3, 1, 1)}, (1, 3, 16, 16))
    (step,) = compare(path, (16, 16)).steps
    assert isinstance(step, Conv) and not step.late and step.added is not None


def test_concatenation_costs_no_copy(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "v"], ["b"], pads=[1, 1, 1, 1]),
        node("Concat", ["a", "b"], ["c"], axis=1),
        node("Conv", ["c", "u"], ["y"]),
    ]
    constants = {"w": weight(4, 3, 1, 1), "v": weight(5, 3, 3, 3), "u": weight(2, 9, 1, 1)}
    program = compare(graph(tmp_path, nodes, constants, (1, 2, 16, 16)), (16, 16))
    assert [type(s) for s in program.steps] == [Conv, Conv, Conv]


def test_what_is_read_elsewhere_as_well_is_copied(tmp_path):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Concat", ["a", "x"], ["b"], axis=1),
        node("Transpose", ["a"], ["t"], perm=[0, 1, 3, 2]),
        node("Concat", ["b", "t"], ["y"], axis=1),
    ]
    path = graph(tmp_path, nodes, {"w": weight(3, 3, 1, 1)}, (1, 9, 16, 16))
    assert sum(isinstance(s, Unary) for s in compare(path, (16, 16)).steps) >= 2


def test_shuffles_slices_and_reshapes_are_views(tmp_path):
    nodes = [
        node("Reshape", ["x", "shape"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 3, 2, 1]),
        node("Slice", ["b", "starts", "ends", "axes", "steps"], ["c"]),
        node("Mul", ["c", "two"], ["y"]),
    ]
    constants = {
        "shape": np.array([1, 3, 8, 32], np.int64),
        "starts": np.array([1], np.int64),
        "ends": np.array([9999], np.int64),
        "axes": np.array([1], np.int64),
        "steps": np.array([3], np.int64),
        "two": np.array(2, np.float32),
    }
    program = compare(graph(tmp_path, nodes, constants, (1, 11, 8, 3)), (16, 16))
    (step,) = program.steps
    assert isinstance(step, Binary)


@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
        {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        },
        {"mode": "nearest"},
    ],
)
def test_resizing(tmp_path, attributes):
    nodes = [node("Resize", ["x", "", "scales"], ["y"], **attributes)]
    constants = {"scales": np.array([1, 1, 2, 2], np.float32)}
    compare(graph(tmp_path, nodes, constants, (1, 3, 32, 32)), (16, 16))


@pytest.mark.parametrize(
    ("op", "attributes", "out"),
    [
        ("MaxPool", {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}, 16),
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, 8),
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, 8),
        (
            "AveragePool",
            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
            16,
        ),
        ("GlobalAveragePool", {}, 1),
    ],
)
def test_pooling(tmp_path, op, attributes, out):
    nodes = [node(op, ["x"], ["y"], **attributes)]
    compare(graph(tmp_path, nodes, {}, (1, 3, out, out)), (16, 16))


def attention(rows=256):
    """Scores of all pixels for each other, as YOLO11 has them; then two linear layers and GELU."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Reshape", ["a", "heads"], ["b"]),
        node("Split", ["b", "sizes"], ["q", "k", "v"], axis=2),
        node("Transpose", ["q"], ["t"], perm=[0, 1, 3, 2]),
        node("MatMul", ["t", "k"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("Transpose", ["p"], ["u"], perm=[0, 1, 3, 2]),
        node("MatMul", ["v", "u"], ["m"]),
        node("Reshape", ["m", "flat"], ["n"]),
        node("Transpose", ["n"], ["r"], perm=[0, 2, 1]),
        node("MatMul", ["r", "linear"], ["l"]),
        node("Erf", ["l"], ["e"]),
        node("Mul", ["l", "e"], ["y"]),
    ]
    constants = {
        "w": weight(16, 3, 1, 1),
        "heads": np.array([1, 2, 8, rows], np.int64),
        "sizes": np.array([2, 2, 4], np.int64),
        "flat": np.array([1, 8, rows], np.int64),
        "linear": weight(8, 24),
    }
    return nodes, constants, (1, rows, 24)


def test_attention_and_linear_layers(tmp_path):
    program = compare(graph(tmp_path, *attention()), (16, 16))
    assert [type(s).__name__ for s in program.steps].count("MatMul") == 2


@pytest.mark.parametrize(
    ("nodes", "constants", "y_shape"),
    [
        (
            [node("ReduceMean", ["x"], ["a"], axes=[2, 3], keepdims=0),
             node("Gemm", ["a", "w", "b"], ["y"], transB=1)],
            {"w": weight(5, 3), "b": weight(5)},
            (1, 5),
        ),
        (
            [node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 2], kernel_shape=[2, 2])],
            {"w": weight(3, 4, 2, 2), "b": weight(4)},
            (1, 4, 32, 32),
        ),
    ],
    ids=["mean and linear", "enlarging"],
)  # fmt: skip
def test_what_is_a_convolution_by_another_name(tmp_path, nodes, constants, y_shape):
    compare(graph(tmp_path, nodes, constants, y_shape), (16, 16))


def test_what_the_engine_lacks_is_named_with_another_engine(tmp_path):
    nodes = [node("Einsum", ["x", "x"], ["y"], name="odd one", equation="bchw,bchw->bchw")]
    path = graph(tmp_path, nodes, {}, (1, 3, 16, 16))
    with pytest.raises(ModelError, match=r"Einsum 'odd one'.*--engine tensorrt"):
        lower(read_static_graph(path, (16, 16)))


def test_no_onnx_file(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"bad\.onnx cannot be read"):
        read_static_graph(tmp_path / "bad.onnx", (16, 16))


@pytest.mark.parametrize(
    ("shape", "axes", "new"),
    [
        ((2, 3, 4), (0, 1, 2), (6, 4)),
        ((2, 3, 4), (0, 1, 2), (2, 12)),
        ((6, 4), (0, 1), (2, 3, 2, 2)),
        ((2, 3, 4), (0, 2, 1), (2, 2, 2, 3)),
        ((2, 3, 4), (0, 2, 1), (2, 12)),
        ((1, 4, 1), (0, 1, 2), (2, 1, 2)),
        ((2, 3, 4), (2, 1, 0), (12, 2)),
    ],
)
def test_a_reshaped_view_shows_what_numpy_shows_or_there_is_none(shape, axes, new):
    data = np.arange(np.prod(shape))
    view = View(0, shape, row_major(shape)).permuted(axes)
    wanted = data.reshape(shape).transpose(axes).reshape(new)
    found = view.reshaped(new)
    if found is None:
        assert not np.shares_memory(wanted, data)
    else:
        seen = np.lib.stride_tricks.as_strided(data, found.shape, [s * 8 for s in found.strides])
        assert (seen == wanted).all()


def test_hard_swish_is_an_activation_that_the_kernels_know(tmp_path):
    nodes = [node("Conv", ["x", "w"], ["a"]), node("HardSwish", ["a"], ["y"])]
    path = graph(tmp_path, nodes, {"w": weight(3, 3, 1, 1)}, (1, 3, 16, 16))
    (step,) = compare(path, (16, 16)).steps
    assert step.activation[0] in KINDS


def test_an_output_that_is_constant_is_given_like_any_other(tmp_path):
    nodes = [node("Identity", ["c"], ["y"])]
    compare(graph(tmp_path, nodes, {"c": weight(1, 2, 3, 4)}, (1, 2, 3, 4)), (16, 16))


def test_the_default_network_takes_the_same_steps_for_several_frames():
    model = default_model()
    one, three = (compare(model.weights, (320, 320), frames=n) for n in (1, 3))
    assert [type(s) for s in one.steps] == [type(s) for s in three.steps]
    assert [s.y.shape[1:] for s in one.steps] == [s.y.shape[1:] for s in three.steps]


def test_a_residual_from_a_part_of_the_channels_is_fused_for_several_frames_too(tmp_path):
    """The part lies with gaps between the frames."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Split", ["a"], ["b", "c"], axis=1),
        node("Conv", ["c", "v"], ["d"], pads=[1, 1, 1, 1]),
        node("Add", ["c", "d"], ["e"]),
        node("Concat", ["b", "e"], ["y"], axis=1),
    ]
    constants = {"w": weight(8, 3, 1, 1), "v": weight(4, 4, 3, 3)}
    path = graph(tmp_path, nodes, constants, ("n", 8, 16, 16), frames="n")
    kinds = [[type(s) for s in compare(path, (16, 16), frames=n).steps] for n in (1, 2)]
    assert kinds[0] == kinds[1] == [Conv, Conv, Unary]


@pytest.mark.parametrize(
    ("nodes", "y_shape"),
    [
        ([node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1] * 4)], (3, 16, 16)),
        ([node("GlobalAveragePool", ["x"], ["y"])], (3, 1, 1)),
        (
            [node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]), node("Sigmoid", ["t"], ["y"])],
            (16,) * 2 + (3,),
        ),
        ([node("SpaceToDepth", ["x"], ["y"], blocksize=2)], (12, 8, 8)),
        ([node("Softmax", ["x"], ["y"], axis=1)], (3, 16, 16)),
        ([node("Resize", ["x", "", "scales"], ["y"], mode="linear")], (3, 32, 32)),
    ],
    ids=lambda value: value[0].op_type if isinstance(value, list) else None,
)
def test_steps_over_several_frames(tmp_path, nodes, y_shape):
    constants = {"scales": np.array([1, 1, 2, 2], np.float32)} if "Resize" in str(nodes) else {}
    path = graph(tmp_path, nodes, constants, ("n", *y_shape), frames="n")
    program = compare(path, (16, 16), frames=3)
    assert program.outputs[0].shape == (3, *y_shape)
