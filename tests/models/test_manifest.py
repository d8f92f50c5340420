"""Manifests: written, read back, and those the project ships."""

import dataclasses
import re
from typing import get_args

import pytest
from hypothesis import given, strategies as st

from app.core.errors import ModelError
from app.core.letterbox import Align, Resize
from app.models.families import FAMILY_NAMES, decoder_keys
from app.models.manifest import (
    SHELF_DIR,
    InputSpec,
    ModelSpec,
    format_manifest,
    parse_manifest,
    parse_toml,
    read_labels,
    read_manifest,
)
from tests.shelf_kit import REAL, put_on_shelf

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TRIPLES = st.tuples(NUMBERS, NUMBERS, NUMBERS)
UNIT = st.floats(0, 1)
SIDES = st.integers(1, 8192)
LEAVES = TEXTS | st.booleans() | st.integers() | NUMBERS
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(TEXTS, v), max_leaves=5)
TABLES = st.dictionaries(TEXTS, VALUES, max_size=4)
GOOD = {
    "strides": st.lists(st.integers(1, 512), min_size=1, max_size=5, unique=True).map(sorted),
    "reg_max": st.integers(1, 64),
    "end_to_end": st.booleans(),
}
INPUTS = st.builds(
    InputSpec,
    size_wh=st.tuples(SIDES, SIDES),
    channels=st.sampled_from(("BGR", "RGB")),
    scale=NUMBERS,
    mean=TRIPLES,
    std=TRIPLES.filter(all),
    resize=st.sampled_from(get_args(Resize)),
    align=st.sampled_from(get_args(Align)),
    pad=st.integers(0, 255),
    fit=st.just(0),
)
DECODERS = st.sampled_from(FAMILY_NAMES).flatmap(
    lambda family: st.fixed_dictionaries(
        {"family": st.just(family)},
        optional={
            "parameters": st.fixed_dictionaries(
                {},
                optional={
                    k: GOOD.get(k, st.just(p.default)) for k, p in decoder_keys(family).items()
                },
            )
        },
    )
)
SPECS = st.builds(
    lambda decoder, **rest: ModelSpec(**decoder, **rest),
    DECODERS,
    name=st.just("a"),
    file=st.from_regex(r"[a-z0-9_-]+\.onnx", fullmatch=True),
    input=INPUTS,
    labels=st.lists(TEXTS, min_size=1, max_size=5).map(tuple),
    sha256=st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    url=st.none() | TEXTS.filter(bool),
    licence=TEXTS,
    provenance=TEXTS,
    description=TEXTS,
    default=st.booleans(),
    score=UNIT,
    iou=UNIT,
    accuracy=TABLES,
)


@given(SPECS)
def test_a_written_manifest_reads_back_the_same(spec):
    assert parse_manifest(parse_toml(format_manifest(spec)), name="a", where="a.toml") == spec


def test_what_toml_cannot_hold_is_not_written():
    spec = read_manifest(SHELF_DIR / "fastestdet_352.toml").spec
    with pytest.raises(TypeError):
        format_manifest(dataclasses.replace(spec, accuracy={"ap": None}))


SHIPPED = {**REAL, "picodet_s_416": ("distances", 80)}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_manifests_name_their_family_source_and_licence(name):
    spec = read_manifest(SHELF_DIR / f"{name}.toml").spec
    assert (spec.family, len(spec.labels)) == SHIPPED[name]
    assert spec.file == f"{name}.onnx"
    assert re.fullmatch(r"https://github\.com/[^/]+/[^/]+/raw/[0-9a-f]{40}/.+\.onnx", spec.url)
    assert spec.sha256
    assert spec.licence in ("Apache-2.0", "BSD-3-Clause", "MIT")
    assert spec.provenance
    assert spec.description


ROWS, ONE = [(1, 300, 80), (1, 300, 4)], [(1, 3598, 112)]
PICO = [(1, n, c) for c in (80, 32) for n in (2704, 676, 169, 49)]
UNTRIED = {  # the shapes of outputs, as those who ran them tell
    "damo_yolo_nm_416": [(1, 3549, 80), (1, 3549, 4)],
    "dfine_n_640": ROWS,
    "dfine_s_640": ROWS,
    "nanodet_plus_m_15x_416": ONE,
    "nanodet_plus_m_416": ONE,
    "picodet_l_416": PICO,
    "rfdetr_nano_384": [(1, 300, 91), (1, 300, 4)],
    "rtmdet_tiny_640": [(1, 8400, 84)],
    "yolox_s_640": [(1, 8400, 85)],
    "yolox_tiny_416": [(1, 3549, 85)],
}


@pytest.mark.parametrize("name", UNTRIED)
def test_manifests_of_models_that_nobody_ran_read_the_outputs_that_are_told(name):
    spec = read_manifest(SHELF_DIR / f"{name}.toml").spec
    spec.decoder(UNTRIED[name])
    assert spec.untried and spec.url.startswith("https://") and spec.provenance
    assert spec.licence == "Apache-2.0" and 0.3 < spec.accuracy["coco_ap"] < 0.5
    assert spec.sha256 or "checksum" in spec.description


def test_every_shipped_manifest_is_in_the_shelfs_readme():
    readme = (SHELF_DIR / "README.md").read_text("utf-8")
    shipped = {path.stem for path in SHELF_DIR.glob("*.toml")}
    assert {name for name in shipped if f"`{name}`" not in readme} == set()


def test_coco_labels_are_in_cocos_order():
    labels = read_labels(SHELF_DIR / "coco80.txt")
    assert len(labels) == len(set(labels)) == 80
    assert [labels[i] for i in (0, 2, 15, 16, 60, 79)] == [
        "person",
        "car",
        "cat",
        "dog",
        "dining table",
        "toothbrush",
    ]


def test_labels_are_read_from_the_file_beside(tmp_path):
    manifest = put_on_shelf(tmp_path, "a")
    manifest.write_text(manifest.read_text().replace('["person"]', '"two.txt"'))
    (tmp_path / "two.txt").write_text("traffic light\r\n dog \n\n", newline="")
    assert read_manifest(manifest).spec.labels == ("traffic light", "dog")


@pytest.mark.parametrize(
    ("labels", "told"),
    [('"gone.txt"', "gone.txt"), ('"../x.txt"', "beside"), ('"blank.txt"', "line 2")],
)
def test_fault_in_the_label_file_names_manifest_and_key(tmp_path, labels, told):
    (tmp_path / "blank.txt").write_text("a\n\nb\n")
    manifest = put_on_shelf(tmp_path, "a")
    manifest.write_text(manifest.read_text().replace('["person"]', labels))
    with pytest.raises(ModelError, match=told) as fault:
        read_manifest(manifest)
    assert f"{manifest}: `labels`" in str(fault.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"file = ", "no TOML"), (b"file = '\xff'", "no TOML"), (None, "cannot be read")],
)
def test_unreadable_manifest_is_one_line_with_its_path(tmp_path, content, told):
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=told) as fault:
        read_manifest(path)
    assert str(path) in str(fault.value)
