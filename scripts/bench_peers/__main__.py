"""Kestrel against its peers on this machine: same clip, same weights, same boxes, in turns.

    python -m scripts.bench_peers --source CLIP [--model M] [--rounds 5] [--json FILE] [--only …]

Each peer runs in a process of its own, all of them once a round. What is not installed here is
named, not left out. Exit code 6: a peer failed, or its boxes are not Kestrel's.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from app.core.errors import KestrelError
from app.models.manifest import Model
from app.models.store import default_model, find_model
from app.ops.machine import device, package_version
from scripts.bench_peers.contract import NotHere, Run
from scripts.bench_peers.plain import frame_wh
from scripts.bench_peers.registry import PEERS, REFERENCE
from scripts.bench_peers.report import passed, summarise, text_table
from scripts.bench_peers.rounds import in_a_process, interleave
from scripts.bench_peers.work import bound, typical

VERDICT = 6
PACKAGES = ("openvino", "ultralytics", "torch", "PyGObject", "av")


def main() -> int:
    """Run, compare, tell."""
    args = _parser().parse_args()
    model = find_model(args.model) if args.model else default_model()
    if not Path(args.source).is_file():
        sys.exit(f"--source {args.source} is no file; the peers read clips only")
    if args.peer:
        return _one(args.peer, args.source, model, args.json)
    asked = args.only or list(PEERS)
    wanted = list(dict.fromkeys([REFERENCE, *(PEERS[name].against for name in asked), *asked]))
    ask = in_a_process(args.source, str(args.model or model.spec.name))
    bounds: list[dict[str, Any]] = []
    cut = replace(model, spec=model.spec.for_frame(frame_wh(args.source)))

    def ask_beside_bound(name: str) -> Run:
        if name == REFERENCE:  # a machine changes its pace: each run has the bound of its minute
            bounds.append(bound(args.source, cut))
        return ask(name)

    outcomes = interleave(wanted, args.rounds, ask_beside_bound, print)
    rows = summarise(outcomes, PEERS, threshold=model.spec.score)
    print(f"\n{text_table(rows)}")
    work = typical(bounds, outcomes[REFERENCE].fps)
    if "share_reached" in work:
        print(
            f"\nbound by CPU work alone: {work['bound_fps']:.1f} FPS on {work['cores']} cores "
            f"({work['total_ms']:.2f} ms a frame); Kestrel reaches {work['share_reached']:.0%}"
        )
    if args.json:
        args.json.write_text(json.dumps(_report(args, model, rows, work), indent=1) + "\n")
    return 0 if passed(rows) else VERDICT


def _one(name: str, clip: str, model: Model, answer: Path) -> int:
    """In the peer's process: its answer goes to a file, as some peers talk on standard output."""
    try:
        data = PEERS[name].run(clip, model).to_json()
    except NotHere as reason:
        data = {"absent": str(reason)}
    answer.write_text(json.dumps(data))
    return 0


def _report(
    args: argparse.Namespace, model: Model, rows: dict[str, Any], work: dict[str, Any]
) -> dict[str, Any]:
    arguments = [Path(a).name if a in (args.source, str(args.json)) else a for a in sys.argv[1:]]
    return {
        "command": shlex.join(["python", "-m", "scripts.bench_peers", *arguments]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(),
        "versions": {name: package_version(name) for name in PACKAGES},
        "clip": Path(args.source).name,
        "model": model.spec.name,
        "rounds": args.rounds,
        "peers": rows,
        "work": work,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--source", required=True, metavar="CLIP", help="a video file")
    add("--model", help="default: the default model")
    add("--rounds", type=_positive, default=5)
    add("--json", type=Path, metavar="FILE", help="the whole report")
    add("--only", nargs="+", choices=PEERS, metavar="PEER", help=f"of {', '.join(PEERS)}")
    add("--peer", choices=PEERS, help=argparse.SUPPRESS)  # in the peer's own process
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KestrelError as error:
        sys.exit(str(error))
