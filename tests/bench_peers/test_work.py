"""The bound of a frame's work: which of several rounds counts, and the share that was reached."""

from __future__ import annotations

from typing import Any

from app.models.store import default_model
from scripts.bench_peers.work import STAGES, bound, typical


def a_bound(fps: float) -> dict[str, Any]:
    return {"total_ms": 2000 / fps, "bound_fps": fps}


def test_each_run_is_compared_with_the_bound_of_its_own_minute():
    work = typical([a_bound(100), a_bound(50), a_bound(80)], [90, 45, 40])
    assert work["bound_fps"] == 80 and work["shares"] == [0.9, 0.9, 0.5]
    assert work["share_reached"] == 0.9


def test_a_run_that_failed_leaves_no_share():
    assert "share_reached" not in typical([a_bound(100), a_bound(50)], [90])


def test_the_bound_is_what_the_stages_take_together(clip):
    work = bound(str(clip), default_model(), most=30)
    assert tuple(work["stages_ms"]) == STAGES and min(work["stages_ms"].values()) > 0
    assert abs(sum(work["stages_ms"].values()) - work["total_ms"]) < 1e-3
    assert abs(work["bound_fps"] * work["total_ms"] - 1000 * work["cores"]) < 10
