"""A name or a path finds its model, or the error says what there is and what to do."""

import logging
import shutil

import pytest

from app.core.errors import ModelError
from app.models.manifest import SHELF_DIR
from app.models.store import MIRROR_ENV, default_model, find_model, list_models
from tests.shelf_kit import ASSETS, REAL, asset, put_on_shelf, rows, save_graph

CONTENT = b"weights"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv(MIRROR_ENV, str(mirror))
    return mirror


@pytest.fixture
def shelf(tmp_path, mirror):
    """Two models whose weights lie in the mirror."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name in ("yolox_nano_416", "fastestdet_352"):
        put_on_shelf(shelf, name, CONTENT)
        (mirror / f"{name}.onnx").write_bytes(CONTENT)
    return shelf


def test_name_is_found_and_missing_weights_are_fetched_with_one_log_line(shelf, caplog):
    caplog.set_level(logging.INFO)
    model = find_model("fastestdet_352", shelf_dir=shelf)
    assert model.spec.name == "fastestdet_352"
    assert model.manifest == shelf / "fastestdet_352.toml"
    assert model.weights.read_bytes() == CONTENT
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert "models fetch" in caplog.text
    find_model("fastestdet_352", shelf_dir=shelf)
    assert len(caplog.records) == 1


def test_unknown_name_lists_what_there_is_and_close_matches(shelf):
    with pytest.raises(ModelError, match=r"Did you mean yolox_nano_416\? There are: fast") as fault:
        find_model("yolox_nano", shelf_dir=shelf)
    assert fault.value.exit_code == 4


def test_empty_shelf_says_so(tmp_path):
    with pytest.raises(ModelError, match=r"There are: none.*models add"):
        find_model("anything", shelf_dir=tmp_path / "nowhere")


def test_wrong_weights_name_both_hashes_and_the_cure(shelf):
    (shelf / "fastestdet_352.onnx").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"sha256 is \w{64}, not \w{64}.*models fetch"):
        find_model("fastestdet_352", shelf_dir=shelf)


def test_path_of_a_manifest(shelf, tmp_path):
    model = find_model(str(shelf / "fastestdet_352.toml"), shelf_dir=tmp_path)
    assert model.weights == shelf / "fastestdet_352.onnx"


def test_path_of_weights_with_a_manifest_beside_them(shelf, tmp_path):
    model = find_model(str(shelf / "fastestdet_352.onnx"), shelf_dir=tmp_path)
    assert model.manifest == shelf / "fastestdet_352.toml"
    assert model.weights.read_bytes() == CONTENT


def test_manifest_beside_that_means_another_file_is_refused(shelf):
    (shelf / "fastestdet_352.toml").rename(shelf / "b.toml")
    with pytest.raises(ModelError, match=r"`file`.*fastestdet_352\.onnx"):
        find_model(str(shelf / "b.onnx"), shelf_dir=shelf)


def test_bare_onnx_is_recognised(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    metadata = {"names": "{0: 'cat', 1: 'dog'}"}
    path = save_graph(tmp_path / "mine.onnx", {"o": rows(252, 2)[None]}, metadata=metadata)
    model = find_model(str(path), shelf_dir=tmp_path)
    assert (model.spec.name, model.spec.family) == ("mine", "yolov5")
    assert (model.weights, model.manifest) == (path, None)
    assert "recognised as yolov5 (YOLOv5 or YOLOv7) at 64x64, RGB" in caplog.text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gone.onnx", "is not there: check the path"),
        ("gone.toml", "cannot be read"),
        ("fastestdet_352.onnx", "--model fastestdet_352"),
        ("best.pt", "no ONNX file: export it"),
        ("some/folder", "no model 'some/folder'"),
        ("", "no model ''"),
    ],
)
def test_path_that_leads_nowhere(shelf, monkeypatch, tmp_path, name, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=told):
        find_model(name, shelf_dir=shelf)


def test_a_broken_manifest_is_told_and_left_out(shelf, caplog):
    (shelf / "a.toml").write_text("file = 1")
    assert [m.spec.name for m in list_models(shelf_dir=shelf)] == [
        "fastestdet_352",
        "yolox_nano_416",
    ]
    assert "a.toml" in caplog.text


def test_default_is_the_manifest_that_says_so(shelf, mirror):
    put_on_shelf(shelf, "zebra", CONTENT, default=True)
    (mirror / "zebra.onnx").write_bytes(CONTENT)
    assert default_model(shelf_dir=shelf).spec.name == "zebra"


def test_a_shelf_without_default_tells_what_to_do(shelf, tmp_path):
    for place in (shelf, tmp_path):
        with pytest.raises(ModelError, match=r"says `default = true`.*--model.*models add"):
            default_model(shelf_dir=place)


@pytest.mark.parametrize("name", REAL)
def test_shipped_manifest_finds_the_real_weights(name, tmp_path, monkeypatch):
    asset(name)
    for file in SHELF_DIR.glob("*.t*"):
        shutil.copy(file, tmp_path)
    monkeypatch.setenv(MIRROR_ENV, str(ASSETS))
    assert find_model(name, shelf_dir=tmp_path).weights.is_file()
