"""The search for a network of the same cost, without building one."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.models.manifest import Model
from app.models.store import find_model
from scripts.bench_peers import same_cost
from scripts.bench_peers.contract import NotHere


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Of some weights that nobody runs, with an empty cache."""
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path))
    monkeypatch.setattr(same_cost, "version", lambda name: "1")
    (tmp_path / "bench_peers").mkdir()
    (tmp_path / "w.onnx").write_bytes(b"w")
    return Model(find_model("kestrel").spec, tmp_path / "w.onnx", None)


def test_the_width_whose_cost_is_nearest_is_found_even_where_widths_come_in_steps():
    def measure(width):
        step = round(width * 64) / 64
        return (step / 0.11) ** 2, Path(f"{width}.onnx")

    width, ratio, path = same_cost.nearest(measure)
    assert abs(ratio - 1) <= same_cost.TOLERANCE and path == Path(f"{width}.onnx")


def test_where_none_is_near_enough_that_is_told(model, monkeypatch):
    monkeypatch.setattr(same_cost, "_measured", lambda width, *, folder, **_: (3.0, folder / "x"))
    with pytest.raises(NotHere, match=r"the nearest is 3\.00 times ours"):
        same_cost.network_of_cost(model, "onnx")


def test_another_depth_is_tried_where_the_widths_of_one_miss(model, monkeypatch):
    monkeypatch.setattr(same_cost, "_measured", measured := Measured())
    weights, fit = same_cost.network_of_cost(model, "onnx")
    assert weights.read_bytes() == b"0.67" and fit["depth"] == 0.667
    assert set(measured.depths) == {1 / 3, 2 / 3}


def test_where_the_narrowest_is_too_dear_a_smaller_input_is_tried_and_no_deeper_one(
    model, monkeypatch
):
    measured = Measured(lambda depth, size_wh: 1.6 * size_wh[0] * size_wh[1] / 320**2)
    monkeypatch.setattr(same_cost, "_measured", measured)
    weights, fit = same_cost.network_of_cost(model, "openvino")
    assert weights.name.endswith("_openvino_model") and set(measured.depths) == {1 / 3}
    assert fit["input"] == [256, 256]
    assert abs(fit["cost_ratio"] - 1) <= same_cost.TOLERANCE


def test_the_network_that_was_found_stays_for_all_rounds_whatever_a_minute_measures(
    model, monkeypatch
):
    monkeypatch.setattr(same_cost, "_measured", measured := Measured())
    weights, fit = same_cost.network_of_cost(model, "onnx")
    tried = len(measured.depths)
    monkeypatch.setattr(same_cost, "cost_ratio", lambda *_: 1.3)
    again, told = same_cost.network_of_cost(model, "onnx")
    assert (again, len(measured.depths)) == (weights, tried)
    assert told == {**fit, "cost_ratio_this_time": 1.3}


class Measured:
    """Stands for making and timing a network; at first only the second depth comes near."""

    def __init__(self, cost=lambda depth, size_wh: 0.8 if depth < 0.5 else 1.05):
        self.depths, self._cost = [], cost

    def __call__(self, width, *, depth, size_wh, model, library, folder):
        self.depths.append(depth)
        path = folder / f"{width}.onnx"
        path.write_text(f"{depth:.2f}")
        return self._cost(depth, size_wh) * (1 + width / 100), path
