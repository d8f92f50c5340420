"""A real NATS server for each test, and little patience."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.kit_data import Server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Started. What looks at it does so more often than in life."""
    import app.fleet.configuration as configuration
    import app.fleet.events as events
    import app.fleet.models as models
    import app.fleet.pictures as pictures

    for module in (configuration, events, models, pictures):
        for name in ("FOLLOW_S", "TICK_S", "SNAPSHOT_S", "STATE_S"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 0.1)
    made = Server(tmp_path / "nats")
    made.start()
    yield made
    made.kill()
