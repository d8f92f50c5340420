"""A thousand malformed inputs for each parser of text: a clear error of ours, or a sound answer."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from app.commands.bench.report import compare
from app.commands.evaluate import LabelledSet
from app.config import make_config
from app.core.errors import KestrelError
from app.models.manifest import read_manifest
from app.ops.flight import read_trace
from app.pipeline.degrade import parse_ladder
from app.sinks.golden import GoldenSink
from app.sinks.http.guard import parse_address as http_address
from app.sinks.mqtt import parse_address as mqtt_address
from app.sinks.spool import Spool
from app.sources.chaos import Schedule
from app.sources.uri import make_source
from scripts.trace_to_perfetto import chrome_trace
from tests.blob_detector import save_labelled_set
from tests.fuzz.mutate import COUNT, spoilt
from tests.shelf_kit import ROOT

CONFIG = b"""source = "rtsp://user:pw@host/live"
max_age_ms = 200.5
ladder = ["every 2nd frame", "input 256x256", "model x"]
wait = true
workers = 2
record = "folder/"
[mqtt]
url = "mqtts://u:p@h:8883/a"
spool_mb = 64
[events]
labels = ["person"]
snapshots_mb = 3
"""
LINE = {
    "source": "c.mp4",
    "frame": 1,
    "media_ms": 40.0,
    "size": [64, 48],
    "detections": [
        {"label": "p", "class_id": 0, "score": 0.9, "box": [1, 2, 30, 40], "keypoints": [[1, 2]]}
    ],
}
TRACE = (
    b'{"trace":1,"max_age_ms":100}\n["put",1,0,1]\n["take",2,0]\n["kept",3,0]\n'
    b'["result",4,0,3,{"network":2},[[0,0.9,1,2,3,4]]]\n["state",5,-1,"live"]\n'
)


def spooled(path: Path) -> None:
    spool = Spool(path, max_bytes=10_000, on_drop=lambda reason: None)
    spool.open()
    spool.append("t", "new")
    for message in spool.hand_out(30):
        assert isinstance(message.text, str) and isinstance(message.topic, str)
        spool.remove(message.seq)
    spool.save()
    spool.close()


def a_spool(folder: Path) -> bytes:
    spool = Spool(folder / "sound", max_bytes=10_000, on_drop=lambda reason: None)
    spool.open()
    for i in range(5):
        spool.append("t", f"text {i}")
    spool.close()
    return (folder / "sound").read_bytes()


def labelled(path: Path) -> None:
    found = LabelledSet.read(path, {"a": ["a"]})
    assert all(isinstance(label, str) for label in found.categories)
    list(found.frames())


FILES: dict[str, tuple[Callable[[Path], list[bytes]], Callable[[Path], object]]] = {
    "manifest.toml": (
        lambda folder: [p.read_bytes() for p in (ROOT / "models").glob("*.toml")],
        read_manifest,
    ),
    "config.toml": (lambda folder: [CONFIG], lambda path: make_config({}, path)),
    "golden.jsonl": (
        lambda folder: [(json.dumps(LINE) + "\n").encode() * 2],
        lambda path: GoldenSink(str(path), threshold=0.3),
    ),
    "trace": (lambda folder: [TRACE], lambda path: chrome_trace(read_trace(path))),
    "val.json": (
        lambda folder: [(save_labelled_set(folder / "set", 2) / "val.json").read_bytes()],
        labelled,
    ),
    "report.json": (
        lambda folder: [p.read_bytes() for p in (ROOT / "scripts" / "results").glob("bench*.json")],
        lambda path: compare(path, path),
    ),
    "spool.sqlite": (lambda folder: [a_spool(folder)], spooled),
}
STRINGS: dict[str, tuple[list[str], Callable[[str], object]]] = {
    "ladder": (
        ["every 2nd frame", "input 256x256", "input 96", "model a b"],
        lambda text: parse_ladder([text, "every 999th frame"]),
    ),
    "chaos": (
        ["freeze@5+3,disconnect@12+4/20", "7*20", "clock@0+1.5", "9", "7*0.001"],
        lambda text: Schedule(text).now(),
    ),
    "source": (
        [
            "rtsp://u:p@host:554/live?rtsp_transport=udp",
            "http://[::1]:80/x",
            "camera:0?size=640x480&fps=30",
            "csi:0?flip=2",
            "pattern:?size=64x48&fps=5&boxes=2&seed=3",
            "chaos:freeze@1+2/5:pattern:?frames=2",
            "gst:videotestsrc",
            "folder/x*.jpg",
        ],
        lambda text: make_source(text, realtime=False),
    ),
    "mqtt": (["mqtts://u:p%40@host:8883/a/b", "mqtt://[::1]/x"], mqtt_address),
    "http": (["0.0.0.0:8080", "[::1]:80", "8080"], lambda text: http_address(text, "token")),
}


@pytest.mark.parametrize("name", FILES)
def test_a_thousand_malformed_files_give_clear_errors(name: str, tmp_path: Path) -> None:
    sound, read = FILES[name]
    shared = Path("/dev/shm")  # SQLite waits for the disk a dozen times a file
    folder = tempfile.mkdtemp(dir=shared if shared.is_dir() else tmp_path)
    path, refused = Path(folder) / name, 0
    for data in spoilt(sound(tmp_path), 3 * COUNT):
        for left in path.parent.iterdir():
            left.unlink()
        path.write_bytes(data)
        try:
            read(path)
        except KestrelError as error:
            refused += 1
            assert str(error).strip() and "Traceback" not in str(error)
        except Exception as error:
            raise AssertionError(f"{name}: {data[:3000]!r}") from error
    shutil.rmtree(folder)
    if name != "spool.sqlite":  # which is put aside, with a warning, and begun anew
        assert refused > COUNT / 10, "most were malformed"


@pytest.mark.parametrize("name", STRINGS)
def test_a_thousand_malformed_words_give_clear_errors(name: str) -> None:
    sound, parse = STRINGS[name]
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in spoilt([text.encode() for text in sound], 3 * COUNT):
            text = data.decode("utf-8", "surrogateescape")
            try:
                parse(text)
            except KestrelError as error:
                refused += 1
                with suppress(UnicodeEncodeError):
                    assert str(error).encode()
            except Exception as error:
                raise AssertionError(f"{name}: {text!r}") from error
    assert refused > COUNT / 10
