"""A graph is recognised beyond doubt, or the error says what stands against it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from app.core.errors import ModelError
from app.models.families import FAMILY_NAMES, find_family
from app.models.importer import draft_model, read_graph
from app.models.manifest import SHELF_DIR, InputSpec, read_manifest
from tests.shelf_kit import CELLS, REAL, asset, rows, save_graph


def draft_spec(path, **options):
    return draft_model(path, **options).spec


NAMES = {"names": "{0: 'cat', 1: 'dog'}"}


@pytest.mark.parametrize("name", REAL)
def test_real_network_is_recognised_as_its_manifest_says(name):
    shipped = read_manifest(SHELF_DIR / f"{name}.toml").spec
    labels = shipped.labels if name == "light_person_192" else None
    size_wh = shipped.input.size_wh if name == "yunet_n_dynamic" else None
    found = draft_spec(asset(name), labels=labels, size_wh=size_wh)
    assert found.family == shipped.family
    assert found.labels == shipped.labels
    assert found.score == shipped.score
    assert found.parameters == shipped.parameters
    assert found.input.size_wh == shipped.input.size_wh
    assert found.input.channels == shipped.input.channels
    for field in ("scale", "mean", "std"):
        assert getattr(found.input, field) == pytest.approx(getattr(shipped.input, field))
    if found.input.resize == "letterbox":
        assert (found.input.align, found.input.pad) == (shipped.input.align, shipped.input.pad)


@pytest.mark.parametrize("name", REAL)
def test_shipped_manifest_fits_the_real_graph(name):
    shipped = read_manifest(SHELF_DIR / f"{name}.toml").spec
    (tensor,) = read_graph(asset(name)).inputs
    w, h = shipped.input.size_wh
    assert all(a in (None, b) for a, b in zip(tensor.shape, (1, 3, h, w), strict=True))


@pytest.mark.parametrize(
    ("family", "output"),
    [
        ("yolox", rows(CELLS, 2, box=1.0)[None]),
        ("yolov5", rows(3 * CELLS, 2)[None]),
        ("yolov8", rows(CELLS, 2, obj=False).T[None]),
    ],
)
def test_synthetic_yolo_takes_labels_and_size_from_the_exporters_notes(tmp_path, family, output):
    path = save_graph(tmp_path / "a.onnx", {"output0": output}, metadata=NAMES)
    spec = draft_spec(path)
    assert (spec.family, spec.labels) == (family, ("cat", "dog"))
    assert spec.input.size_wh == (64, 64)
    assert spec.input == InputSpec((64, 64), **find_family(family, {}).input)


def test_names_may_be_a_list(tmp_path):
    output = rows(3 * CELLS, 2)[None]
    path = save_graph(tmp_path / "a.onnx", {"o": output}, metadata={"names": "['a', 'b']"})
    assert draft_spec(path).labels == ("a", "b")


@pytest.mark.parametrize("note", ["{0: __import__('os')}", "{0: 1, 1: 2}", "{5: 'a'}", "(" * 300])
def test_unusable_names_are_as_none_at_all(tmp_path, note):
    path = save_graph(tmp_path / "a.onnx", {"o": rows(252, 2)[None]}, metadata={"names": note})
    with pytest.raises(ModelError, match="does not name its classes"):
        draft_spec(path)


def test_end_to_end_by_300_rows_or_by_names(tmp_path):
    boxes = np.zeros((1, 300, 6), np.float32)
    path = save_graph(tmp_path / "a.onnx", {"output0": boxes})
    assert draft_spec(path).labels[60] == "dining table"  # and it is told
    spec = draft_spec(path, labels=["a", "b", "c"])
    assert (spec.family, spec.parameters) == ("yolov8", {"end_to_end": True})
    path = save_graph(tmp_path / "b.onnx", {"output0": boxes[:, :100]}, metadata=NAMES)
    assert draft_spec(path).parameters == {"end_to_end": True}


def test_eighty_classes_are_cocos(tmp_path):
    path = save_graph(tmp_path / "a.onnx", {"o": rows(CELLS, 80, box=1.0)[None]})
    assert draft_spec(path).labels[60] == "dining table"


def test_dynamic_size_is_asked_for_or_noted(tmp_path):
    outputs, shape = {"o": rows(3 * CELLS, 2)[None]}, ("batch", 3, "height", "width")
    path = save_graph(tmp_path / "a.onnx", outputs, shape=shape, metadata=NAMES)
    with pytest.raises(ModelError, match=r"takes any size.*--size"):
        draft_spec(path)
    assert draft_spec(path, size_wh=(64, 64)).input.size_wh == (64, 64)
    noted = {"imgsz": "[32, 128]", **NAMES}
    path = save_graph(tmp_path / "b.onnx", outputs, shape=shape, metadata=noted)
    assert draft_spec(path).input.size_wh == (128, 32)


def test_size_that_contradicts_the_graph_is_refused(tmp_path):
    path = save_graph(tmp_path / "a.onnx", {"o": rows(CELLS, 2)[None]})
    with pytest.raises(ModelError, match="size 32x32 asked for, but the input is fixed"):
        draft_spec(path, size_wh=(32, 32))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 4, 64, 64), TensorProto.FLOAT),
        ((1, 3, 64, 64), TensorProto.INT32),
        ((1, 3, 64), TensorProto.FLOAT),
    ],
)
def test_other_inputs_are_refused(tmp_path, shape, dtype):
    path = save_graph(tmp_path / "a.onnx", {"o": rows(CELLS, 2)[None]}, shape=shape, dtype=dtype)
    with pytest.raises(ModelError, match=r"must have one (picture as its )?input"):
        draft_spec(path)


def test_no_detector_lists_its_outputs_and_the_families(tmp_path):
    path = save_graph(tmp_path / "a.onnx", {"depth": np.zeros((1, 1, 7, 9), np.float32)})
    with pytest.raises(ModelError, match=r"no detector I know.*depth \[1, 1, 7, 9\]") as fault:
        draft_spec(path)
    assert all(family in str(fault.value) for family in FAMILY_NAMES)


def test_families_that_fit_alike_are_a_doubt_unless_the_classes_tell(tmp_path):
    # [1, 84, 85] is YOLOX with 80 classes, decoded, and YOLOv8 with 81, turned
    output = rows(CELLS, 81, box=60.0, obj=False)
    output[:, :2] += 5
    path = save_graph(tmp_path / "a.onnx", {"o": output[None]})
    assert draft_spec(path).family == "yolov5"
    labels = [f"c{i}" for i in range(81)]
    assert draft_spec(path, labels=labels).family == "rows"


@pytest.mark.parametrize("task", ["semantic", "depth"])
def test_other_tasks_are_refused(tmp_path, task):
    output = rows(CELLS, 52, obj=False).T[None]
    path = save_graph(tmp_path / "a.onnx", {"o": output}, metadata={"task": task})
    with pytest.raises(ModelError, match=f"task '{task}'; only detect, segment, pose"):
        draft_spec(path)


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ({"o": rows(252, 2, box=0.5)[None]}, "not in pixels"),
        ({"o": rows(CELLS, 2, box=0.5, obj=False).T[None]}, "not in pixels"),
        ({"o": rows(CELLS, 2, box=1.0, score=-3.0)[None]}, "sigmoid"),
        ({"o": rows(252, 2, score=np.nan)[None]}, "sigmoid"),
    ],
)
def test_right_shapes_with_wrong_values_are_refused(tmp_path, outputs, why):
    path = save_graph(tmp_path / "a.onnx", outputs, metadata=NAMES)
    with pytest.raises(ModelError, match=why):
        draft_spec(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "damaged or no ONNX file"),
        (b"<html>", "damaged or no ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
    ],
)
def test_what_is_no_onnx_is_told_in_one_line(tmp_path, content, told, capfd):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=told) as fault:
        read_graph(path)
    assert "\n" not in str(fault.value)
    assert capfd.readouterr() == ("", "")


def test_a_cut_off_network_is_told(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(asset("yolox_nano_416").read_bytes()[:-1000])
    with pytest.raises(ModelError, match="damaged"):
        read_graph(path)


def test_weights_in_a_second_file_are_told(tmp_path):
    whole = onnx.load(save_graph(tmp_path / "a.onnx", {"o": rows(252, 2)[None]}))
    onnx.save(
        whole,
        str(tmp_path / "b.onnx"),
        save_as_external_data=True,
        convert_attribute=True,
        location="b.data",
        size_threshold=0,
    )
    (tmp_path / "b.data").unlink()
    with pytest.raises(ModelError, match="second file"):
        read_graph(tmp_path / "b.onnx")
