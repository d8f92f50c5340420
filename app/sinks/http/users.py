"""People who may use the page: a file of names, roles and passwords, and who is logged in.

A line a person, ``NAME:ROLE:scrypt:N:R:P:SALT:KEY``, salt and key in hexadecimal. The file is read
again when it has changed: who is removed, or gets another password or role, is out at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal, NamedTuple, get_args

from ...core.errors import ConfigError
from ...core.package import COMMAND

Role = Literal["admin", "viewer"]  # changes everything; sees everything
ROLES: tuple[Role, ...] = get_args(Role)
NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
LEAST, LONGEST = 8, 256  # characters of a password
N, R, P = 2**15, 8, 1  # of scrypt: 32 MB, and about 0.1 s
MOST_MEMORY = 2**28  # that a file may ask for
_LINE = re.compile(
    rf"({NAME}):({'|'.join(ROLES)}):scrypt:(\d{{1,7}}):(\d{{1,2}}):(\d{{1,2}}):"
    r"([0-9a-f]{32,128}):([0-9a-f]{64})"
)


class Who(NamedTuple):
    """Who has sent a request, what they may do, and what shows that."""

    name: str
    role: Role
    by: Literal["address", "token", "cookie", "session"]


WHO: ContextVar[Who] = ContextVar("who")  # sends the request under way
CHANGED: ContextVar[str] = ContextVar("changed", default="")  # by it, in words


class User(NamedTuple):
    """One line of the file."""

    name: str
    role: Role
    cost: tuple[int, int, int]  # N, R, P
    salt: str
    key: str

    @classmethod
    def made(cls, name: str, role: Role, password: str) -> User:
        """A person with a new password; raises ConfigError for what is none."""
        if not re.fullmatch(NAME, name):
            raise ConfigError(
                f"{name!r} is no name; use 1 to 64 of letters, digits and . _ @ -, not first a mark"
            )
        if not LEAST <= len(password) <= LONGEST:
            raise ConfigError(f"a password has {LEAST} to {LONGEST} characters; choose another")
        salt = secrets.token_hex(16)
        return cls(name, role, (N, R, P), salt, _derived(password, salt, (N, R, P)))

    def has(self, password: str) -> bool:
        """Whether that is the password; takes about 0.1 s."""
        return hmac.compare_digest(_derived(password, self.salt, self.cost), self.key)

    def line(self) -> str:
        """As it stands in the file."""
        n, r, p = self.cost
        return f"{self.name}:{self.role}:scrypt:{n}:{r}:{p}:{self.salt}:{self.key}"


_NOBODY = User("", "viewer", (N, R, P), "0" * 32, "0" * 64)  # a wrong name takes as long


def _derived(password: str, salt: str, cost: tuple[int, int, int]) -> str:
    n, r, p = cost
    text = password[: LONGEST + 1].encode("utf-8", "surrogatepass")
    made = hashlib.scrypt(
        text, salt=bytes.fromhex(salt), n=n, r=r, p=p, dklen=32, maxmem=MOST_MEMORY
    )
    return made.hex()


class UserFile:
    """The people in ``path``. Raises ConfigError, with the cure, for a file that is not sound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None  # inode, size, time of change
        self._users: dict[str, User] = {}

    def users(self) -> Mapping[str, User]:
        """By name, as the file is now."""
        try:
            found = self.path.stat()
            seen = found.st_ino, found.st_size, found.st_mtime_ns
            if seen == self._seen:
                return self._users
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise ConfigError(
                    f"users of [http]: others may read {self.path}, which holds passwords; "
                    f"chmod 600 {self.path}"
                )
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            told = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"users of [http]: cannot read {self.path}: {told}; make it with "
                f"`{COMMAND} users add NAME --file {self.path}`"
            ) from error
        users: dict[str, User] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            cost = tuple(map(int, match.groups()[2:5])) if match else (0, 0, 0)
            n, r, p = cost
            if match is None or n < 2 or n & (n - 1) or not r or not p or 256 * n * r > MOST_MEMORY:
                raise ConfigError(
                    f"users of [http]: line {number} of {self.path} is no user; take it out, and "
                    f"add the person by `{COMMAND} users add`"
                )
            role: Role = "admin" if match[2] == "admin" else "viewer"
            users[match[1]] = User(match[1], role, (n, r, p), match[6], match[7])
        self._users, self._seen = users, seen
        return users

    def write(self, users: Mapping[str, User]) -> None:
        """These in place of all; the file is replaced at once, and only its owner may read it."""
        part = ""
        try:
            fd, part = tempfile.mkstemp(prefix=f"{self.path.name}.", dir=self.path.parent)
            with os.fdopen(fd, "w", encoding="utf-8") as out:  # made with mode 0600
                out.writelines(f"{user.line()}\n" for user in users.values())
                out.flush()
                os.fsync(fd)
            if self.path.exists():  # a service that runs as somebody else goes on reading it
                with suppress(OSError):
                    found = self.path.stat()
                    os.chown(part, found.st_uid, found.st_gid)
            Path(part).replace(self.path)
        except OSError as error:
            if part:
                Path(part).unlink(missing_ok=True)
            raise ConfigError(
                f"cannot write {self.path}: {error.strerror}; choose another --file"
            ) from error

    def find(self, name: str, password: str) -> User | None:
        """The person with this name and password; as slow for a name that is not there."""
        user = self.users().get(name)
        right = (user or _NOBODY).has(password)
        return user if right else None


