"""The command line: commands, flags from the declarations in config.py, exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import re
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..config import (
    SETTINGS,
    TABLES,
    Config,
    ConfigFile,
    Setting,
    make_config,
    nearest,
    parse_sources,
)
from ..core.credentials import mask_credentials, mask_text
from ..core.errors import ConfigError, KestrelError, ReaderGone, SinkError, exhausted
from ..core.package import COMMAND
from ..core.text import LONGEST, foreign
from ..ops.signals import forget_interrupt, interrupting
from ..ops.systemd import configure_logging, into_journal, journal_line

log = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """Names the nearest option or choice for one that is unknown; takes no abbreviations."""

    takes_sources = False  # words that no option takes

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does; options that this parser does not know end the program."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and self.takes_sources:
            unknown = self._with_sources(found, unknown)
        if unknown:
            self._refuse(unknown)
        return found, unknown

    @staticmethod
    def _with_sources(found: argparse.Namespace, words: list[str]) -> list[str]:
        """Takes words without an option as the source, several files (a shell's *.jpg) as one.

        Returns what is left of them.
        """
        given = [found.source] if "source" in found else getattr(found, "sources", [])
        paths = [*given[-1:], *words]
        one = len(paths) == 1 and paths[0] and not paths[0].startswith("-")
        if not one and not all(not path.startswith("-") and Path(path).exists() for path in paths):
            return words
        if "source" in found:
            found.source = "|".join(paths)
        else:
            found.sources = [*given[:-1], "|".join(paths)]
        return []

    def error(self, message: str) -> NoReturn:
        """See argparse.ArgumentParser; what was typed may hold a password."""
        super().error(mask_text(message))

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        first = next((i for i, word in enumerate(unknown) if word.startswith("-")), 0)
        meant = nearest(unknown[first].partition("=")[0], self._option_string_actions)
        words = " ".join(unknown[first:])  # what stands before may be a source
        self.error("; ".join(filter(None, (f"unrecognized arguments: {words}", meant))))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as fault:
            meant = nearest(str(value), [str(each) for each in action.choices or ()])
            if not meant:
                raise
            raise argparse.ArgumentError(action, f"{fault.message}; {meant}") from None


def add_flags(parser: argparse.ArgumentParser, command: str) -> None:
    """The flags that ``command`` takes. One that is not given is not in the parsed arguments."""
    groups = {
        name: parser.add_argument_group(f"[{name}]", (kind.__doc__ or "").splitlines()[0])
        for name, kind in TABLES.items()
        if any(each.table == name and command in each.key.commands for each in SETTINGS)
    }
    for each in SETTINGS:
        if command in each.key.commands:
            group = groups.get(each.table, parser)
            text = each.key.helps.get(command, each.key.help).replace("%", "%%")
            group.add_argument(
                each.flag, dest=each.path, default=argparse.SUPPRESS, help=text, **_taking(each)
            )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")


def _taking(setting: Setting) -> dict[str, Any]:
    """How argparse reads the values of a key."""
    kind, key = setting.kind, setting.key
    if kind == "bool":
        return {"action": argparse.BooleanOptionalAction}
    if key.choices:
        return {"choices": key.choices}
    words = {"metavar": key.metavar or ("N" if kind in ("int", "float") else setting.name.upper())}
    if kind in ("tuple[str, ...]", "list[str]"):
        return {"action": "append", **words}
    if setting.path == "score":  # a text where it has those of classes
        return {"type": str, **words}
    types = {"int": int, "float": float, "tuple[int, ...]": _numbers}
    return {"type": types.get(kind, str), **words}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,1") from None


def config_of(args: argparse.Namespace) -> Config:
    """The Config of the flags that were given, and of the file that --config names."""
    return make_config(flags_of(args), args.config)


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as flags, by ``key`` or ``table.key``."""
    known = {each.path for each in SETTINGS}
    return {name: value for name, value in vars(args).items() if name in known}


COMMANDS = (
    *("run", "replay", "archive", "bench", "doctor", "discover", "soak", "models", "rules"),
    *("events", "report", "users", "fleet"),
)


def make_parser(command: str) -> argparse.ArgumentParser:
    """All commands; the sub-commands of `models` only for it, as they take long to import."""
    parser = Parser(
        prog=COMMAND,
        description="Kestrel: real-time object detection for edge devices.",
        epilog="Without a command: run; a path or URI in its place, or first after run, is the "
        "source. Exit codes: 0 done or stopped, 2 usage or configuration, 3 source, 4 model, "
        "5 GPU, 6 a verdict failed.",
    )
    parser.add_argument("--version", action="version", version=f"kestrel {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(
        name: str, func: Callable[[argparse.Namespace], int], text: str, usage: str | None = None
    ) -> Parser:
        made: Parser = commands.add_parser(name, usage=usage and f"%(prog)s {usage}", help=text)
        made.set_defaults(func=func)
        return made

    text = "live: a camera, a stream, or a clip at its own pace"
    run = add("run", _run, text, "[SOURCE] [OPTIONS]")
    add_flags(run, "run")

    replay = add("replay", _replay, "every frame of a recording, reproducibly", "CLIP [OPTIONS]")
    replay.add_argument("source", metavar="CLIP", help="a recording; sample: is the bundled clip")
    add_flags(replay, "replay")
    text = "accepted: a replay has no window"
    replay.add_argument("--headless", action="store_true", default=True, help=text)
    text = "list which events of --trace or --before would be new, gone or different"
    replay.add_argument("--what-if", action="store_true", help=text)
    text = "with --what-if: the --events of another replay"
    replay.add_argument("--before", type=Path, metavar="FILE", help=text)
    for each in (run, replay):
        each.takes_sources = True
        text = "check settings and model, run nothing"
        each.add_argument("--check", action="store_true", help=text)

    archive = add("archive", _archive, "all recordings of a folder or list", "CLIPS [OPTIONS]")
    archive.add_argument(
        "clips", metavar="CLIPS", help="a folder, a recording, or a list, a clip a line"
    )
    add_flags(archive, "archive")
    text = "folder of the results; what it has is not done again"
    archive.add_argument("--out", type=Path, required=True, metavar="FOLDER", help=text)
    text = "ray://HOST:10001 or HOST:6379, a Ray cluster; local: processes of this machine"
    archive.add_argument("--cluster", default="local", metavar="ADDRESS", help=text)
    text = "longer clips are cut at key frames into parts of about so long (default: 300)"
    archive.add_argument("--part-s", type=float, default=300.0, metavar="SECONDS", help=text)
    text = "with --cluster local: workers at once (default: one a core)"
    archive.add_argument("--processes", type=int, metavar="N", help=text)
    text = "of a GPU that a worker takes (default: all of it, with an engine of a GPU)"
    archive.add_argument("--gpu-share", type=float, metavar="SHARE", help=text)
    archive.add_argument("--check", action="store_true", help="check it, run nothing")

    bench = add("bench", _bench, "measure this device", "[OPTIONS]")
    add_flags(bench, "bench")
    text = "length of the live and the overload run"
    bench.add_argument("--seconds", type=float, default=10.0, help=text)
    bench.add_argument("--html", type=Path, metavar="FILE", help="a page with plots")
    bench.add_argument("--rounds", type=int, default=5, help="of --sweep and --startup")
    what = bench.add_mutually_exclusive_group()
    text = (
        "throughput with each of several engines, models, precisions, sizes, batches, slots, "
        "workers, threads or transfers, in turn; repeated: with every combination"
    )
    what.add_argument("--sweep", action="append", metavar="KEY=A,B,C", help=text)
    text = "fresh processes: from the command to the first boxes"
    what.add_argument("--startup", action="store_true", help=text)
    text = "how many cameras like the recording it holds: all frames, with the motion gate"
    what.add_argument("--cameras", action="store_true", help=text)
    text = "from a change on the screen to its picture in the window, and where that time goes"
    what.add_argument("--glass", action="store_true", help=text)
    text = "with --cameras: how old a frame may be when its boxes are ready (p99)"
    bench.add_argument("--age-ms", type=float, default=400.0, help=text)
    pair, text = ("A.json", "B.json"), "two reports, side by side"
    what.add_argument("--compare", nargs=2, type=Path, metavar=pair, help=text)

    doctor = add("doctor", _doctor, "what this machine has, what is wrong, and the cures")
    doctor.add_argument("--json", action="store_true", help="for machines")

    text = "cameras here and on the network, as sources"
    found = add("discover", _discover, text)
    if command == "discover":
        from .discover import add_arguments

        add_arguments(found)

    text = "hours of chaos in one verdict: does anything leak or age?"
    soak = add("soak", _soak, text, "(--hours H | --minutes M) [OPTIONS]")
    add_flags(soak, "soak")
    length = soak.add_mutually_exclusive_group(required=True)
    length.add_argument("--hours", type=float, help="at the pace of life: an event a minute")
    length.add_argument("--minutes", type=float, help="accelerated: everything 20 times as often")
    soak.add_argument("--seed", type=int, default=1, help="of the chaos (default: 1)")

    rules = commands.add_parser("rules", help="try the rules of a configuration file")
    kinds = rules.add_subparsers(dest="rules_command", metavar="COMMAND", required=True)
    text = "which rules would have fired in a recording, when and for which track"
    tried = kinds.add_parser("test", usage="%(prog)s CLIP --config FILE [OPTIONS]", help=text)
    tried.add_argument("source", metavar="CLIP", help="a recording; sample: is the bundled clip")
    tried.add_argument("--config", type=Path, metavar="FILE", required=True, help="has [[rule]]s")
    text = "the tables that are about this one of several sources"
    tried.add_argument("--name", metavar="NAME", help=text)
    tried.add_argument("--model", default=argparse.SUPPRESS, help="in place of the file's")
    tried.add_argument("--max-frames", type=int, default=argparse.SUPPRESS, metavar="N")
    tried.add_argument("--json", action="store_true", dest="as_json", help="for machines")
    tried.set_defaults(func=_rules)

    events = commands.add_parser("events", help="what a store holds: list, show, export")
    if command == "events":
        from .events import register as register_events

        register_events(events)
    report = add("report", _report, "how the cameras of a store did on a day")
    if command == "report":
        from .events import add_report_arguments

        add_report_arguments(report)

    users = commands.add_parser(
        "users", help="who may log in to the page: add, list, passwd, remove"
    )
    if command == "users":
        from .users import register as register_users

        register_users(users)
    text = "cameras shared out over several machines: serve, join, add, status, …"
    fleet = commands.add_parser("fleet", help=text)
    if command == "fleet":
        from .fleet import register as register_fleet

        register_fleet(fleet)

    text = "the model shelf: list, info, fetch, add, quantize, evaluate"
    models = commands.add_parser("models", help=text)
    if command == "models":
        from .models import register

        register(models)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of README, "Exit codes"."""
    words = list(sys.argv[1:] if argv is None else argv)
    words = with_command(words)

    def command() -> int:
        args = make_parser(words[0]).parse_args(words)  # a missing extra is told here
        return int(args.func(args))

    return _guarded(command)


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
            _refuse_too_little_memory()
            logging.getLogger().setLevel(_log_level())
            code = command()
            sys.stdout.flush()
            return code
    except KestrelError as error:
        for each in error.each:
            _told(f"error: {each}", error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        forget_interrupt()
        return 0
    except ReaderGone:
        return 0
    except BrokenPipeError:  # `models list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if fault := exhausted(error):
            log.debug("nothing is left", exc_info=True)
            return _told(f"error: {fault}", fault.exit_code)
        if isinstance(error, OSError):
            return _told(f"error: cannot write what there is to say: {error}", SinkError.exit_code)
        log.debug("internal error", exc_info=True)
        kind = type(error).__name__
        return _told(f"internal error: {kind}: {error} (KESTREL_LOG=DEBUG shows where)", 1)


LEAST_MB = 750  # of addresses: with less, libraries crash while they are loaded


def _refuse_too_little_memory() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MB * 1_000_000:
        raise ConfigError(
            f"the address space is limited to {limit // 1_000_000} MB, and {LEAST_MB} MB are the "
            "least: raise the limit (ulimit -v)"
        )


def _told(text: str, code: int) -> int:
    line = f"kestrel: {foreign(text, LONGEST)}"
    sys.stderr.write((journal_line(line, logging.ERROR) if into_journal() else line) + "\n")
    return code


def _log_level() -> str:
    level = os.environ.get("KESTREL_LOG", "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ConfigError(f"KESTREL_LOG is {level!r}; use DEBUG, INFO, WARNING or ERROR")
    return level


def with_command(words: list[str]) -> list[str]:
    """Without a command: ``run``."""
    first = words[0] if words else ""
    if first in (*COMMANDS, "-h", "--help", "--version"):
        command, rest = first, words[1:]
    elif not first or first.startswith("-") or _is_source(first):
        command, rest = "run", words
    else:
        return words  # the parser names the command that was meant
    return [command, *rest]


def _is_source(word: str) -> bool:
    """A path or a URI, not the misspelt name of a command."""
    return not re.fullmatch(r"\w+", word) or Path(word).exists()


def _run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if args.check:
        return _check(config, live=True)
    if config.devices:
        from ..runtime.multi_gpu import run_spread

        return run_spread(config)
    from ..runtime.run import run_live

    return run_live(config, ConfigFile(args.config, flags_of(args)) if args.config else None)


def _replay(args: argparse.Namespace) -> int:
    config = config_of(args)
    if args.check:
        return _check(config, live=False)
    if args.before is not None and not args.what_if:
        raise ConfigError("--before goes with --what-if; add that, or leave it out")
    if args.what_if:
        from .what_if import run_what_if

        return run_what_if(config, before=args.before)
    from ..runtime.run import run_replay

    return run_replay(config)


def _archive(args: argparse.Namespace) -> int:
    from ..archive.run import ArchivePlan, check_archive, run_archive

    how = (args.cluster, args.part_s, args.processes, args.gpu_share)
    plan = ArchivePlan(args.clips, args.out, *how)
    return (check_archive if args.check else run_archive)(config_of(args), plan)


def _check(config: Config, *, live: bool) -> int:
    from ..pipeline.handoff import Policy
    from ..runtime.check import faults_of

    faults = faults_of(config, Policy.LATEST if live else Policy.LOSSLESS)
    for fault in faults:
        log.error("%s", fault)
    if faults:
        return ConfigError.exit_code
    uris = [each.uri for each in parse_sources(config.sources)]
    source = ", ".join(map(mask_credentials, uris or [config.source or ""]))
    source = source or "the first camera, or sample:"
    print(f"sound: {source}, {config.model or 'the default model'}, engine {config.engine}")
    return 0


def _bench(args: argparse.Namespace) -> int:
    if args.compare:
        from .bench.report import compare

        print(compare(*args.compare))
        return 0
    from . import Destination

    config = config_of(args)
    destination = Destination(config.json, args.html)
    if args.sweep:
        from .bench.rounds import run_sweep

        return run_sweep(config, destination, keys=args.sweep, rounds=args.rounds)
    if args.startup:
        from .bench.rounds import run_startup

        return run_startup(config, destination, rounds=args.rounds)
    if args.cameras:
        from .bench.cameras import run_cameras

        return run_cameras(config, destination, age_ms=args.age_ms, seconds=args.seconds)
    if args.glass:
        from .bench.glass import run_glass_bench

        return run_glass_bench(config, destination, seconds=args.seconds)
    from .bench import run_bench

    return run_bench(config, destination, seconds=args.seconds)


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import run_doctor

    return run_doctor(as_json=args.json)


def _discover(args: argparse.Namespace) -> int:
    from .discover import run_discover

    return run_discover(args)


def _rules(args: argparse.Namespace) -> int:
    from .rules import run_rules_test

    return run_rules_test(config_of(args), name=args.name, as_json=args.as_json)


def _report(args: argparse.Namespace) -> int:
    from .events import run_report

    return run_report(args)


def _soak(args: argparse.Namespace) -> int:
    from .soak import run_soak

    fast = args.hours is None
    seconds = args.minutes * 60 if fast else args.hours * 3600
    return run_soak(config_of(args), seconds=seconds, fast=fast, seed=args.seed)
