"""People with passwords: their file, who is let in, and how long who guesses waits."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

import app.sinks.http.users as users_of
from app.commands.cli import main
from app.core.errors import ConfigError
from app.sinks.http.guard import parse_address
from app.sinks.http.users import Sessions, Throttle, User, UserFile
from tests.certificates import certificates
from tests.sinks.http.kit import Site, filters, shapes, site

PASSWORD = "correct horse"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_of, "N", 2**10)
    monkeypatch.setattr(users_of, "_NOBODY", User.made("nobody", "viewer", "x" * 8))


@pytest.fixture
def file(tmp_path: Path) -> UserFile:
    made = UserFile(tmp_path / "users")
    people = {"anna": "admin", "bob": "viewer"}
    made.write({name: User.made(name, role, PASSWORD) for name, role in people.items()})
    return made


@pytest.fixture
def made(file: UserFile) -> Iterator[Site]:
    with site("0.0.0.0:0", users=file, shapes=shapes(), filters=filters()) as running:
        yield running


def log_in(made: Site, name: str, password: str = PASSWORD, **more: str) -> tuple[int, str, dict]:
    """Status, cookie and headers."""
    form = urlencode({"name": name, "password": password, **more}).encode()
    status, _, headers = made.post("/login", form)
    return status, headers.get("set-cookie", "").partition(";")[0], headers


# -- the file --------------------------------------------------------------------------------------


def test_the_file_tells_no_password_and_only_its_owner_reads_it(file: UserFile) -> None:
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    text = file.path.read_text()
    assert PASSWORD not in text and "anna:admin:scrypt:" in text
    anna = file.users()["anna"]
    assert anna.has(PASSWORD) and not anna.has(PASSWORD + "x")
    assert User.made("anna", "admin", PASSWORD).key != anna.key, "another salt each time"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_may_read_is_refused_with_the_cure(file: UserFile, mode: int) -> None:
    file.path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        UserFile(file.path).users()


@pytest.mark.parametrize(
    "line",
    [
        "anna",
        "anna:root:scrypt:1024:8:1:" + "0" * 32 + ":" + "0" * 64,
        "anna:admin:scrypt:1000:8:1:" + "0" * 32 + ":" + "0" * 64,  # no power of two
        "anna:admin:scrypt:8388608:99:99:" + "0" * 32 + ":" + "0" * 64,  # gigabytes
        "anna:admin:md5:1024:8:1:" + "0" * 32 + ":" + "0" * 64,
    ],
)
def test_a_damaged_line_is_told(file: UserFile, line: str) -> None:
    file.path.write_text(line + "\n")
    with pytest.raises(ConfigError, match="line 1"):
        UserFile(file.path).users()


def test_nobody_at_all_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "users"
    with pytest.raises(ConfigError, match="users add"):
        parse_address("80", users=UserFile(empty))
    empty.touch(mode=0o600)
    with pytest.raises(ConfigError, match="users add"):
        parse_address("80", users=UserFile(empty))


def test_the_command_adds_changes_lists_and_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str, password: str = "") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
        return main(["users", *words])

    path = tmp_path / "people"
    config = tmp_path / "x.toml"
    config.write_text(f"[http]\nusers = '{path}'\n")
    assert run("add", "anna", "--file", str(path), password="a" * 8) == 0
    assert run("add", "bob", "--config", str(config), password="b" * 8) == 0
    assert run("add", "bob", "--file", str(path), password="b" * 8) == 2, "there already"
    assert run("add", "eve", "--file", str(path), password="short") == 2
    assert run("add", "a:b", "--file", str(path), password="c" * 8) == 2
    assert run("passwd", "bob", "--file", str(path), password="d" * 8) == 0
    assert run("passwd", "eve", "--file", str(path), password="d" * 8) == 2
    capsys.readouterr()
    assert run("list", "--file", str(path)) == 0
    assert capsys.readouterr().out == "anna\tadmin\nbob\tviewer\n"
    assert UserFile(path).find("bob", "d" * 8) and not UserFile(path).find("bob", "b" * 8)
    assert run("remove", "anna", "--file", str(path)) == 0
    assert "nobody is an admin" in capsys.readouterr().out


# -- over HTTP -------------------------------------------------------------------------------------


def test_nothing_is_told_before_the_login(made: Site) -> None:
    made.feed()
    for path in ("/", "/settings", "/healthz", "/api/v1/zones", "/api/v1/openapi.json"):
        assert made.get(path)[0] == 401
    status, page, headers = made.get("/settings?a=1", Accept="text/html")
    assert status == 401 and b'name="password"' in page and b'name="token"' not in page
    assert b'value="/settings?a=1"' in page and "form-action 'self'" in str(headers)


def test_a_login_leads_to_where_one_was_going(made: Site) -> None:
    status, cookie, headers = log_in(made, "anna", next="/settings?a=1")
    assert status == 303 and headers["location"] == "/settings?a=1"
    limits = set(headers["set-cookie"].split("; ")[1:])
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= limits and "Secure" not in limits
    told = json.loads(made.get("/api/v1/session", Cookie=cookie)[1])
    assert told == {"name": "anna", "role": "admin", "by": "session"}
    assert made.get("/login", Cookie=cookie)[2]["location"] == "/"


@pytest.mark.parametrize("to", ["//evil.example/", "/\\evil.example", "\t//evil.example", ""])
def test_a_login_leads_nowhere_else(made: Site, to: str) -> None:
    location = log_in(made, "anna", next=to)[2]["location"]
    assert location.startswith("/") and location[1:2] not in ("/", "\\")


def test_who_logs_out_or_is_removed_is_out(made: Site, file: UserFile) -> None:
    first, second = (log_in(made, "anna")[1] for _ in range(2))
    third = log_in(made, "bob")[1]
    status, _, headers = made.get("/api/v1/session", "DELETE", Cookie=first, **{"X-Kestrel": "1"})
    assert status == 200 and "Max-Age=0" in headers["set-cookie"]
    assert made.get("/api/v1/session", Cookie=first)[0] == 401, "also who has kept the cookie"
    assert made.get("/api/v1/session", Cookie=second)[0] == 200
    people = dict(file.users())
    file.write({"anna": User.made("anna", "admin", "another one"), "bob": people["bob"]})
    assert made.get("/api/v1/session", Cookie=second)[0] == 401, "the password is another"
    assert made.get("/api/v1/session", Cookie=third)[0] == 200
    file.path.unlink()
    assert made.get("/api/v1/session", Cookie=third)[0] == 401
    assert log_in(made, "anna")[0] == 401


def test_roles_and_pages_of_others(made: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    anna, bob = (log_in(made, name)[1] for name in ("anna", "bob"))
    host = f"127.0.0.1:{made.port}"
    own = {"Origin": f"http://{host}", "Host": host, **JSON}

    def put(cookie: str, **headers: str) -> int:
        return made.get("/api/v1/filters", "PUT", b"{}", Cookie=cookie, **headers)[0]

    assert put(anna, **own) == 200 and put(anna, **JSON, **{"X-Kestrel": "1"}) == 200
    assert put(bob, **own) == 403, "who may only look"
    assert json.loads(made.get("/api/v1/zones", Cookie=bob)[1])["fixed"]
    assert put(anna, **JSON) == 403, "a cookie alone is not enough"
    for foreign in ("http://evil.example", "null", "http://[", f"https://{host}.evil.example"):
        assert put(anna, **{**own, "Origin": foreign, "X-Kestrel": "1"}) == 403
        form = urlencode({"name": "anna", "password": PASSWORD}).encode()
        assert made.post("/login", form, {"Origin": foreign})[0] == 403
    assert put(anna, **JSON, **{"X-Kestrel": "1", "Sec-Fetch-Site": "cross-site"}) == 403
    told = [r.getMessage() for r in caplog.records if "audit" in r.getMessage()]
    assert any("anna (admin) at 127.0.0.1: login" in line for line in told)
    assert sum("PUT /api/v1/filters" in line and "anna" in line for line in told) == 2
    assert PASSWORD not in caplog.text


def test_machines_have_tokens_beside_people(file: UserFile) -> None:
    tokens = {"token": "the-right-token", "view_token": "only-to-look"}
    with site("0.0.0.0:0", users=file, filters=filters(), **tokens) as made:
        page = made.get("/", Accept="text/html")[1]
        assert b'name="password"' in page and b'name="token"' in page
        for token, status in (("the-right-token", 200), ("only-to-look", 403)):
            sent = {"Authorization": f"Bearer {token}", **JSON}
            assert made.get("/api/v1/filters", "PUT", b"{}", **sent)[0] == status
            assert made.post("/login", f"token={token}".encode())[0] == 303
        assert log_in(made, "anna")[0] == 303


def test_over_tls_the_cookie_is_for_tls_only(file: UserFile, tmp_path: Path) -> None:
    import http.client
    import ssl

    certificates(tmp_path, "right")
    files = {"cert_file": str(tmp_path / "server.pem"), "key_file": str(tmp_path / "server.key")}
    with site(users=file, **files) as made:
        context = ssl.create_default_context(cafile=str(tmp_path / "right.pem"))
        connection = http.client.HTTPSConnection("localhost", made.port, context=context)
        form = urlencode({"name": "anna", "password": PASSWORD})
        connection.request(
            "POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        cookie = connection.getresponse().getheader("Set-Cookie") or ""
        connection.close()
    assert cookie.startswith("__Host-") and "Secure" in cookie


# -- guessing --------------------------------------------------------------------------------------


def test_who_guesses_waits_longer_and_longer_and_others_do_not() -> None:
    now_s = 100.0
    throttle = Throttle(clock_s=lambda: now_s)
    waits = []
    for _ in range(12):
        throttle.failed("1.2.3.4")
        waits.append(throttle.wait_s("1.2.3.4"))
        now_s += waits[-1]
    assert waits[:2] == [0, 0] and waits == sorted(waits)
    assert 1 <= waits[2] <= 2 and waits[-1] == users_of.LONGEST_WAIT_S
    assert throttle.wait_s("5.6.7.8") == 0
    throttle.failed("1.2.3.4")
    assert throttle.wait_s("1.2.3.4") > 0
    throttle.succeeded("1.2.3.4")
    assert throttle.wait_s("1.2.3.4") == 0
    now_s += 2 * users_of.FORGOTTEN_S
    for i in range(2 * users_of.MOST_CLIENTS):
        throttle.failed(str(i))
    assert len(throttle._faults) <= users_of.MOST_CLIENTS


def test_the_right_password_from_elsewhere_still_works(made: Site) -> None:
    for _ in range(users_of.FREE):
        assert log_in(made, "anna", "wrong password")[0] == 401
    status, _, headers = log_in(made, "anna")
    assert status == 429 and int(headers["retry-after"]) >= 1, "not even looked at"
    import http.client

    other = http.client.HTTPConnection(
        "127.0.0.1", made.port, source_address=("127.0.0.2", 0), timeout=20
    )
    form = urlencode({"name": "anna", "password": PASSWORD})
    other.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
    assert other.getresponse().status == 303
    other.close()


def test_sessions_end_and_are_bounded(file: UserFile) -> None:
    now_s = 0.0
    sessions = Sessions(file, clock_s=lambda: now_s)
    anna = file.users()["anna"]
    first = sessions.begin(anna)
    assert sessions.user(first) == anna and sessions.user(first + "x") is None
    now_s = users_of.SESSION_S + 1
    assert sessions.user(first) is None
    kept = [sessions.begin(anna) for _ in range(users_of.MOST_SESSIONS + 1)]
    assert sessions.user(kept[0]) is None and sessions.user(kept[-1]) == anna
