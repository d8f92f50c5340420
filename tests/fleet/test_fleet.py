"""A fleet of real processes: server, tokens, nodes and commands."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="no nats-py (pip install -r requirements-fleet.txt)")

from app.commands.cli import main
from app.core.errors import ConfigError, SourceError
from app.fleet.connection import CAMERAS, LEASES, MEMBERS, Credentials, bucket, connect
from app.fleet.security import Secrets, permissions
from app.fleet.server import FleetServer, add_nodes, server_binary
from tests.sinks.kit import ROOT
from tests.sinks.mqtt.broker import free_port, until

URI = "pattern:?size=64x64&fps=10&boxes=1"


@pytest.fixture(scope="module", autouse=True)
def binary():
    try:
        return server_binary()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def serve(tmp_path):
    """A server at this address; stopped at the end."""
    import asyncio

    started = []

    def start(host="127.0.0.1"):
        port = free_port()
        server = (
            FleetServer(tmp_path / "server", listen=f"{host}:{port}", url=f"tls://127.0.0.1:{port}")
            if host != "127.0.0.1"
            else FleetServer(tmp_path / "server", listen=f"{host}:{port}")
        )
        server.start()
        started.append(server)
        asyncio.run(server.prepare())
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def join(tmp_path, tiny_model):
    """A node as a process; its lines, by its name."""
    processes = []

    def start(name, *words):
        out = tmp_path / f"{name}.jsonl"
        command = [sys.executable, "-m", "app", "fleet", "join", *words, "--node", name]
        command += ["--model", str(tiny_model), "--engine", "cpu", "--json", str(out)]
        env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        env["XDG_STATE_HOME"] = str(tmp_path / "state")
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, stderr=log, env=env)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def lines(tmp_path, name):
    file = tmp_path / f"{name}.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def status(url, capsys):
    capsys.readouterr()
    assert main(["fleet", "status", "--json", "--server", url]) == 0
    return json.loads(capsys.readouterr().out)


def test_cameras_are_moved_drained_and_taken_over(serve, join, tmp_path, capsys):
    url = serve().url
    nodes = {name: join(name, url) for name in ("a", "b")}
    until(lambda: set(status(url, capsys)["nodes"]) == {"a", "b"})
    assert main(["fleet", "add", f"door={URI}", "--server", url]) == 0
    until(lambda: lines(tmp_path, "a") or lines(tmp_path, "b"))
    held, other = ("a", "b") if lines(tmp_path, "a") else ("b", "a")
    assert status(url, capsys)["cameras"]["door"]["node"] == held

    assert main(["fleet", "move", "door", other, "--server", url]) == 0
    until(lambda: lines(tmp_path, other))
    assert lines(tmp_path, other)[0]["lease"] > lines(tmp_path, held)[-1]["lease"]

    assert main(["fleet", "drain", other, "--server", url]) == 0
    count = len(lines(tmp_path, held))
    until(lambda: len(lines(tmp_path, held)) > count)
    assert main(["fleet", "drain", other, "--undo", "--server", url]) == 0
    count = len(lines(tmp_path, other))
    until(lambda: len(lines(tmp_path, other)) > count)  # where it was moved to

    lease, count = lines(tmp_path, other)[-1]["lease"], len(lines(tmp_path, held))
    nodes[other].kill()
    until(lambda: len(lines(tmp_path, held)) > count)
    assert lines(tmp_path, held)[-1]["lease"] > lease

    assert main(["fleet", "remove", "door", "--server", url]) == 0
    until(lambda: not status(url, capsys)["cameras"])
    nodes[held].send_signal(signal.SIGTERM)
    assert nodes[held].wait(10) == 0
    with_leases = [line["lease"] for name in "ab" for line in lines(tmp_path, name)]
    assert all(with_leases)


def test_a_node_joins_with_its_token_over_tls_and_not_without(serve, join, tmp_path, capsys):
    server = serve("0.0.0.0")
    [token] = add_nodes(server.folder, ["a"])
    token.save(tmp_path / "a.token")
    assert (tmp_path / "a.token").stat().st_mode & 0o077 == 0
    admin = ["--token", str(server.folder / "admin.token")]
    node = join("a", "--token", str(tmp_path / "a.token"))
    assert main(["fleet", "add", f"door={URI}", *admin]) == 0
    until(lambda: lines(tmp_path, "a"), 30)
    node.send_signal(signal.SIGTERM)
    assert node.wait(10) == 0
    Credentials("a", "wrong", token.ca, token.url).save(tmp_path / "bad.token")
    assert main(["fleet", "status", "--token", str(tmp_path / "bad.token")]) == 3
    other = Secrets.make(token.url)  # the authority of another fleet
    Credentials("a", token.password, other.certificate, token.url).save(tmp_path / "bad.token")
    assert main(["fleet", "status", "--token", str(tmp_path / "bad.token")]) == 3
    logs = "".join(path.read_text() for path in tmp_path.glob("**/*.log"))
    for secret in Secrets.load(server.folder / "tokens.json").users.values():
        assert secret not in logs + capsys.readouterr().err


def test_a_node_may_write_its_own_membership_and_no_camera(serve):
    import asyncio

    server = serve("0.0.0.0")
    [token] = add_nodes(server.folder, ["a"])

    async def attempt():
        link = await connect(token.url, token, name="a")
        try:
            members = await bucket(link.js, MEMBERS)
            assert await members.put("node.a", b"{}") > 0
            assert await (await bucket(link.js, LEASES)).put("door", b"{}") > 0
            for kv, key in ((members, "node.b"), (await bucket(link.js, CAMERAS), "door")):
                with pytest.raises(Exception):  # noqa: B017 - nobody answers
                    await kv.put(key, b"{}")
        finally:
            await link.client.close()

    until(lambda: _may_connect(token), 10)
    asyncio.run(attempt())


def _may_connect(token):
    """The server takes new users up a moment after the signal."""
    import asyncio

    async def attempt():
        await (await connect(token.url, token, name="a")).client.close()

    try:
        asyncio.run(attempt())
    except SourceError:
        return False
    return True


def test_a_connection_beyond_this_machine_needs_a_token():
    import asyncio

    with pytest.raises(ConfigError, match="token"):
        asyncio.run(connect("nats://10.1.2.3:4222", None, name="x"))


def test_no_two_nodes_may_answer_for_each_other():
    mine = permissions("a")
    assert all("b" not in word.split(".") for word in mine["publish"]["allow"])
    own = ["kestrel.node.a", "kestrel.node.a.picture"]
    assert mine["subscribe"]["allow"] == ["_INBOX_a.>", *own, "kestrel.nodes"]


def test_the_certificate_is_trusted_by_its_own_fleet_alone():
    secrets = Secrets.make("tls://x:1")
    context = ssl.create_default_context(cadata=secrets.certificate)
    assert len(context.get_ca_certs()) == 1
    assert secrets.key not in repr(secrets)


@pytest.mark.parametrize(
    "words",
    [
        ["add", "door"],
        ["add", "do.or=pattern:"],
        ["add", "door=nonsense://x"],
        ["join", "nats://127.0.0.1:1", "--source", "pattern:"],
        ["join", "nats://127.0.0.1:1", "--capacity", "many"],
        ["join", "nats://127.0.0.1:1", "--node", "a.b"],
        ["serve", "--listen", "nowhere"],
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(words):
    assert main(["fleet", *words]) in (2, 3)


def test_capacity_comes_from_a_report_of_bench(tmp_path: Path):
    from app.commands.fleet import _capacity

    file = tmp_path / "bench.json"
    file.write_text(json.dumps({"modes": {"all": {"cameras": 3}, "gate": {"cameras": 9}}}))
    assert _capacity(str(file)) == 3
    assert _capacity("2.5") == 2.5
