"""``users``: the people who may log in to the page."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

from ..config import read_config_file
from ..core.errors import ConfigError
from ..sinks.http.users import ROLES, Role, User, UserFile


def register(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of ``users``."""
    kinds = parser.add_subparsers(dest="users_command", metavar="COMMAND", required=True)
    texts = {
        "add": "let somebody in; the password is asked for, or read from standard input",
        "passwd": "another password; who is logged in with the old one is out",
        "remove": "let somebody in no longer",
        "list": "names and roles",
    }
    for name, text in texts.items():
        made = kinds.add_parser(name, help=text)
        if name != "list":
            made.add_argument("name", metavar="NAME")
        if name == "add":
            role = "admin (the first one's default): may change everything; viewer: nothing"
            made.add_argument("--role", choices=ROLES, help=role)
        where = made.add_mutually_exclusive_group(required=True)
        where.add_argument("--file", type=Path, metavar="FILE", help="the file of people")
        where.add_argument(
            "--config", type=Path, metavar="FILE", help="settings that name it: [http] users"
        )
        made.set_defaults(func=run_users)


def run_users(args: argparse.Namespace) -> int:
    """One of the sub-commands; raises ConfigError."""
    file = UserFile(_path_of(args))
    first = args.users_command == "add" and not file.path.exists()
    users = {} if first else dict(file.users())
    if args.users_command == "list":
        for user in users.values():
            print(f"{user.name}\t{user.role}")
        return 0
    known = users.get(args.name)
    if args.users_command == "add" and known is not None:
        raise ConfigError(f"{args.name} is in {file.path} already; `users passwd` changes that")
    if args.users_command != "add" and known is None:
        there = ", ".join(users) or "nobody"
        raise ConfigError(f"{args.name!r} is not in {file.path}; there is {there}")
    if args.users_command == "remove":
        del users[args.name]
    else:
        role: Role = known.role if known else args.role or ("viewer" if users else "admin")
        User.made(args.name, role, "x" * 8)  # a name that is none is told before the password
        users[args.name] = User.made(args.name, role, _password())
    file.write(users)
    left = "" if any(user.role == "admin" for user in users.values()) else "; nobody is an admin"
    print(f"{file.path}: {len(users)} user{'s' * (len(users) != 1)}{left}")
    return 0


def _path_of(args: argparse.Namespace) -> Path:
    if args.file is not None:
        return Path(args.file)
    path = read_config_file(args.config).get("http", {}).get("users")
    if path is None:
        raise ConfigError(f"{args.config} names no file of people; set users in [http]")
    return Path(path)


def _password() -> str:
    """From the terminal, twice; else the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ConfigError("the two passwords differ; try again")
    return password
