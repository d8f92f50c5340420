"""A real systemd starts, watches, reloads and gives up our unit as it should.

A user manager in namespaces of its own (process ids, mounts), so that it needs neither to be the
machine's first process nor a session, and nothing outlives the test. `install_service` is the real
one; a drop-in, as users write them, shortens the waits.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shelf_kit import ROOT

MANAGER = Path("/lib/systemd/systemd")
UNSHARE = ["unshare", "--fork", "--pid", "--mount", "--mount-proc", "--kill-child"]
START = """
set -eu
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mkdir /run/systemd/system  # by this a user manager knows that the machine runs systemd
unset DBUS_SESSION_BUS_ADDRESS NOTIFY_SOCKET
export HOME="$1" XDG_CONFIG_HOME="$1/config" XDG_RUNTIME_DIR="$1/run" KESTREL_CACHE="$1/cache"
mkdir -p -m 700 "$XDG_RUNTIME_DIR" "$XDG_CONFIG_HOME"
/lib/systemd/systemd --user >"$1/manager.log" 2>&1 &
for i in $(seq 100); do
    state=$(systemctl --user is-system-running 2>/dev/null || true)
    case $state in running | degraded) break ;; esac
    sleep 0.1
done
echo "manager $state"
"""
RUN = """
cd "$2"
unit=kestrel-tried
folder="$XDG_CONFIG_HOME/systemd/user/$unit.service.d" settings="$1/settings.toml"
mkdir -p "$folder"
printf '[Service]\\nWatchdogSec=8\\nTimeoutAbortSec=2\\nRestartSec=1\\n' >"$folder/quick.conf"
printf 'source = "pattern:?size=64x48&fps=20"\\nmodel = "%s"\\ncanary_s = 1\\n' "$3" >"$settings"
told() { systemctl --user show $unit -p "$1" --value; }
until_is() {  # PROPERTY VALUE
    for i in $(seq 450); do [ "$(told "$1")" = "$2" ] && return; sleep 0.1; done
    echo "$1 is $(told "$1"), not $2"; cat "$HOME/manager.log"; exit 1
}
scripts/install_service --user --name $unit --config "$settings" 2>&1
until_is ActiveState active
echo "started $(told ActiveState) $(told SubState)"
first=$(told MainPID)
printf 'score = 0.5\\n' >>"$settings"
systemctl --user reload $unit
echo "reloaded $(told ActiveState) same=$([ "$(told MainPID)" = "$first" ] && echo yes)"
kill -STOP "$first"
until_is NRestarts 1
until_is ActiveState active
echo "watchdog $(told ActiveState) other=$([ "$(told MainPID)" != "$first" ] && echo yes)"
printf 'sorce = 1\\n' >>"$settings"
kill -KILL "$(told MainPID)"
until_is ActiveState failed
echo "wrong settings $(told Result) $(told ExecMainStatus) restarts $(told NRestarts)"
sed -i /sorce/d "$settings"
systemctl --user reset-failed $unit
systemctl --user start $unit
systemctl --user stop $unit
echo "stopped $(told ActiveState) $(told Result) $(told ExecMainStatus)"
scripts/install_service --user --name $unit --uninstall 2>&1
echo "end"
"""


def in_systemd(script: str, *words: str) -> str:
    done = subprocess.run(
        [*UNSHARE, "bash", "-c", START + script, "bash", *words],
        capture_output=True,
        text=True,
        timeout=150,
    )
    return done.stdout + done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a manager of its own can live; skips, visibly, where there can be none."""
    if not MANAGER.exists() or shutil.which("unshare") is None:
        pytest.skip("no systemd here (apt install systemd)")
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("the unit runs .venv/bin/python: scripts/setup first")
    folder = tmp_path / "trial"
    folder.mkdir()
    told = in_systemd("", str(folder))
    shutil.rmtree(folder)
    folder.mkdir()
    if not told.startswith(("manager running", "manager degraded")):
        pytest.skip(f"systemd cannot run in namespaces here: {' '.join(told.split())[-200:]}")
    return folder


@pytest.mark.slow
def test_a_real_systemd_starts_watches_reloads_and_gives_up(home: Path, tiny_model: Path) -> None:
    told = in_systemd(RUN, str(home), str(ROOT), str(tiny_model))
    lines = told.splitlines()
    assert lines[-1] == "end", told
    for line in (
        "started active running",
        "reloaded active same=yes",
        "watchdog active other=yes",
        "wrong settings exit-code 2 restarts 2",
        "stopped inactive success 0",
    ):
        assert any(each.startswith(line) for each in lines), f"{line}\n{told}"
