"""Training: it learns, it goes on where it was cut off, and several processes are one run."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.train.__main__ import main
from scripts.train.checkpoint import load_trained, read
from scripts.train.data import read_set
from scripts.train.loop import train
from scripts.train.network import (
    Detector,
    Shape,
    fold,
    is_folded,
    take_shapes,
)
from scripts.train.plan import Plan
from scripts.train.pool import Pool
from scripts.train.pool import main as pool_main
from scripts.train.samples import Batches, Samples
from scripts.train.team import ALONE, Team
from scripts.train.validate import Validation

ROOT = Path(__file__).parents[2]
SHAPE = Shape((8, 16, 16, 24, 32), (1, 1, 1, 1), 16)
PLAN = Plan(epochs=6, input_px=64, batch=4, warm_up=5)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order: the same numbers every time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(pictures, out, *, plan=PLAN, validation=None, **more):
    torch.manual_seed(3)
    network = Detector(1, SHAPE)
    device = torch.device("cpu")
    return train(
        network, plan, Samples(pictures), validation, out=out, device=device, workers=0, **more
    )


@pytest.mark.slow
def test_it_learns_to_find_squares(square_set, tmp_path):
    pictures = read_set(square_set, "train")
    checked = read_set(square_set, "val")
    validation = Validation(square_set, checked, size=64, parts={"even": ["a"]})
    plan = replace(PLAN, epochs=120, batch=8, rate=1e-2, average=0.97)
    network = run(pictures, tmp_path / "out", plan=plan)
    accuracy = validation(network, torch.device("cpu"))["even"]["square"]
    assert accuracy["boxes"] == 2
    assert accuracy["ap50"] > 0.9


def test_cut_off_and_resumed_is_the_same_as_never_cut_off(square_set, tmp_path, monkeypatch):
    pictures = read_set(square_set, "train")
    whole = run(pictures, tmp_path / "whole")

    class Cut(Exception):
        pass

    steps = 0
    update = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        if steps == 14:
            raise Cut
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(torch.optim.AdamW, "step", step)
        run(pictures, tmp_path / "cut", save_every_s=0.0)
    assert read(tmp_path / "cut" / "last.pt")["step"] == 13
    resumed = run(pictures, tmp_path / "cut", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_run_of_another_plan_is_not_resumed(square_set, tmp_path):
    pictures = read_set(square_set, "train")
    run(pictures, tmp_path, plan=replace(PLAN, epochs=1))
    with pytest.raises(ValueError, match=r"belongs to another plan: .*epochs"):
        run(pictures, tmp_path, resume=True)


def test_the_log_has_losses_and_validations(square_set, tmp_path):
    pictures = read_set(square_set, "train")
    validation = Validation(square_set, read_set(square_set, "val"), size=64, parts={})
    run(pictures, tmp_path, plan=replace(PLAN, epochs=13), validation=validation, checks=2)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation" in row] == [26, 52]
    assert [row["step"] for row in rows if "class" in row] == [50]


def test_every_picture_is_seen_as_often_as_its_source_asks(square_set):
    samples = Samples(read_set(square_set, "train"))
    pictures = read_set(square_set, "train").pictures
    plan = replace(PLAN, repeat=(("b", 3.0),))
    batches = list(Batches(plan, samples.share(plan), 0, 4 * 100, ALONE))
    seen = [index for batch in batches for index, *_ in batch]
    share = sum(pictures[i].source == "b" for i in seen) / len(seen)
    assert share == pytest.approx(0.75, abs=0.01)


def test_processes_share_each_batch_without_overlap(square_set):
    share = np.ones(16)
    alone = [set(batch) for batch in Batches(PLAN, share, 0, 9, ALONE)]
    parts = [list(Batches(PLAN, share, 0, 9, Team(rank, 2))) for rank in (0, 1)]
    for batch, first, second in zip(alone, *parts, strict=True):
        assert set(first) | set(second) == batch
        assert not set(first) & set(second)


def test_sizes_grow_and_the_rate_falls_at_the_end():
    plan = Plan(epochs=1, warm_up=10)
    assert plan.rate_at(0.0, 0) < plan.rate_at(0.05, 9) > plan.rate_at(0.9, 99) > 0
    early = {plan.size_at(0.1, step) for step in range(50)}
    late = {plan.size_at(0.95, step) for step in range(50)}
    assert max(early) < min(late) <= 320 <= max(late)
    assert all(size % 32 == 0 for size in early | late)


def command(square_set, out, *more):
    words = ["--data", square_set, "--out", out, "--epochs", 1, "--input", 64, "--cut-outs", 0]
    return [str(word) for word in [*words, "--batch", 8, "--workers", 0, "--checks", 1, *more]]


def test_the_command_trains_and_does_not_overwrite_a_run(square_set, tmp_path, capsys):
    main(command(square_set, tmp_path / "out"))
    assert "AP50: all square" in capsys.readouterr().out
    trained = load_trained(tmp_path / "out" / "last.pt")
    assert (trained.labels, trained.input_px, trained.step, trained.steps) == (
        ("square",),
        64,
        2,
        2,
    )
    with pytest.raises(ValueError, match="--resume goes on with it"):
        main(command(square_set, tmp_path / "out"))
    main(command(square_set, tmp_path / "out", "--resume"))


def test_the_second_stage_starts_from_the_first_without_batch_norm(square_set, tmp_path):
    main(command(square_set, tmp_path / "one"))
    second = ["--from", tmp_path / "one" / "last.pt", "--freeze-stem"]
    main(command(square_set, tmp_path / "two", *second))
    state = read(tmp_path / "two" / "last.pt")
    assert is_folded(state["average"])
    assert state["plan"]["fine"] is True
    network = Detector(1)
    take_shapes(network, read(tmp_path / "one" / "last.pt")["average"])
    fold(network)
    same = [torch.equal(v, state["average"][k]) for k, v in network.state_dict().items()]
    assert all(same[:14])  # the stem
    assert not all(same[14:])
    annotations = square_set / "train.json"
    annotations.write_text(annotations.read_text().replace("square", "circle"))
    with pytest.raises(ValueError, match=r"the set has the classes circle; the network square"):
        main(command(square_set, tmp_path / "three", "--from", tmp_path / "one" / "last.pt"))


def test_a_size_that_does_not_fit_the_strides_is_refused(square_set, tmp_path):
    with pytest.raises(ValueError, match="multiple of 32"):
        main(command(square_set, tmp_path / "out", "--input", 100))


def test_a_file_that_is_no_checkpoint_is_told(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"x\.pt cannot be read as a checkpoint"):
        load_trained(tmp_path / "x.pt")
    torch.save({"other": 1}, tmp_path / "y.pt")
    with pytest.raises(ValueError, match=r"y\.pt is no checkpoint of this trainer"):
        load_trained(tmp_path / "y.pt")


@pytest.mark.slow
def test_two_processes_train_one_network(square_set, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*launch, "-m", "scripts.train", *command(square_set, tmp_path / "out")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("AP50: all square") == 1
    assert load_trained(tmp_path / "out" / "last.pt").step == 2


def test_a_pool_gives_the_samples_that_were_made_and_their_mirror_images(square_set, tmp_path):
    pool_main(
        [
            *("--data", str(square_set), "--out", str(tmp_path / "pool"), "--count", "9"),
            *("--input", "64", "--cut-outs", "0", "--workers", "0"),
        ]
    )
    pool = Pool(tmp_path / "pool")
    assert (len(pool), pool.size, pool.class_names) == (9, 64, ("square",))
    shown = {}
    for seed in range(12):
        pixels, target = pool[(4, 64, (seed,), False)]
        assert len(target.boxes) == len(target.class_ids) == len(target.weights)
        shown[bytes(pixels.numpy())] = (pixels, target)
    first, second = (pixels for pixels, _ in shown.values())
    assert torch.equal(first, second.flip(2))
    main(command(square_set, tmp_path / "out", "--pool", tmp_path / "pool"))
    with pytest.raises(ValueError, match="is no finished pool"):
        Pool(tmp_path)
