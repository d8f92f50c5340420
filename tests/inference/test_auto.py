"""`--engine auto`: the fastest of what opens, in one log line, and remembered."""

import json
import logging
import time
from contextlib import contextmanager

import numpy as np
import pytest

from app.core.detections import Detections
from app.core.errors import DeviceError, ModelError
from app.core.frame import Frame
from app.inference.auto import EngineChoice, fastest, same_boxes


class SlowSlot:
    """A frame takes ``frame_s``."""

    capacity = 1

    def __init__(self, frame_s, found=None):
        self._frame_s, self._busy = frame_s, False
        self._found = Detections.empty() if found is None else found

    def enqueue(self, frames):
        assert not self._busy and len(frames) == 1
        self._busy = True

    def ready(self):
        return self._busy

    def collect(self):
        assert self._busy
        time.sleep(self._frame_s)
        self._busy = False
        return [(self._found, {})]


class Engines:
    """Backends that are only as fast as they are told to be; notes what is opened and closed."""

    def __init__(self, found=None, **frame_s):
        self.log, self._found = [], found or {}
        self.factories = {name: self._factory(name, value) for name, value in frame_s.items()}

    def _factory(self, name, frame_s):
        @contextmanager
        def factory(wake):
            if isinstance(frame_s, Exception):
                raise frame_s
            self.log.append(f"+{name}")
            slots = [SlowSlot(frame_s, self._found.get(name)) for _ in range(2)]
            yield type("Fake", (), {"slots": slots, "description": name})
            assert not any(slot.ready() for slot in slots)
            self.log.append(f"-{name}")

        return factory


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path))
    monkeypatch.setattr("app.inference.auto.MEASURE_S", 0.02)
    caplog.set_level(logging.INFO)
    return tmp_path / "auto"


def chosen(engines, skipped=None, **key):
    choice = EngineChoice(engines.factories, skipped or {}, {"model_sha256": "ab", **key})
    with fastest(lambda: choice, lambda: None) as backend:
        return backend.description


def test_the_fastest_is_chosen_told_and_remembered(cache, caplog):
    engines = Engines(cuda=0.0005, cpu=0.05)
    assert chosen(engines, {"ort-tensorrt": "its engine is not built"}) == "cuda"
    assert engines.log == ["+cuda", "-cuda", "+cpu", "-cpu", "+cuda", "-cuda"]
    (line,) = caplog.messages
    assert line.index("cuda") < line.index("cpu"), "the chosen one is told first"
    assert "ort-tensorrt: its engine is not built" in line
    caplog.clear()
    engines.log.clear()
    assert chosen(engines) == "cuda"
    assert engines.log == ["+cuda", "-cuda"]  # nothing is measured
    (line,) = caplog.messages
    assert "cuda" in line and str(cache) in line
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["key"] == {"model_sha256": "ab"}


def test_another_model_or_device_is_measured_for_itself(cache):
    engines = Engines(cuda=0.0005, cpu=0.05)
    for gpu in ("Orin", "H100", "Orin"):
        chosen(engines, gpu=gpu)
    assert engines.log.count("+cpu") == 2 == len(list(cache.iterdir()))


def test_what_does_not_open_is_told_and_the_rest_measured(cache, caplog):
    lacking = Engines(cuda=ModelError("it lacks Einsum"), ort=0.0005, cpu=0.05)
    assert chosen(lacking) == "ort"
    assert "cuda: it lacks Einsum" in caplog.text
    assert chosen(lacking) == "ort" and lacking.log.count("+cpu") == 1


def test_a_device_that_fails_is_tried_again_next_time(cache, caplog):
    for _ in range(2):
        engines = Engines(cuda=DeviceError("out of memory"), cpu=0.001)
        assert chosen(engines) == "cpu"
        assert engines.log == ["+cpu", "-cpu", "+cpu", "-cpu"]
    assert "cuda: out of memory" in caplog.text


def test_where_none_opens_the_error_is_the_last_ones(cache):
    with pytest.raises(ModelError, match="damaged"):
        chosen(Engines(cuda=DeviceError("no memory"), cpu=ModelError("damaged")))


def test_one_engine_costs_no_measurement(cache, caplog):
    engines = Engines(cpu=0.05)
    assert chosen(engines, {"GPU": "no driver"}) == "cpu"
    assert engines.log == ["+cpu", "-cpu"] and not cache.exists()
    assert "GPU: no driver" in caplog.text


def test_a_remembered_engine_that_no_longer_opens_is_measured_anew(cache, caplog):
    chosen(Engines(cuda=0.0005, cpu=0.05))
    assert chosen(Engines(cuda=DeviceError("gone"), cpu=0.05)) == "cpu"
    assert "cuda" in caplog.text and "gone" in caplog.text
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"engine": "cuda", "fps": 3}', '{"fps": {}}'])
def test_a_damaged_memory_is_measured_anew(cache, damage):
    chosen(Engines(cuda=0.0005, cpu=0.05))
    (file,) = cache.iterdir()
    file.write_text(damage)
    engines = Engines(cuda=0.0005, cpu=0.05)
    assert chosen(engines) == "cuda" and "+cpu" in engines.log


def test_an_error_in_the_run_leaves_through_the_engine(cache):
    engines = Engines(cpu=0.001, cuda=0.0005)
    choice = EngineChoice(engines.factories, {}, {})
    with pytest.raises(RuntimeError, match="a sink"), fastest(lambda: choice, lambda: None):
        raise RuntimeError("a sink")
    assert len(list(cache.iterdir())) == 1


def boxes(*rows):
    """Detections of (class, score, x0)."""
    ids, scores, left = (np.array(column) for column in zip(*rows, strict=True))
    xyxy = np.stack([left, left, left + 10, left + 10], axis=1).astype(np.float32)
    return Detections(xyxy, scores.astype(np.float32), ids.astype(np.int32))


CPU_BOXES = boxes((0, 0.9, 10), (1, 0.5, 30), (1, 0.5, 50))


def agreeing(found):
    """Which of openvino and cpu is chosen if openvino is quicker and finds ``found``."""
    engines = Engines({"openvino": found, "cpu": CPU_BOXES}, openvino=0.0005, cpu=0.05)
    known = [Frame(np.zeros((8, 8, 3), np.uint8), 0, 0)]
    choice = EngineChoice(engines.factories, {}, {}, lambda: known, {"openvino": "cpu"})
    with fastest(lambda: choice, lambda: None) as backend:
        return backend.description


def test_an_engine_with_the_cpus_boxes_may_win():
    in_turn = boxes((0, 0.9005, 10.3), (1, 0.5, 50), (1, 0.5, 30))
    assert agreeing(CPU_BOXES) == agreeing(in_turn) == "openvino"


@pytest.mark.parametrize(
    "other",
    [
        boxes((0, 0.9, 10), (1, 0.5, 30)),
        boxes((0, 0.9, 10), (1, 0.5, 30), (1, 0.5, 30)),
        boxes((0, 0.902, 10), (1, 0.5, 30), (1, 0.5, 50)),
        boxes((0, 0.9, 10.6), (1, 0.5, 30), (1, 0.5, 50)),
        boxes((1, 0.9, 10), (1, 0.5, 30), (1, 0.5, 50)),
    ],
)
def test_an_engine_with_other_boxes_is_not_chosen_however_quick(other, caplog):
    assert agreeing(other) == "cpu"
    assert "not openvino" in caplog.text


def test_no_boxes_at_all_prove_nothing():
    assert not same_boxes([Detections.empty()], [Detections.empty()])
