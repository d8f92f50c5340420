"""Which broker is meant; a password is never repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import ConfigError
from app.sinks.mqtt import parse_address


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "prefix"),
    [
        ("mqtt://host", "host", 1883, False, "kestrel"),
        ("mqtts://host/a/b/", "host", 8883, True, "a/b"),
        ("mqtt://u:p@host:99/door", "host", 99, False, "door"),
        ("mqtts://[::1]:1/x", "::1", 1, True, "x"),
    ],
)
def test_urls(url: str, host: str, port: int, tls: bool, prefix: str) -> None:
    address = parse_address(url)
    assert (address.host, address.port, address.tls, address.prefix) == (host, port, tls, prefix)


@pytest.mark.parametrize(("text", "password"), [("p%40ss", "p@ss"), ("p@s/s", "p@s/s"), ("", "")])
def test_passwords_quoted_or_raw(text: str, password: str) -> None:
    address = parse_address(f"mqtt://me:{text}@host/x")
    assert (address.user, address.password, address.host) == ("me", password, "host")
    assert not password or (password not in address.name and password not in repr(address))


@pytest.mark.parametrize(
    "url",
    [
        "host",
        "http://u:SECRET@host",
        "mqtt://",
        "mqtt://h:x",
        "mqtt://h:99999",
        "mqtt://SECRET@h/a/#",
        "mqtt://u:SECRET@h/+",
        "mqtt://h/x?SECRET=1",
        "mqtt://[SECRET",
        "",
    ],
)
def test_what_is_no_broker_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="--mqtt") as told:
        parse_address(url)
    assert "SECRET" not in str(told.value)


def test_the_spool_lies_in_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = parse_address("mqtt://u:p@h/x"), parse_address("mqtt://h/y")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/kestrel:/other")
    assert one.default_spool().parent == Path("/var/lib/kestrel")
    assert one.default_spool() != two.default_spool() and one.client_id() != two.client_id()
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert one.default_spool().parent == Path("/state/kestrel")
