"""What several tests of backends need."""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[2] / ".venv/openvino"


@pytest.fixture
def openvino(monkeypatch):
    if BESIDE.is_dir():
        monkeypatch.syspath_prepend(str(BESIDE))
    if PathFinder.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not here: pip install -r requirements-openvino.txt")