# -- who is logged in ------------------------------------------------------------------------------

SESSION_S = 30 * 86_400.0
MOST_SESSIONS = 256


@dataclass(frozen=True, slots=True)
class _Session:
    user: User
    until_s: float


class Sessions:
    """Who is logged in, by the cookie that a browser holds; in memory, so until the run ends."""

    def __init__(self, file: UserFile, *, clock_s: Callable[[], float] = monotonic) -> None:
        self._file, self._clock_s = file, clock_s
        self._held: OrderedDict[str, _Session] = OrderedDict()

    def begin(self, user: User) -> str:
        """The value of a new cookie."""
        value = secrets.token_urlsafe(32)
        self._held[_digest(value)] = _Session(user, self._clock_s() + SESSION_S)
        while len(self._held) > MOST_SESSIONS:
            self._held.popitem(last=False)
        return value

    def user(self, value: str) -> User | None:
        """Whose cookie it is; None where it is over, or the person is not as at login."""
        held = self._held.get(_digest(value))
        if held is None:
            return None
        try:
            same = self._file.users().get(held.user.name) == held.user
        except ConfigError:  # the file has gone: nobody is let in
            same = False
        if same and held.until_s > self._clock_s():
            return held.user
        self.end(value)
        return None

    def end(self, value: str) -> None:
        """Log out."""
        self._held.pop(_digest(value), None)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


# -- wrong passwords -------------------------------------------------------------------------------

FREE, LONGEST_WAIT_S, FORGOTTEN_S = 3, 300.0, 3600.0
MOST_CLIENTS = 4096


class Throttle:
    """Wrong passwords of one address wait longer and longer; other addresses do not."""

    def __init__(self, *, clock_s: Callable[[], float] = monotonic) -> None:
        self._clock_s = clock_s
        self._faults: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, the last

    def wait_s(self, client: str) -> float:
        """Until the next attempt of this address is looked at; 0: now."""
        count, last_s = self._faults.get(client, (0, 0.0))
        if count < FREE:
            return 0.0
        pause_s = min(LONGEST_WAIT_S, 2.0 ** (count - FREE))
        return max(0.0, last_s + pause_s - self._clock_s())

    def failed(self, client: str) -> None:
        """A wrong password."""
        now_s = self._clock_s()
        count, last_s = self._faults.pop(client, (0, now_s))
        self._faults[client] = (1 if now_s - last_s > FORGOTTEN_S else count + 1), now_s
        while len(self._faults) > MOST_CLIENTS:
            self._faults.popitem(last=False)

    def succeeded(self, client: str) -> None:
        """The right one."""
        self._faults.pop(client, None)
