"""From a run with a store to lists, exports that one can train with, and a report."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.commands.cli import main
from app.config import EventOptions, StoreOptions
from app.core.stats import OutputMeter
from app.sinks.snapshots import SnapshotSink, box_of
from app.sinks.store import EventStore
from tests.sinks.kit import CAMERA, LABELS, event, found, result, textured

NAME = "20260131T120004_01KG9V8Q7N7Z1WRR0000000002_best.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a white object on a frame, whose picture is a crop of 120 by 96 pixels."""
    made = tmp_path / "store"
    folders = {"snapshot": made / "snapshots", "clip": made / "clips"}
    store = EventStore(StoreOptions(path=str(made)), OutputMeter("store"), folders=folders)
    store.start()
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[60:140, 100:200] = 255
    boxes = replace(found((0, 0.9, 100, 60, 200, 140)), track_ids=np.array([1], np.int64))
    events = [event("appear", snapshot=NAME), event("enter", zone="door", snapshot=NAME)]
    told = replace(result(0, boxes, pixels), events=events)
    pictures = SnapshotSink(
        EventOptions(snapshots=str(made / "snapshots")), OutputMeter("s"), waits=True
    )
    for sink in (store.sink("", "x"), pictures):
        sink.open(CAMERA, LABELS)
        sink.emit(told)
        sink.close()
    store.offer("camera:0", [event("gone", 2, label="=dog")])
    store.stop()
    return made


def test_list_and_show(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["events", "list", "--store", str(folder)]
    assert main([*words, "--json", "--zone", "door"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    one = json.loads(line)
    assert one["zone"] == "door"
    assert main([*words, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["type"] for row in rows] == ["gone", "enter", "appear"]
    assert rows[0]["label"] == "'=dog", "no formula in a spreadsheet"
    assert main([*words, "--since", "2026-02-01"]) == 0 and not capsys.readouterr().out
    assert main(["events", "show", one["id"], "--store", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["files"]["snapshot"].endswith(NAME)
    assert main(["events", "show", "none", "--store", str(folder)]) == 2
    assert main([*words[:2], "--store", str(folder / "clips")]) == 2


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_exported_boxes_are_where_the_object_is(folder: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / kind
    words = ["events", "export", str(out), "--store", str(folder), "--format", kind]
    assert main(words) == 0
    (picture,) = (out / "images").iterdir()
    pixels = cv2.imread(str(picture))
    assert pixels is not None
    height, width = pixels.shape[:2]
    if kind == "coco":
        told = json.loads((out / "annotations.json").read_text())
        x, y, w, h = told["annotations"][0]["bbox"]
        assert told["categories"] == [{"id": 1, "name": "person"}]
    else:
        (text,) = [path.read_text() for path in (out / "labels").iterdir()]
        number, cx, cy, w, h = map(float, text.split())
        w, h = w * width, h * height
        x, y = cx * width - w / 2, cy * height - h / 2
        assert number == 0 and '0: "person"' in (out / "data.yaml").read_text()
    rows, columns = np.nonzero(pixels[..., 0] > 128)
    right, bottom = columns.max() + 1, rows.max() + 1
    truth = (columns.min(), rows.min(), right - columns.min(), bottom - rows.min())
    assert (x, y, w, h) == pytest.approx(truth, abs=2)
    assert main(words) == 2, "what is there already stays"


def test_a_picture_without_a_box_has_none() -> None:
    jpeg = cv2.imencode(".jpg", textured(1))[1].tobytes()
    assert box_of(jpeg) is None
    assert box_of(b"\xff\xd8\xff\xfe\x00\x04[]") is None and box_of(b"") is None


def test_a_run_keeps_its_events_and_pictures(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "store"
    words = ["pattern:?frames=60&fps=20&size=128x96", "--headless", "--model", str(tiny_model)]
    assert main(["replay", *words, "--store", str(folder)]) == 0
    capsys.readouterr()
    assert main(["events", "list", "--json", "--store", str(folder)]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["type"] == "ended" and events[-1]["type"] == "appear"
    assert (folder / "snapshots" / events[-1]["snapshot"]).is_file()
    assert (folder / "clips" / events[-1]["clip"]).is_file()
    assert main(["run", *words, "--store", str(folder)]) == 0
    capsys.readouterr()
    assert main(["report", "--json", "--store", str(folder)]) == 0
    (camera,) = json.loads(capsys.readouterr().out)["cameras"]
    assert camera["captured"] == 60 and camera["age_ms"]["p99"] > 0
    assert main(["report", "--store", str(folder), "--day", "today"]) == 2
