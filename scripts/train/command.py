"""What do the commands of training have in common: the data, the device, the run's folder?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from scripts.train.augment import CutOut
from scripts.train.checkpoint import Trained
from scripts.train.cut_outs import find_cut_outs
from scripts.train.data import read_set
from scripts.train.loop import train
from scripts.train.network import Detector
from scripts.train.plan import Plan
from scripts.train.samples import Samples, Source
from scripts.train.teacher import Teacher
from scripts.train.team import Team
from scripts.train.validate import Validation


def add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what to learn from."""
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder: images/, train.json, val.json (COCO)")
    add("--seed", type=int, default=1)
    add("--repeat", type=_weight, action="append", default=[], metavar="SOURCE=N",
        help="show the pictures of a source N times as often")  # fmt: skip
    add("--teacher", metavar="MODEL", help="a YOLOX model that answers where labels are silent")
    add("--paste", default="person", metavar="LABEL", help="cut objects of this class out")
    add("--cut-outs", type=int, default=800, metavar="N", help="so many of them; 0: none")
    add("--limit", type=int, metavar="N", help="use only N pictures of each split: a trial")


def add_arguments(parser: argparse.ArgumentParser, *, epochs: float, rate: float) -> None:
    """The options of a training run, with a command's own defaults."""
    add_set_arguments(parser)
    add = parser.add_argument
    add("--pool", type=Path, help="learn from a pool (scripts.train.pool) instead of train.json")
    add("--out", type=Path, required=True, help="where checkpoints and the log go")
    add("--epochs", type=float, default=epochs)
    add("--batch", type=int, default=32)
    add("--rate", type=float, default=rate, help="highest learning rate")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--workers", type=int, default=1, help="processes that make samples; 0: none")
    add("--resume", action="store_true", help="go on from OUT/last.pt")
    add("--part", type=_part, action="append", default=[], metavar="NAME=SOURCE,SOURCE",
        help="report the accuracy on these sources of val apart")  # fmt: skip
    add("--hints", type=float, default=0.0, metavar="WEIGHT",
        help="learn from the teacher's features too; 0.5 is a fair weight")  # fmt: skip
    add("--checks", type=int, default=12, metavar="N", help="validations on the way")


def read_samples(a: argparse.Namespace) -> tuple[Samples, str]:
    """Samples of the set that ``--data`` names, and the teacher's name. Raises ValueError."""
    pictures = read_set(a.data, "train", limit=a.limit)
    teacher = Teacher(a.teacher, pictures.class_names) if a.teacher else None
    cut_outs: list[CutOut] = []
    if a.cut_outs and a.paste in pictures.class_names:
        class_id = pictures.class_names.index(a.paste)
        cut_outs = find_cut_outs(pictures.pictures, class_id=class_id, most=a.cut_outs, seed=a.seed)
    print(f"{len(pictures.pictures)} pictures, {len(cut_outs)} cut-outs", flush=True)
    return Samples(pictures, cut_outs, teacher), teacher.name if teacher else ""


def read_source(a: argparse.Namespace) -> tuple[Source, str]:
    """What to learn from: the set, or a pool. Raises ValueError, also for a run that exists."""
    if (a.out / "last.pt").exists() and not a.resume:
        raise ValueError(f"{a.out} holds a run already; --resume goes on with it")
    if a.pool is None:
        return read_samples(a)
    from scripts.train.pool import Pool

    pool = Pool(a.pool)
    print(f"{len(pool)} samples of {pool.size} px", flush=True)
    return pool, pool.teacher


def run(
    a: argparse.Namespace,
    network: Detector,
    source: Source,
    *,
    taught_by: str,
    input_px: int,
    fine: bool,
) -> None:
    """Train as the options say, alone or as one of torchrun's processes."""
    if a.hints and not taught_by:
        raise ValueError("--hints are a teacher's; name one with --teacher, or a pool that had one")
    checked = read_set(a.data, "val", limit=a.limit)
    plan = Plan(
        a.epochs,
        input_px,
        a.batch,
        a.rate,
        seed=a.seed,
        repeat=tuple(a.repeat),
        fine=fine,
        teacher=taught_by,
        pool=a.pool is not None,
        hints=a.hints,
    )
    team = Team.join()
    train(
        network,
        plan,
        source,
        Validation(a.data, checked, size=input_px, parts=dict(a.part)),
        out=a.out,
        device=team.device(a.device),
        workers=a.workers,
        resume=a.resume,
        checks=a.checks,
        team=team,
    )


def same_classes(trained: Trained, source: Source) -> None:
    """Raise ValueError when a network was taught other classes than the set has."""
    theirs, mine = source.class_names, trained.labels
    if theirs != mine:
        raise ValueError(
            f"the set has the classes {', '.join(theirs)}; the network {', '.join(mine)}"
        )


def guarded(main: Callable[[], None]) -> int:
    """Run a command; a fault of the user's is one line and exit code 2."""
    try:
        main()
    except ValueError as fault:
        print(f"error: {fault}")
        return 2
    return 0


def _weight(text: str) -> tuple[str, float]:
    source, _, number = text.partition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if weight <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write SOURCE=N, N above 0")
    return source, weight


def _part(text: str) -> tuple[str, list[str]]:
    name, _, sources = text.partition("=")
    if not sources:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=SOURCE,SOURCE")
    return name, sources.split(",")
