"""The clip that the peers read: the one that the project brings."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def clip() -> Path:
    return Path(__file__).parents[2] / "app/sources/sample.mp4"
