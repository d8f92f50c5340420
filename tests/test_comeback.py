"""A real run comes back from a real server that is killed, frozen and started again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 40.0  # busy machines take long to start a decoder; scripts/measure_comeback.py measures


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rtsp", "http"])
def test_run_is_live_again_after_each_return(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    if kind == "rtsp":
        probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
        if subprocess.run(["/usr/bin/python3", "-c", probe], capture_output=True).returncode:
            pytest.skip("no GStreamer RTSP server (apt install gir1.2-gst-rtsp-server-1.0)")
    file = tmp_path / "comeback.json"
    words = [kind, "--rounds", "2", "--limit", str(LIMIT_S), "--json", str(file)]
    script = str(ROOT / "scripts/measure_comeback.py")
    done = subprocess.run(
        [sys.executable, script, *words, "--model", str(tiny_model)],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert [played["did"] for played in report["rounds"]] == ["kill", "freeze"]
    for line in ("reconnecting: ", "live: again after"):
        assert done.stderr.count(line) >= 1
    assert "reconnects" in done.stderr
