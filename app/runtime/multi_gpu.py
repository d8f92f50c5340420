"""Sources spread over several GPUs, one process each, and their results made one stream.

One process a device, as contexts, memory and faults of one GPU are then no concern of the others.
Each runs its share of the sources as any run does; JSON lines come together here, whole, in the
order in which they are ready. What is written by source (recordings, clips, topics) needs no
bringing together.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import IO, Any

from ..config import Config, NamedSource, parse_sources
from ..core.errors import ConfigError, ReaderGone, SinkError
from ..core.package import child_command
from ..ops.signals import noting
from ..sinks.json_lines import LinesFile

log = logging.getLogger(__name__)

STOP_S = 5.0  # a share that does not end is killed
VISIBLE = "CUDA_VISIBLE_DEVICES"


def shares_of(
    sources: Sequence[NamedSource], devices: Sequence[int]
) -> dict[int, tuple[NamedSource, ...]]:
    """Source after source to device after device; a device without a source has no share."""
    count = len(devices)
    shares = {device: tuple(sources[i::count]) for i, device in enumerate(devices)}
    return {device: share for device, share in shares.items() if share}


def tables_of(config: Config, share: Sequence[NamedSource]) -> dict[str, Any]:
    """Zones, lines, masks, rules and filters without those of sources that are not in the share."""
    known = {None, *(each.name for each in share)}
    recorded = ((each.name, config.record_source(each.name)) for each in share)
    return {
        "record_sources": tuple(f"{name}={uri}" for name, uri in recorded if uri),
        **{
            key: tuple(row for row in getattr(config, key) if row.get("source") in known)
            for key in ("zone", "line", "mask", "rule", "filter")
        },
    }


def refuse_unspreadable(config: Config) -> None:
    """Raise ConfigError for what one process has and several, of ``devices``, do not."""
    if config.devices and config.http.address is not None:
        raise ConfigError("--http serves one process; leave it out, or leave --devices out")
    if config.devices and config.events.path is not None:
        raise ConfigError("--events is of one process; leave it out, or leave --devices out")
    if config.devices and config.store.path is not None:
        raise ConfigError("--store is written by one process; leave it out, or leave --devices out")
    if config.devices and config.max_frames is not None:
        raise ConfigError("--max-frames counts in one process; leave it out with --devices")


def run_spread(config: Config) -> int:
    """The exit code of the first share that fails; the others run to their own end."""
    refuse_unspreadable(config)
    lines = None if config.json is None else _Lines(config.json, overwrite=config.overwrite)
    processes: dict[int, subprocess.Popen[bytes]] = {}
    readers: list[threading.Thread] = []
    shares = shares_of(parse_sources(config.sources), config.devices)
    with noting() as heard:

        def ending() -> bool:
            return heard.stop or (lines is not None and lines.failed)

        try:
            for device, share in shares.items():
                names = ", ".join(each.name for each in share)
                log.info("device %d: source%s %s", device, "s" * (len(share) > 1), names)
                own = replace(
                    config,
                    sources=tuple(f"{name}={uri}" for name, uri in share),
                    devices=(),
                    headless=True,
                    json=None if lines is None else "-",
                    **tables_of(config, share),
                )
                processes[device] = process = _start(own, device)
                if lines is not None and process.stdout is not None:
                    copy = partial(lines.copy, process.stdout)
                    readers.append(threading.Thread(target=copy, daemon=True))
                    readers[-1].start()
            codes = _wait(list(processes.values()), ending)
        finally:
            for process in processes.values():
                process.kill()
            for reader in readers:
                reader.join(STOP_S)
            for process in processes.values():
                _close(process)
    if lines is not None:
        lines.close()
    for device, code in zip(processes, codes, strict=True):
        if code:
            log.error("device %d: its process ended with exit code %d", device, code)
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


class _Lines:
    """One file of lines that several processes give; whole lines only."""

    def __init__(self, target: str, *, overwrite: bool) -> None:
        self._file, self._lock = LinesFile(target, overwrite=overwrite), threading.Lock()
        self._file.open()
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Nobody reads them, or they cannot be written: the shares are to end."""
        return self._error is not None

    def copy(self, stream: IO[bytes]) -> None:
        """A share's lines, until it ends; on a thread of its own."""
        for line in stream:
            if not line.endswith(b"\n"):
                return  # its writer was killed
            with self._lock:
                if self._error is not None:
                    return
                try:
                    self._file.write(line[:-1].decode())
                except (ReaderGone, SinkError) as error:
                    self._error = error

    def close(self) -> None:
        """Raises what kept the lines from being written."""
        if self._error is not None:
            raise self._error
        self._file.close()


def _start(config: Config, device: int) -> subprocess.Popen[bytes]:
    seen = os.environ.get(VISIBLE, "")  # devices are counted among those that we are given
    names = [name.strip() for name in seen.split(",") if name.strip()]
    visible = names[device] if device < len(names) else str(device)
    process = subprocess.Popen(
        child_command("commands.cli:share"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if config.json else None,
        env={**os.environ, VISIBLE: visible},
        start_new_session=True,  # Ctrl-C is for the one that spreads
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # its exit code will tell
        pickle.dump(config, process.stdin)
        process.stdin.flush()
    return process


def _wait(processes: Sequence[subprocess.Popen[bytes]], ending: Callable[[], bool]) -> list[int]:
    """Their exit codes. Once ``ending`` says so all are asked to stop, and killed after STOP_S."""
    end_s: float | None = None
    while running := [process for process in processes if process.poll() is None]:
        with suppress(subprocess.TimeoutExpired):
            running[0].wait(0.1)
        if end_s is None and ending():
            end_s = monotonic() + STOP_S
            for process in running:
                process.terminate()
        elif end_s is not None and monotonic() > end_s:
            for process in running:
                process.kill()
    # one that was asked while it was still starting has ended as it should
    asked = {-signal.SIGTERM} if end_s is not None else set()
    return [0 if process.returncode in asked else process.returncode for process in processes]


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def receive_share() -> Config:
    """In a share's process: its configuration, on standard input, whose end ends the run."""
    try:
        config: Config = pickle.load(sys.stdin.buffer)  # of our own parent
    except EOFError:  # which is gone already
        raise KeyboardInterrupt from None

    def follow_parent() -> None:
        os.read(0, 1)  # past the buffer, whose lock the interpreter wants at its end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow_parent, daemon=True).start()
    return config
