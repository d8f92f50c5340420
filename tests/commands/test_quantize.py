"""`models quantize`: the variant on the shelf, and what is refused."""

from functools import partial

import cv2
import numpy as np
import pytest

from app.commands.models import draw_frames
from app.core.errors import ConfigError
from app.models.store import find_model
from tests.blob_detector import save_labelled_set
from tests.commands.blob_shelf import models, shelf  # noqa: F401


@pytest.fixture
def quantize(models):
    return partial(models, "quantize")


def test_int8_writes_a_variant_that_names_its_parent(quantize, shelf, tmp_path, capsys):
    pictures = save_labelled_set(tmp_path / "set") / "images"
    assert quantize("blob", "--calibrate", pictures, "--frames", 5) == 0
    model = find_model("blob_int8", shelf_dir=shelf)
    assert (model.spec.parent, model.spec.default, model.spec.labels) == (
        "blob",
        False,
        ("square",),
    )
    assert model.spec.input == find_model("blob", shelf_dir=shelf).spec.input
    assert "--to int8 --for cpu --method minmax --frames 5" in model.spec.provenance
    out = capsys.readouterr().out
    assert "calibrating with 5 frames" in out
    assert "models evaluate" in out


@pytest.mark.parametrize(("to", "name"), [("fp16", "blob_fp16"), ("fp16-weights", "blob_half")])
def test_half_precision_needs_no_calibration(quantize, shelf, to, name):
    assert quantize("blob", "--to", to) == 0
    assert find_model(name, shelf_dir=shelf).spec.parent == "blob"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--to", "int8"), "int8 needs --calibrate"),
        (("--to", "fp16", "--calibrate", "x"), "fp16 needs no --calibrate"),
        (("--to", "fp16", "--for", "gpu"), "--for gpu goes with --to int8 only"),
        (("--calibrate", "pattern:", "--frames", "0"), "--frames is 0"),
        (("--calibrate", "camera:0"), "does not end"),
    ],
)
def test_what_makes_no_sense_is_refused(quantize, words, told):
    with pytest.raises(ConfigError, match=told):
        quantize("blob", *words)


def test_an_existing_variant_is_not_replaced_unasked(quantize):
    quantize("blob", "--to", "fp16")
    with pytest.raises(ConfigError, match="--force"):
        quantize("blob", "--to", "fp16")
    assert quantize("blob", "--to", "fp16", "--force") == 0


def test_frames_are_drawn_from_the_whole_recording_and_always_the_same(tmp_path):
    for i in range(40):
        cv2.imwrite(str(tmp_path / f"{i:02}.png"), np.full((8, 8, 3), i, np.uint8))
    first, second = (
        [int(f.pixels[0, 0, 0]) for f in draw_frames(str(tmp_path), 10)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == 10
    assert max(first) >= 20
    assert len(draw_frames(str(tmp_path), 100)) == 40
