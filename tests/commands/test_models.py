"""`models list|info|fetch|add`, as the command line calls them."""

import argparse

import pytest

from app.commands.models import register
from app.core.errors import ConfigError, ModelError
from app.models.manifest import SHELF_DIR, read_manifest
from app.models.store import MIRROR_ENV, find_model
from tests.shelf_kit import asset, put_on_shelf, rows, save_graph

NAMES = {"names": "{0: 'cat', 1: 'dog'}"}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.delenv(MIRROR_ENV, raising=False)
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    return shelf


@pytest.fixture
def models(shelf):
    """Runs `models …` on the temporary shelf."""
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers().add_parser("models"), shelf_dir=shelf)

    def run(*words):
        args = parser.parse_args(["models", *map(str, words)])
        return args.func(args)

    return run


@pytest.fixture
def yolov5(tmp_path):
    return save_graph(tmp_path / "mine.onnx", {"o": rows(252, 2)[None]}, metadata=NAMES)


def test_list_is_a_table_that_marks_the_default(models, shelf, capsys):
    put_on_shelf(shelf, "a", default=True, url="https://there.example/a.onnx")
    put_on_shelf(shelf, "bee")
    (shelf / "bee.onnx").write_bytes(b"x" * 2_500_000)
    assert models("list") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["NAME", "FAMILY", "INPUT", "CLASSES", "SIZE", "COCO", "AP", "WEIGHTS", "LICENCE"],
        ["a", "*", "yolox", "64x64", "person", "-", "-", "to", "be", "fetched", "-"],
        ["bee", "yolox", "64x64", "person", "2.5", "MB", "-", "here", "-"],
    ]


def test_list_tells_size_accuracy_and_what_cannot_run_here(models, shelf, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    url, facts = "https://there.example/a.onnx", "untried = true\nsize_bytes = {}\nlabels"
    for name, size in (("huge", 10**12), ("small", 10**6)):
        manifest = put_on_shelf(shelf, name, url=url)
        text = manifest.read_text().replace("labels", facts.format(size), 1)
        manifest.write_text(text + "[accuracy]\ncoco_ap = 0.42\n")
    put_on_shelf(shelf, "lost")
    assert models("list") == 0
    _, huge, lost, small = capsys.readouterr().out.splitlines()
    assert "memory" in huge and huge.startswith("\x1b[2m")
    assert "missing" in lost and lost.startswith("\x1b[2m")
    assert "1.0 MB" in small and "0.42" in small and "not run" in small and "\x1b" not in small


def test_add_then_info_then_find(models, shelf, yolov5, capsys):
    assert models("add", yolov5, "--licence", "mine alone", "--provenance", 'made "here"') == 0
    assert "mine: yolov5 (YOLOv5 or YOLOv7) at 64x64; cat, dog" in capsys.readouterr().out
    assert models("info", "mine") == 0
    out = capsys.readouterr().out
    for told in (
        "sha256 is right",
        "mine alone",
        'made "here"',
        "input       64x64 RGB, pixel * 0.00392157",
        "letterbox, center, pad 114",
        "labels      2: cat, dog",
        "inputs      images [1, 3, 64, 64]",
        "outputs     o [1, 252, 7]",
    ):
        assert told in out
    model = find_model("mine", shelf_dir=shelf)
    assert model.weights == shelf / "mine.onnx"
    assert model.weights.read_bytes() == yolov5.read_bytes()
    assert sorted(p.name for p in shelf.iterdir()) == ["mine.onnx", "mine.toml"]


def test_add_takes_every_option(models, shelf, yolov5, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    words = (
        f"--family yolov5 --labels {labels} --name other --size 64x64 --channels BGR --scale 0.5 "
        "--mean 1,2,3 --std 4,5,6 --resize letterbox --align top-left --pad 7 --score 0.2 --iou 0.3"
    )
    models("add", yolov5, *words.split())
    spec = read_manifest(shelf / "other.toml").spec
    assert spec.labels == ("one", "two")
    assert (spec.input.channels, spec.input.scale, spec.input.pad) == ("BGR", 0.5, 7)
    assert (spec.input.mean, spec.input.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert (spec.input.resize, spec.input.align) == ("letterbox", "top-left")
    assert (spec.score, spec.iou) == (0.2, 0.3)


def test_add_replaces_only_with_force(models, shelf, yolov5):
    models("add", yolov5)
    with pytest.raises(ConfigError, match=r"mine\.toml exists.*--force"):
        models("add", yolov5, "--labels", "x,y")
    assert read_manifest(shelf / "mine.toml").spec.labels == ("cat", "dog")
    models("add", yolov5, "--labels", "x,y", "--force")
    assert read_manifest(shelf / "mine.toml").spec.labels == ("x", "y")


def test_add_of_weights_that_lie_on_the_shelf_already(models, shelf, yolov5):
    weights = yolov5.rename(shelf / "mine.onnx")
    models("add", weights)
    assert find_model("mine", shelf_dir=shelf).weights == weights


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--family", "yolox"], "is yolov5 by its outputs, not yolox"),
        (["--labels", "one"], "classes in the graph: 2, labels given: 1"),
        (["--size", "32x32"], "the input is fixed"),
        (["--name", "../evil"], "is no name for a model"),
    ],
)
def test_add_refuses_and_leaves_nothing_behind(models, shelf, yolov5, words, told):
    with pytest.raises((ModelError, ConfigError), match=told):
        models("add", yolov5, *words)
    assert list(shelf.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--size", "64"],
        ["--size", "0x64"],
        ["--size", "64x8193"],
        ["--mean", "1,2"],
        ["--mean", "1,2,nan"],
        ["--std", "1,0,1"],
        ["--scale", "inf"],
        ["--score", "5"],
        ["--iou", "-1"],
        ["--iou", "nan"],
        ["--pad", "999"],
        ["--pad", "-1"],
        ["--labels", "gone.txt"],
    ],
)
def test_options_that_cannot_be_read_are_usage_errors(models, yolov5, words, capsys):
    with pytest.raises(SystemExit) as end:
        models("add", yolov5, *words)
    assert end.value.code == 2
    assert words[1] in capsys.readouterr().err


