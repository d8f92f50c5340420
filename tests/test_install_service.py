"""scripts/install_service: a unit that systemd accepts, written once, taken away again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "install_service"

SYSTEMCTL = '#!/bin/sh\necho "$*" >>"$SYSTEMCTL_LOG"\n[ -z "$SYSTEMCTL_FAILS" ]\n'


class Home:
    """A user with a home of his own and a systemctl that only notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "systemctl.log"
        self.config = folder / ".config" / "kestrel" / "kestrel.toml"
        self.unit = folder / ".config" / "systemd" / "user" / "kestrel.service"
        tools = folder / "bin"
        tools.mkdir()
        (tools / "systemctl").write_text(SYSTEMCTL)
        (tools / "systemctl").chmod(0o755)
        self.env = {
            **os.environ,
            "HOME": str(folder),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "SYSTEMCTL_LOG": str(self.log),
        }
        self.env.pop("XDG_CONFIG_HOME", None)
        self.env.pop("SUDO_USER", None)

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return subprocess.run(
            [str(SCRIPT), *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={**self.env, **env},
        )

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_it_installs_once_and_again_only_what_changed(home: Home) -> None:
    first = home.run()
    assert first.returncode == 0, first.stderr
    assert home.asked() == [
        "--user daemon-reload",
        "--user --quiet enable kestrel.service",
        "--user --no-block restart kestrel.service",
    ]
    assert home.config.stat().st_mode & 0o777 == 0o600  # it may hold a camera's password
    assert "canary_s = 30" in home.config.read_text()

    again = home.run()
    assert again.returncode == 0 and "up to date" in again.stderr
    assert home.asked() == [
        "--user --quiet enable kestrel.service",
        "--user --no-block start kestrel.service",
    ]

    home.unit.write_text(home.unit.read_text() + "# by hand\n")
    assert home.run().returncode == 0
    assert "# by hand" not in home.unit.read_text()
    assert "--user --no-block restart kestrel.service" in home.asked()


def test_it_is_taken_away_and_the_settings_stay(home: Home) -> None:
    assert home.run().returncode == 0
    done = home.run("--uninstall")
    assert done.returncode == 0 and "the settings stay" in done.stderr
    assert home.asked() == ["--user disable --now kestrel.service", "--user daemon-reload"]
    assert not home.unit.exists() and home.config.exists()
    again = home.run("--uninstall")
    assert again.returncode == 0 and "nothing to do" in again.stderr and not home.asked()


def test_wrong_settings_are_told_and_nothing_is_started(home: Home) -> None:
    settings = home.folder / "k.toml"
    settings.write_text("score = 7\n")
    done = home.run("--config", str(settings))
    assert done.returncode == 2 and "score is 7" in done.stderr
    assert not home.asked() and not home.unit.exists()


def test_settings_are_never_overwritten(home: Home) -> None:
    home.config.parent.mkdir(parents=True)
    home.config.write_text("score = 0.5\n")
    assert home.run().returncode == 0
    assert home.config.read_text() == "score = 0.5\n"


def test_what_systemd_refuses_is_exit_code_1(home: Home) -> None:
    done = home.run(SYSTEMCTL_FAILS="yes")
    assert done.returncode == 1 and "daemon-reload failed" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nonsense"], "--nonsense is unknown"),
        (["--name", "a b"], "letters, digits"),
        (["--name", "../etc"], "letters, digits"),
        (["--config", "a%b.toml"], "another folder"),
        (["--jetson-clocks"], "needs --system"),
        (["--system", "--run-as", "nobody-of-that-name", "--print"], "no such user"),
        (["--system", "--print"], "name a user"),
    ],
)
def test_mistakes_are_exit_code_2(home: Home, words: list[str], told: str) -> None:
    done = home.run(*words)
    assert done.returncode == 2 and told in done.stderr
    assert not home.asked()


def test_help_tells_the_options(home: Home) -> None:
    done = home.run("--help")
    assert done.returncode == 0 and "--uninstall" in done.stdout and "#" not in done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize(
    "words", [["--user"], ["--system", "--run-as", "root", "--name", "porch-camera"]]
)
def test_systemd_accepts_the_unit(home: Home, words: list[str]) -> None:
    printed = home.run(*words, "--print")
    assert printed.returncode == 0 and not home.asked()
    unit = home.folder / "tried.service"
    unit.write_text(printed.stdout)
    scope = ["--user"] if words == ["--user"] else []
    done = subprocess.run(
        ["systemd-analyze", "verify", *scope, str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**home.env, "XDG_RUNTIME_DIR": str(home.folder)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_acts_on_the_exit_codes_and_on_silence(home: Home) -> None:
    unit = home.run("--print").stdout.splitlines()
    for line in (
        *("Type=notify", "NotifyAccess=main", "Restart=on-failure", "RestartPreventExitStatus=2"),
        *("WatchdogSec=90", "ExecReload=/bin/kill -HUP $MAINPID", "StartLimitIntervalSec=0"),
    ):
        assert line in unit
    system = home.run("--system", "--run-as", "root", "--jetson-clocks", "--print").stdout
    assert "User=root" in system and "ExecStartPre=+/usr/bin/jetson_clocks" in system
