"""The fleet's NATS server as a child process: its folder, its configuration, its buckets."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

from nats.js.kv import KeyValue

from ..core.errors import ConfigError, SourceError
from ..core.package import pip_install
from .connection import CAMERAS, LEASES, MEMBERS, NODES, Credentials, Link, bucket, connect
from .duties import make_data
from .leases import TTL_S
from .security import ADMIN, Secrets

log = logging.getLogger(__name__)

PORT = 4222
START_S = 10.0
EXPIRY_S = 0.25  # that an entry outlives its TTL on the server, as measured
TOKENS, ADMIN_TOKEN = "tokens.json", "admin.token"


def server_binary() -> str:
    """The bundled server, or one in PATH; raises ConfigError."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise ConfigError(f"there is no nats-server here; {pip_install('fleet')}")
    return found


class FleetServer:
    """nats-server with JetStream in ``folder``. Outside loopback with TLS and a user for each node.

    ``listen``: HOST:PORT. ``url``: how nodes reach it, for the token files; "" is what ``listen``
    says.
    """

    def __init__(self, folder: Path, *, listen: str, url: str = "") -> None:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"--listen is HOST:PORT such as 0.0.0.0:{PORT}, is {listen!r}")
        self.folder, self._listen = folder, listen
        self.is_secure = host not in ("127.0.0.1", "localhost", "[::1]")
        if not url:
            name = os.uname().nodename if host in ("0.0.0.0", "[::]") else host
            url = f"{'tls' if self.is_secure else 'nats'}://{name}:{port}"
        self.url = url
        self._process: subprocess.Popen[bytes] | None = None
        self.secrets: Secrets | None = None

    def start(self) -> None:
        """Start it and wait until it listens; raises ConfigError."""
        binary = server_binary()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.is_secure:
            tokens = self.folder / TOKENS
            if tokens.exists():
                self.secrets = Secrets.load(tokens)
                self.secrets.url = self.url
            else:
                self.secrets = Secrets.make(self.url)
            self.secrets.save(tokens)
            self.secrets.token(ADMIN).save(self.folder / ADMIN_TOKEN)
        configuration = write_configuration(self.folder, self._listen, self.secrets)
        with (self.folder / "server.log").open("ab") as out:
            self._process = subprocess.Popen(
                [binary, "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C is for the one that waits for it
            )
        (self.folder / "server.pid").write_text(str(self._process.pid))

    @property
    def credentials(self) -> Credentials | None:
        """Of who may do everything."""
        return None if self.secrets is None else self.secrets.token(ADMIN)

    @property
    def local_url(self) -> str:
        """How this machine reaches it."""
        host, _, port = self._listen.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
        return f"{urlsplit(self.url).scheme}://{host}:{port}"

    async def prepare(self, *, ttl_s: float = TTL_S) -> None:
        """Make the buckets, once it listens; raises ConfigError where it does not."""
        until_s = monotonic() + START_S
        while True:
            if (code := self.poll()) is not None:
                raise ConfigError(
                    f"nats-server has ended with exit code {code}; {self.folder / 'server.log'} "
                    "says why (is the port taken?)"
                )
            try:
                link = await connect(self.local_url, self.credentials, name="serve")
                break
            except SourceError:
                if monotonic() > until_s:
                    raise
                sleep(0.1)
        try:
            await make_all(link, ttl_s=ttl_s)
        finally:
            await link.client.close()

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with suppress(FileNotFoundError):
            (self.folder / "server.pid").unlink()


async def make_all(link: Link, *, ttl_s: float = TTL_S) -> None:
    """All that a fleet keeps on its server; for who has the right to it."""
    await make_buckets(link, ttl_s=ttl_s)
    await make_data(link.js)


async def make_buckets(link: Link, *, ttl_s: float = TTL_S) -> dict[str, KeyValue]:
    """What a fleet keeps on its server, by name, made where it is not there yet."""
    return {
        MEMBERS: await bucket(link.js, MEMBERS, ttl_s=ttl_s - EXPIRY_S),
        LEASES: await bucket(link.js, LEASES),
        CAMERAS: await bucket(link.js, CAMERAS, history=16),
        NODES: await bucket(link.js, NODES),
    }


def write_configuration(folder: Path, listen: str, secrets: Secrets | None) -> Path:
    """nats-server's configuration file, for its owner alone."""
    told: dict[str, object] = {
        "listen": listen,
        "server_name": "kestrel-fleet",
        # what a power cut of this machine may take back; "always" would wear out a memory card
        "jetstream": {"store_dir": str((folder / "store").absolute()), "sync_interval": "1s"},
        "max_control_line": 16384,
    }
    if secrets is not None:
        for name, text in (("server.key", secrets.key), ("server.pem", secrets.certificate)):
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(text, "utf-8")
        told["tls"] = {
            "cert_file": str((folder / "server.pem").absolute()),
            "key_file": str((folder / "server.key").absolute()),
        }
        told["accounts"] = {"KESTREL": {"jetstream": "enabled", "users": secrets.accounts()}}
    file = folder / "nats.conf"
    file.touch(mode=0o600)
    file.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return file


def add_nodes(folder: Path, nodes: list[str]) -> list[Credentials]:
    """Tokens of these nodes; a server that runs takes them up at once."""
    secrets = Secrets.load(folder / TOKENS)
    made = [secrets.token(node) for node in nodes]
    secrets.save(folder / TOKENS)
    configuration = folder / "nats.conf"
    if configuration.exists():
        listen = str(json.loads(configuration.read_text("utf-8"))["listen"])
        write_configuration(folder, listen, secrets)
        with suppress(OSError, ValueError):  # it may not run
            os.kill(int((folder / "server.pid").read_text()), signal.SIGHUP)
    return made
