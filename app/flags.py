"""Which commands and flags are there?"""

from __future__ import annotations

import argparse
from pathlib import Path

from app import __version__
from app.config import ENGINES, PRECISIONS


def make_parser(command: str) -> argparse.ArgumentParser:
    """All commands; the sub-commands of `models` only for it, as they take long to import."""
    parser = argparse.ArgumentParser(
        prog="python -m app",
        allow_abbrev=False,
        description="Kestrel: real-time object detection for edge devices.",
        epilog="Without a command: run. Exit codes: 0 done or stopped, 2 usage or configuration, "
        "3 source, 4 model, 5 GPU, 6 a verdict failed.",
    )
    parser.add_argument("--version", action="version", version=f"kestrel {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run", allow_abbrev=False, help="live: a camera, a stream, or a clip at its own pace"
    )
    run.add_argument(
        "--source",
        action="append",
        metavar="[NAME=]URI",
        help="camera:0, rtsp://…, http://…, FILE, pattern:, sample:; several: repeat it",
    )
    run.add_argument(
        "--devices", type=_numbers, metavar="0,1", help="GPUs over which the sources are spread"
    )
    run.add_argument("--batch", type=int, help="frames of several sources in one inference")
    _common(run)
    run.add_argument("--headless", action="store_true", help="no window, no Qt")
    run.add_argument("--window", action="store_true", help="a window, or exit code 2 without one")
    run.add_argument("--max-age-ms", type=float, help="drop frames that waited longer (ms)")
    run.add_argument(
        "--canary-s", type=float, help="every so often a known picture must give its known boxes"
    )
    run.add_argument("--trace", metavar="FILE", help="record what happens to each frame (a ring)")
    run.add_argument("--wait", action="store_true", help="wait for a source that is not there yet")
    run.add_argument(
        "--reconnect",
        action=argparse.BooleanOptionalAction,
        help="open a camera or stream again when it is lost (default: yes)",
    )
    _outputs(run)

    replay = commands.add_parser(
        "replay", allow_abbrev=False, help="every frame of a recording, reproducibly"
    )
    replay.add_argument("source", metavar="CLIP", help="a recording; sample: is the bundled clip")
    _common(replay)
    replay.add_argument("--realtime", action="store_true", help="at the pace of the clip's clock")
    replay.add_argument("--expect", metavar="GOLDEN.jsonl", help="compare; exit 6 if it differs")
    replay.add_argument("--trace", metavar="FILE", help="drop the frames that were dropped in it")
    replay.add_argument("--max-age-ms", type=float, help="with --trace: what if it had been this")
    _outputs(replay)
    replay.set_defaults(headless=True)

    bench = commands.add_parser("bench", allow_abbrev=False, help="measure this device")
    bench.add_argument("--source", help="a recording to measure with (default: sample:)")
    _engine(bench)
    bench.add_argument("--json", metavar="FILE", help="write all figures there")
    bench.add_argument("--max-frames", type=int, help="frames of the throughput run (default: 500)")
    bench.add_argument(
        "--seconds", type=float, default=10.0, help="length of the live and the overload run"
    )
    bench.add_argument("--html", type=Path, metavar="FILE", help="a page with plots")
    bench.add_argument("--rounds", type=int, default=5, help="of --sweep and --startup")
    bench.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    what = bench.add_mutually_exclusive_group()
    what.add_argument(
        "--sweep",
        action="append",
        metavar="KEY=A,B,C",
        help="throughput with each of several engines, models, precisions, sizes, batches, slots, "
        "workers, threads or transfers, in turn; repeated: with every combination",
    )
    what.add_argument(
        "--startup",
        action="store_true",
        help="fresh processes: from the command to the first boxes",
    )
    what.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A.json", "B.json"),
        help="two reports, side by side",
    )

    doctor = commands.add_parser(
        "doctor", allow_abbrev=False, help="what this machine has, what is wrong, and the cures"
    )
    doctor.add_argument("--json", action="store_true", help="for machines")
    soak = commands.add_parser(
        "soak", allow_abbrev=False, help="hours of chaos in one verdict: does anything leak or age?"
    )
    soak.add_argument("--source", help="what chaos happens to (default: a test pattern)")
    _engine(soak)
    length = soak.add_mutually_exclusive_group(required=True)
    length.add_argument("--hours", type=float, help="at the pace of life: an event a minute")
    length.add_argument("--minutes", type=float, help="accelerated: everything 20 times as often")
    soak.add_argument("--seed", type=int, default=1, help="of the chaos (default: 1)")
    soak.add_argument("--max-age-ms", type=float, help="drop frames that waited longer (ms)")
    soak.add_argument("--json", metavar="FILE", help="write all figures there")
    soak.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")

    models = commands.add_parser(
        "models", help="the model shelf: list, info, fetch, add, quantize, evaluate"
    )
    if command == "models":
        from app.tools.models import register

        register(models)
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,1") from None


def _engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="name on the shelf, .onnx or .toml file")
    parser.add_argument("--engine", choices=ENGINES, help="auto chooses by what is there")
    told = "of the arithmetic, where an engine has a choice: those of a GPU, and openvino (bf16)"
    parser.add_argument("--precision", choices=PRECISIONS, help=told)


def _common(parser: argparse.ArgumentParser) -> None:
    _engine(parser)
    parser.add_argument("--json", metavar="FILE", help="one JSON line a frame; - is stdout")
    parser.add_argument(
        "--record", metavar="FILE_OR_DIR/", help="annotated video (.mp4, H.264); a folder: rotating"
    )
    parser.add_argument("--max-frames", type=int, help="end after so many processed frames")
    parser.add_argument("--score", type=float, help="lowest score reported (0..1)")
    parser.add_argument("--iou", type=float, help="overlap above which NMS drops a box (0..1)")
    parser.add_argument(
        "--isolate",
        action=argparse.BooleanOptionalAction,
        help="decode in a child process (default: for streams)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    parser.add_argument(
        "--check", action="store_true", help="check settings and model, run nothing"
    )


def _outputs(parser: argparse.ArgumentParser) -> None:
    """More about each is set in its table of the configuration file (README, "Outputs")."""
    parser.add_argument(
        "--http", metavar="[ADDRESS:]PORT", help="live page, stream, health, metrics"
    )
    parser.add_argument(
        "--http-token", dest="http.token", metavar="TOKEN", help="or KESTREL_HTTP_TOKEN"
    )
    parser.add_argument("--mqtt", metavar="URL", help="mqtts://[user:password@]host/topic-prefix")
    parser.add_argument("--webhook", metavar="URL", help="post what appears and disappears there")
    parser.add_argument("--clips", metavar="DIR", help="a short video of each thing that appears")
