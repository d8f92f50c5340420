"""A soak fails what leaks, and passes what does not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from app.commands.cli import main
from app.commands.soak import ALLOWED, Samples, holdings, judge, run_soak
from app.config import Config
from app.core.errors import ConfigError, VerdictError
from tests.fakes import FakeSink

NOISE = {"rss_mb": 1.5, "gpu_mb": 0.5, "descriptors": 1.0, "threads": 0.5, "age_ms": 4.0}
LEVEL = {"rss_mb": 180.0, "gpu_mb": 900.0, "descriptors": 14.0, "threads": 9.0, "age_ms": 12.0}


def played(hours: float = 8.0, **growth: float) -> Samples:
    """A run in which these series grow by so much an hour; and all warm up."""
    samples, rng = Samples(), np.random.default_rng(3)
    for time_s in np.linspace(0, hours * 3600, 1000):
        warm = 1 - np.exp(-time_s / (hours * 300))
        samples.add(
            float(time_s),
            **{
                name: LEVEL[name] * float(warm)
                + growth.get(name, 0.0) * float(time_s) / 3600
                + abs(float(rng.normal(0, NOISE[name])))
                for name in ALLOWED
            },
        )
    return samples


def test_a_run_that_only_wobbles_passes() -> None:
    assert judge(played()) == []


@pytest.mark.parametrize(
    ("name", "per_hour"),
    [("rss_mb", 5), ("gpu_mb", 10), ("descriptors", 1), ("threads", 0.7), ("age_ms", 3)],
)
def test_each_leak_is_found_and_named(name: str, per_hour: float) -> None:
    (told,) = judge(played(**{name: per_hour}))
    assert told.startswith(f"{name} grew by at least")


def test_what_is_not_there_is_not_judged() -> None:
    samples = played()
    samples.series["gpu_mb"] = [float("nan")] * len(samples.times_s)
    assert judge(samples) == [] and samples.trends()["gpu_mb"] is None


class LeakyMemory(FakeSink):
    kept: list[np.ndarray]

    def emit(self, result) -> None:
        self.kept = [*getattr(self, "kept", []), np.ones(1 << 18)]  # 2 MiB, touched


class LeakyDescriptors(FakeSink):
    def __init__(self) -> None:
        super().__init__()
        self.fds: list[int] = []

    def emit(self, result) -> None:
        if len(self.fds) < 500:
            self.fds.append(os.dup(0))


@pytest.mark.slow
def test_a_clean_accelerated_soak_passes(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    words = ["soak", "--minutes", "0.2", "--model", str(tiny_model), "--json", str(file)]
    assert main(words) == 0
    report = json.loads(file.read_text())
    assert report["passed"] and report["processed"] > 20 and not report["wrong"]
    assert set(report["series"]) == set(ALLOWED)
    assert report["series"]["descriptors"]["level"] > 2


@pytest.mark.slow
@pytest.mark.parametrize(("leak", "named"), [(LeakyMemory, "rss_mb"), (LeakyDescriptors, "descr")])
def test_a_planted_leak_fails_it(
    leak, named: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.commands.soak.FASTEST_S", 0.05)
    sink = leak()
    config = Config(
        model=str(tiny_model),
        engine="cpu",
        source="chaos:jitter@0+1/9:pattern:?size=64x48&fps=20",
        json=str(tmp_path / "soak.json"),
    )
    try:
        with pytest.raises(VerdictError, match=f"soak failed: .*{named}"):
            run_soak(config, seconds=4, fast=True, extra=[sink])
    finally:
        for fd in getattr(sink, "fds", ()):
            os.close(fd)
    assert json.loads((tmp_path / "soak.json").read_text())["passed"] is False


def test_source_that_is_not_there_is_a_source_error(tiny_model: Path) -> None:
    words = ["--source", "/no/such.mp4", "--model", str(tiny_model)]
    assert main(["soak", "--minutes", "0.1", *words]) == 3


def test_lengths_that_mean_nothing() -> None:
    with pytest.raises(ConfigError, match="soak takes"):
        run_soak(Config(), seconds=0, fast=True)
    with pytest.raises(SystemExit):
        main(["soak"])


def test_holdings_count_children_and_descriptors() -> None:
    import subprocess

    before = holdings()
    fds = [os.dup(0) for _ in range(5)]
    with subprocess.Popen(["sleep", "30"]) as child:
        during = holdings()
        child.kill()
    for fd in fds:
        os.close(fd)
    assert during.descriptors >= before.descriptors + 5 + 3
    assert during.rss_mb > before.rss_mb and during.threads == before.threads + 1
    assert holdings(2**22).rss_mb == 0.0  # nobody
