"""How is a command run, and with which exit code does it end?"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from app.config import Config, make_config
from app.credentials import mask_text
from app.errors import ConfigError, KestrelError, ReaderGone, SinkError
from app.flags import make_parser
from app.service.journal import configure_logging, into_journal, journal_line
from app.signals import forget_interrupt, interrupting

log = logging.getLogger(__name__)


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
    from app.tools.run import run_live
    from app.tools.spread import receive_share

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
        from app.tools.spread import run_spread

        return run_spread(config)
    from app.tools.run import run_live

    return run_live(config, reload=partial(_config, args) if args.config else None)


def _replay(args: argparse.Namespace) -> int:
    config = _config(args)
    if args.check:
        return _check(config, live=False)
    from app.tools.run import run_replay

    return run_replay(config)


def _check(config: Config, *, live: bool) -> int:
    from app.handoff import Policy
    from app.tools.check import check

    return check(config, Policy.LATEST if live else Policy.LOSSLESS)


def _bench(args: argparse.Namespace) -> int:
    if args.compare:
        from app.tools.bench.compare import run_compare

        return run_compare(*args.compare)
    from app.tools.bench.report import Destination

    config, destination = _config(args), Destination(args.json, args.html)
    if args.sweep:
        from app.tools.bench.sweep import run_sweep

        return run_sweep(config, destination, keys=args.sweep, rounds=args.rounds)
    if args.startup:
        from app.tools.bench.startup import run_startup

        return run_startup(config, destination, rounds=args.rounds)
    from app.tools.bench.run import run_bench

    return run_bench(config, destination, seconds=args.seconds)


def _doctor(args: argparse.Namespace) -> int:
    from app.tools.doctor import run_doctor

    return run_doctor(as_json=args.json)


def _soak(args: argparse.Namespace) -> int:
    from app.tools.soak import run_soak

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