def test_add_of_a_missing_file_is_told(models, tmp_path):
    with pytest.raises(ModelError, match=r"cannot read .*gone\.onnx"):
        models("add", tmp_path / "gone.onnx")


def test_add_of_a_real_network(models, shelf):
    models("add", asset("yunet_n_dynamic"), "--family", "yunet", "--size", "320x256")
    spec = find_model("yunet_n_dynamic", shelf_dir=shelf).spec
    assert (spec.input.size_wh, spec.labels) == ((320, 256), ("face",))


def test_add_of_a_network_that_takes_any_size(models, shelf, capsys):
    weights = SHELF_DIR / "kestrel.onnx"
    words = ("--labels", SHELF_DIR / "coco80_face.txt", "--size", "256x256")
    assert models("add", weights, "--name", "own", *words, "--fit", "32") == 0
    assert "own: yolox at 256x256 or less by 32; 81 classes" in capsys.readouterr().out
    assert find_model("own", shelf_dir=shelf).spec.input.fit == 32
    assert models("info", "own") == 0
    assert "256x256 or less by 32" in capsys.readouterr().out


def test_add_refuses_to_cut_what_cannot_be_cut(models, shelf, yolov5):
    with pytest.raises(ModelError, match=r"`input\.fit`.*must be a multiple"):
        models("add", yolov5, "--fit", "48")
    with pytest.raises(ModelError, match="remove `fit`"):
        models("add", yolov5, "--fit", "32")
    assert not list(shelf.iterdir())


def test_info_of_missing_and_of_wrong_weights(models, shelf, capsys):
    manifest = put_on_shelf(shelf, "a", b"right")
    assert models("info", "a") == 0
    assert f"missing: `python -m app models fetch {manifest}`" in capsys.readouterr().out
    (shelf / "a.onnx").write_bytes(b"wrong")
    assert models("info", "a") == ModelError.exit_code
    assert "its sha256 is" in capsys.readouterr().out


def test_info_of_a_bare_file(models, yolov5, capsys):
    assert models("info", yolov5) == 0
    assert "none: recognised from the graph" in capsys.readouterr().out


def test_fetch_goes_on_after_a_fault(models, shelf, tmp_path, monkeypatch, capsys):
    for name in ("a", "b", "c"):
        put_on_shelf(shelf, name, name.encode())
        (tmp_path / f"{name}.onnx").write_bytes(name.encode())
    monkeypatch.setenv(MIRROR_ENV, str(tmp_path))
    (tmp_path / "a.onnx").write_bytes(b"wrong")
    (tmp_path / "b.onnx").unlink()
    with pytest.raises(ModelError, match=r"^b: .*b\.onnx is not there"):
        models("fetch", "--all")
    out, err = capsys.readouterr()
    assert "c.onnx is here and right" in out
    assert err.startswith("a: ")
    assert models("fetch", "c") == 0


@pytest.mark.parametrize("words", [[], ["--all", "a"]])
def test_fetch_needs_names_or_all(models, words):
    with pytest.raises(ConfigError, match="--all"):
        models("fetch", *words)


def test_fetch_of_a_bare_file_is_told(models, yolov5):
    with pytest.raises(ConfigError, match="no manifest"):
        models("fetch", yolov5)
