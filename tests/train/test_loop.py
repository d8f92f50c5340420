"""A run: it learns, goes on where it was cut off, and leaves alone what is to stay."""

import json

import numpy as np
import pytest
import torch

from scripts.train.blend import blend
from scripts.train.checkpoint import load_network, read, write
from scripts.train.command import guarded
from scripts.train.data import read_pictures
from scripts.train.loop import Plan, train
from scripts.train.network import Network
from scripts.train.validate import Validation

LABELS = ("person", "dog")
PLAN = Plan(samples=24, batch=4, rate=1e-3, side=64)


def fresh():
    torch.manual_seed(0)
    return Network(2)


def run(square_set, out, plan=PLAN, **more):
    pictures = read_pictures(square_set, LABELS, taught={})
    return train(fresh(), fresh(), plan, pictures, out=out, **more)


def same(network, names):
    mine, theirs = network.state_dict(), fresh().state_dict()
    return {name: torch.equal(mine[name], theirs[name]) for name in mine if names in name}


def test_first_layers_and_class_rows_stay_and_the_rest_learns(square_set, tmp_path):
    network = run(square_set, tmp_path)
    stems = zip(network.stem.parameters(), fresh().stem.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in stems)
    assert all(same(network, "class_out").values())
    for learned in ("stage_3", "bottom_up", "box_out", "faces"):
        assert not any(v for k, v in same(network, learned).items() if k.endswith("weight"))


def test_face_towers_can_be_taught_alone(square_set, tmp_path):
    network = run(square_set, tmp_path, Plan(samples=8, batch=4, rate=0, side=64))
    changed = {name for name, equal in same(network, "").items() if not equal}
    assert changed
    assert all(name.startswith("faces.") for name in changed)


def test_a_resumed_run_ends_as_one_that_was_not_cut_off(square_set, tmp_path, monkeypatch):
    whole = run(square_set, tmp_path / "whole")

    class Cut(Exception):
        pass

    def cut(*_: object) -> float:
        raise Cut

    with monkeypatch.context() as patch:
        calls = iter(range(99))
        real = Plan.rate_at
        patch.setattr(Plan, "rate_at", lambda p, s: real(p, s) if next(calls) < 3 else cut())
        with pytest.raises(Cut):
            run(square_set, tmp_path / "cut", save_every_s=0)
    saved = read(tmp_path / "cut" / "last.pt")
    assert 0 < saved["step"] < PLAN.steps
    resumed = run(square_set, tmp_path / "cut", resume=True)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_another_plan_is_not_resumed(square_set, tmp_path):
    run(square_set, tmp_path)
    with pytest.raises(ValueError, match=r"another plan: \{'rate': 0\.001\}"):
        run(square_set, tmp_path, Plan(samples=24, batch=4, rate=2e-3, side=64), resume=True)


def test_faces_are_learned_and_validated(square_set, tmp_path):
    """With the towers alone, on features of a random network: some learning shows."""
    validation = Validation(square_set, LABELS, size=64)
    plan = Plan(samples=16, batch=4, rate=0, side=64)
    run(square_set, tmp_path, plan, validation=validation, checks=1)
    lines = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    (report,) = [line["ap50"] for line in lines if "ap50" in line]
    assert set(report) == {"person all", "face all"}
    assert all(0 <= value <= 1 for value in report.values())


def test_validation_names_boxes_in_the_pictures_pixels(square_set):
    """A face tower that always answers with a square round its cell."""
    network = fresh()
    with torch.no_grad():
        for tower in network.faces:
            tower.out.weight.zero_()
            tower.out.bias.copy_(torch.tensor([0.5, 0.5, 0.0, 0.0, 6.0]))
    pixels = np.zeros((96, 128, 3), np.uint8)
    rows = Validation(square_set, LABELS, size=64).rows(network, pixels)
    faces = [row for row in rows if row["label"] == "face"]
    assert [0, 0, 64, 64] in [row["bbox"] for row in faces]  # of a cell of 32 px, twice as large
    assert all(row["score"] > 0.9 for row in faces)


def test_a_blend_lies_between_and_keeps_the_face_towers():
    taught, parent = Network(2), fresh()
    wanted = {k: v.clone() for k, v in taught.state_dict().items()}
    theirs = parent.state_dict()
    mixed = blend(taught, parent, 0.25).state_dict()
    for name, value in mixed.items():
        if name.startswith("faces."):
            assert torch.equal(value, wanted[name])
        else:
            torch.testing.assert_close(value, 0.25 * wanted[name] + 0.75 * theirs[name])


def test_a_checkpoint_brings_the_network_back(tmp_path):
    write(tmp_path / "a.pt", {"average": fresh().state_dict()})
    network = load_network(tmp_path / "a.pt")
    assert network.classes == 2
    assert all(same(network, "").values())


def test_a_file_that_is_no_checkpoint_is_told(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"x\.pt cannot be read as a checkpoint"):
        load_network(tmp_path / "x.pt")
    torch.save({"other": 1}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match=r"y\.pt is no checkpoint of this trainer"):
        load_network(tmp_path / "y.pt")


def test_a_fault_of_the_users_is_one_line_and_a_code(capsys):
    def fault() -> None:
        raise ValueError("write it so")

    assert guarded(fault) == 2
    assert capsys.readouterr().out == "error: write it so\n"
