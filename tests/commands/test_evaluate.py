"""`models evaluate`: figures, the gate and the default."""

import json
from functools import partial

import pytest

from app.core.errors import ConfigError, VerdictError
from app.inference.onnxruntime import OrtNetwork
from app.models.store import default_model, find_model, list_models
from tests.blob_detector import save_blob_detector, save_labelled_set
from tests.commands.blob_shelf import models, shelf  # noqa: F401


@pytest.fixture
def labelled(tmp_path):
    return save_labelled_set(tmp_path / "set")


@pytest.fixture
def evaluate(models):
    return partial(models, "evaluate")


def test_a_good_detector_has_full_marks_by_part_and_size(evaluate, labelled, tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert evaluate("blob", "--data", labelled, "--part", "odd=b", "--json", out) == 0
    document = json.loads(out.read_text())
    (model,) = document["models"]
    assert set(model["parts"]) == {"all", "odd"}
    everything, odd = (model["parts"][p]["square"] for p in ("all", "odd"))
    assert (everything["boxes"], odd["boxes"]) == (12, 8)
    assert everything["ap50"] == pytest.approx(1.0)
    assert everything["small"] == pytest.approx(1.0)
    assert everything["large"] is None
    assert model["mean_ap50"]["all"] == pytest.approx(1.0)
    trusted = model["trust"]["all"]["square"]
    assert trusted["own"][1:] == pytest.approx((1.0, 1.0)), "precision and recall"
    assert trusted["false_share"] in (None, 0.0)
    assert model["network_ms_p50"] > 0
    assert document["device"]["cpu"]
    shown = capsys.readouterr().out
    assert "AP50" in shown
    assert "one CPU thread" in shown


def test_a_variant_that_lost_too_much_is_refused(evaluate, shelf, labelled, tmp_path):
    save_blob_detector(shelf, "blind", gain=0, parent="blob")
    out = tmp_path / "figures.json"
    with pytest.raises(VerdictError, match=r"blind loses .* AP50 points of square .* blob") as e:
        evaluate("blind", "--data", labelled, "--make-default", "--json", out)
    assert e.value.exit_code == 6
    assert not any(m.spec.default for m in list_models(shelf_dir=shelf))
    document = json.loads(out.read_text())
    assert [m["name"] for m in document["models"]] == ["blind", "blob"]
    assert document["gate"]["faults"]


def test_another_engine_is_judged_against_the_first(evaluate, labelled, tmp_path, monkeypatch):
    """The other engine is ONNX Runtime with a blind network in place of the one it is given."""

    def network(engine, precision):
        blind = save_blob_detector(tmp_path, "blind", gain=0).with_suffix(".onnx")
        opener = OrtNetwork if engine == "cpu" else lambda spec, _, *a: OrtNetwork(spec, blind, *a)
        return opener, engine

    monkeypatch.setattr("app.runtime.engines._cpu_network", network)
    out = tmp_path / "figures.json"
    with pytest.raises(
        VerdictError, match=r"blob on openvino:bf16 loses .* square .* against blob"
    ):
        evaluate("blob", "--on", "cpu", "openvino:bf16", "--data", labelled, "--json", out)
    document = json.loads(out.read_text())
    told = [(m["name"], m["engine"], m["precision"]) for m in document["models"]]
    assert told == [("blob", "cpu", "auto"), ("blob", "openvino", "bf16")]
    assert document["command"].endswith("--on cpu openvino:bf16")


def test_slices_are_measured_beside_the_whole_frame(evaluate, labelled, tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert evaluate("blob", "--data", labelled, "--slices", "2x2", "--json", out) == 0
    plain, sliced = json.loads(out.read_text())["models"]
    assert (plain["slices"], sliced["slices"]) == (None, "2x2")
    assert sliced["frame_ms_p50"] > plain["frame_ms_p50"]
    assert "blob, 2x2: small square" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="slices"):
        evaluate("blob", "--data", labelled, "--slices", "many")


@pytest.mark.parametrize("way", ["cuda", "openvino:fp64"])
def test_an_engine_that_is_none_is_refused(evaluate, labelled, way, capsys):
    with pytest.raises(SystemExit):
        evaluate("blob", "--on", way, "--data", labelled)
    assert f"'{way}': write cpu, openvino or openvino:bf16" in capsys.readouterr().err


def test_a_precision_that_the_engine_lacks_is_refused(evaluate, labelled):
    with pytest.raises(ConfigError, match="precision bf16: --engine cpu computes as the model"):
        evaluate("blob", "--on", "cpu:bf16", "--data", labelled)


def test_a_default_is_judged_on_the_engine_that_all_have(evaluate, labelled):
    with pytest.raises(ConfigError, match="--make-default goes without --on"):
        evaluate("blob", "--on", "openvino", "--data", labelled, "--make-default")


def test_a_variant_that_keeps_up_becomes_the_only_default(evaluate, shelf, labelled):
    save_blob_detector(shelf, "old")
    manifest = shelf / "old.toml"
    manifest.write_text("default = true\n" + manifest.read_text())
    save_blob_detector(shelf, "twin", parent="blob")
    assert evaluate("twin", "--data", labelled, "--make-default") == 0
    assert [m.spec.name for m in list_models(shelf_dir=shelf) if m.spec.default] == ["twin"]
    assert default_model(shelf_dir=shelf).spec.name == "twin"
    assert find_model("twin", shelf_dir=shelf).spec.parent == "blob"


def test_a_parent_that_is_not_there_is_told(evaluate, shelf, labelled):
    save_blob_detector(shelf, "orphan", parent="gone")
    with pytest.raises(Exception, match="no model 'gone'"):
        evaluate("orphan", "--data", labelled)


def test_a_model_outside_the_shelf_cannot_become_the_default(evaluate, labelled, tmp_path):
    file = save_blob_detector(tmp_path, "mine")
    with pytest.raises(ConfigError, match="is not on the shelf"):
        evaluate(file, "--data", labelled, "--make-default")


def test_default_goes_with_one_model(evaluate, labelled):
    with pytest.raises(ConfigError, match="one model"):
        evaluate("blob", "blob", "--data", labelled, "--make-default")


def test_a_set_of_other_classes_is_told(evaluate, labelled):
    file = labelled / "val.json"
    file.write_text(file.read_text().replace('"square"', '"circle"'))
    with pytest.raises(ConfigError, match="finds square, the set labels circle"):
        evaluate("blob", "--data", file)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "no COCO annotation file"),
        ("[]", "no COCO annotation file"),
        ('{"images": []}', "no COCO annotation file"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
    ],
)
def test_a_bad_annotation_file_is_told(evaluate, tmp_path, content, told):
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=told):
        evaluate("blob", "--data", file)


def test_a_folder_without_annotations_is_told(evaluate, tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*val\.json"):
        evaluate("blob", "--data", tmp_path)


def test_a_missing_picture_is_named(evaluate, labelled):
    (labelled / "images" / "3.png").unlink()
    with pytest.raises(ConfigError, match=r"3\.png is missing"):
        evaluate("blob", "--data", labelled)


def test_an_unknown_part_is_told(evaluate, labelled):
    with pytest.raises(ConfigError, match=r"no image of .* is of z"):
        evaluate("blob", "--data", labelled, "--part", "x=z")
    with pytest.raises(SystemExit):
        evaluate("blob", "--data", labelled, "--part", "x")


def test_figures_cannot_go_to_a_folder_that_is_not_there(evaluate, labelled, tmp_path):
    with pytest.raises(ConfigError, match="make it first"):
        evaluate("blob", "--data", labelled, "--json", tmp_path / "no" / "x.json")
