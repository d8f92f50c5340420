"""The command line: commands, flags, exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..config import ENGINES, PRECISIONS, Config, make_config
from ..core.credentials import mask_text
from ..core.errors import ConfigError, KestrelError, ReaderGone, SinkError
from ..core.package import COMMAND
from ..ops.signals import forget_interrupt, interrupting
from ..ops.systemd import configure_logging, into_journal, journal_line

log = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    """Its errors quote what was typed, and what was typed may hold a password."""

    def error(self, message: str) -> NoReturn:
        """See argparse.ArgumentParser."""
        super().error(mask_text(message))


def make_parser(command: str) -> argparse.ArgumentParser:
    """All commands; the sub-commands of `models` only for it, as they take long to import."""
    parser = _Parser(
        prog=COMMAND,
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
        from .models import register

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of README, "Exit codes"."""
    words = list(sys.argv[1:] if argv is None else argv)
    words = _with_command(words)
    args = make_parser(words[0]).parse_args(words)
    # those of `models` bring their own
    command: Callable[[argparse.Namespace], int] = (
        getattr(args, "func", None) or _COMMANDS[args.command]
    )
    return _guarded(lambda: command(args))


def share() -> int:
    """The process of one device (--devices): runs what its parent gives it."""
    from ..runtime.multi_gpu import receive_share
    from ..runtime.run import run_live

    return _guarded(lambda: run_live(receive_share()))


def _guarded(command: Callable[[], int]) -> int:
    """The exit code; what goes wrong is told in one line."""
    configure_logging()
    try:
        with interrupting():
            logging.getLogger().setLevel(_log_level())
            code = command()
            sys.stdout.flush()
            return code
    except KestrelError as error:
        return _told(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        forget_interrupt()
        return 0
    except ReaderGone:
        return 0
    except BrokenPipeError:  # `models list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _told(f"error: cannot write what there is to say: {error}", SinkError.exit_code)
    except Exception as error:
        log.debug("internal error", exc_info=True)
        kind = type(error).__name__
        return _told(f"internal error: {kind}: {error} (KESTREL_LOG=DEBUG shows where)", 1)


def _told(text: str, code: int) -> int:
    line = f"kestrel: {mask_text(' '.join(text.split()))}"
    sys.stderr.write((journal_line(line, logging.ERROR) if into_journal() else line) + "\n")
    return code


def _log_level() -> str:
    level = os.environ.get("KESTREL_LOG", "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ConfigError(f"KESTREL_LOG is {level!r}; use DEBUG, INFO, WARNING or ERROR")
    return level


def _with_command(words: list[str]) -> list[str]:
    """Plain ``python -m app [OPTIONS]`` means ``run``."""
    if words and (not words[0].startswith("-") or words[0] in ("-h", "--help", "--version")):
        return words
    return ["run", *words]


def _config(args: argparse.Namespace) -> Config:
    """The Config of the flags that were given."""
    known = Config.__dataclass_fields__
    flags: dict[str, Any] = {
        name: value
        for name, value in vars(args).items()
        if name.partition(".")[0] in known and value is not None and value is not False
    }
    if isinstance(given := flags.get("source"), list):
        flags["source"] = given[0] if len(given) == 1 else None
        flags["sources"] = tuple(given) if len(given) > 1 else ()
    for name in ("isolate", "reconnect"):  # --no-isolate is another thing than nothing said
        if getattr(args, name, None) is False:
            flags[name] = False
    return make_config(flags, getattr(args, "config", None))


def _run(args: argparse.Namespace) -> int:
    config = _config(args)
    if args.check:
        return _check(config, live=True)
    if config.devices:
        from ..runtime.multi_gpu import run_spread

        return run_spread(config)
    from ..runtime.run import run_live

    return run_live(config, reload=partial(_config, args) if args.config else None)


def _replay(args: argparse.Namespace) -> int:
    config = _config(args)
    if args.check:
        return _check(config, live=False)
    from ..runtime.run import run_replay

    return run_replay(config)


def _check(config: Config, *, live: bool) -> int:
    from ..pipeline.handoff import Policy
    from .check import check

    return check(config, Policy.LATEST if live else Policy.LOSSLESS)


def _bench(args: argparse.Namespace) -> int:
    if args.compare:
        from .bench.report import run_compare

        return run_compare(*args.compare)
    from .bench.run import Destination

    config, destination = _config(args), Destination(args.json, args.html)
    if args.sweep:
        from .bench.sweep import run_sweep

        return run_sweep(config, destination, keys=args.sweep, rounds=args.rounds)
    if args.startup:
        from .bench.startup import run_startup

        return run_startup(config, destination, rounds=args.rounds)
    from .bench.run import run_bench

    return run_bench(config, destination, seconds=args.seconds)


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import run_doctor

    return run_doctor(as_json=args.json)


def _soak(args: argparse.Namespace) -> int:
    from .soak import run_soak

    fast = args.hours is None
    seconds = args.minutes * 60 if fast else args.hours * 3600
    return run_soak(_config(args), seconds=seconds, fast=fast, seed=args.seed)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "replay": _replay,
    "bench": _bench,
    "doctor": _doctor,
    "soak": _soak,
}
