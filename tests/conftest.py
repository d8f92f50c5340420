"""What all tests share: Hypothesis without clocks, and where the real models and clips are."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from app.sources.base import load_cv2

# OpenCV's FFmpeg takes its log level at the first capture of a process, whichever test that is:
# let it be as in the application, which goes through here.
load_cv2()

# Whoever starts the tests with nohup must not change what a hang-up does to what they start.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# How long an example takes tells of the machine and its load, not of the code.
settings.register_profile("kestrel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kestrel")

ROOT = Path(__file__).parents[1]
ASSETS = Path(os.environ.get("KESTREL_ASSETS", ROOT.parent / "shared" / "assets"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: parallel workers, which take a file each, end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and clips; skips, visibly, where it is absent."""
    if not (ASSETS / "MANIFEST.json").is_file():
        pytest.skip(f"no real models and clips at {ASSETS} (KESTREL_ASSETS names another place)")
    return ASSETS


@pytest.fixture(scope="session")
def asset_manifest(assets: Path) -> dict[str, Any]:
    """MANIFEST.json of the assets."""
    manifest: dict[str, Any] = json.loads((assets / "MANIFEST.json").read_text())
    return manifest


@pytest.fixture
def mirror(assets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights come from the assets instead of the network."""
    monkeypatch.setenv("KESTREL_MODEL_MIRROR", str(assets / "models"))
    return assets / "models"


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A network with manifest that finds one "thing", always in the same place."""
    import numpy as np

    from tests.shelf_kit import save_graph

    rows = np.zeros((1, 5, 4), np.float32)
    rows[0, :, 1] = (32, 32, 16, 16, 0.9)  # centre, size, score
    weights = save_graph(tmp_path / "tiny.onnx", {"out": rows})
    weights.with_suffix(".toml").write_text(
        'file = "tiny.onnx"\nlabels = ["thing"]\n'
        '[input]\nsize = [64, 64]\nresize = "stretch"\n[decoder]\nfamily = "yolov8"\n'
    )
    return weights
