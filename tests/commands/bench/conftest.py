"""Reports of real measurements, short ones, made once for all tests here."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.commands.bench.roofline import Ceilings, measure_ceilings
from app.commands.cli import main
from tests.blob_detector import save_blob_detector

Bench = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def measured_ceilings() -> Ceilings:
    return measure_ceilings()


@pytest.fixture(autouse=True)
def known_ceilings(
    measured_ceilings: Ceilings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured once for all tests, and nothing remembered between runs of them."""
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("app.commands.bench.roofline.measure_ceilings", lambda: measured_ceilings)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """A real, tiny network of two convolutions."""
    return save_blob_detector(tmp_path)


@pytest.fixture(scope="session")
def valid() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Asserts that a report is one of the published schema."""
    schema = json.loads((files("app.commands.bench") / "schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)

    def check(report: dict[str, Any]) -> dict[str, Any]:
        faults = [error.message for error in validator.iter_errors(report)]
        assert not faults, faults
        return report

    return check


@pytest.fixture
def bench(blob: Path, tmp_path: Path, valid: Callable[..., dict[str, Any]]) -> Bench:
    """`bench` with the tiny network; its JSON, which fits the schema."""

    def run(*words: str) -> dict[str, Any]:
        out = tmp_path / "report.json"
        shared = ["--model", str(blob)] if "model" not in "".join(words) else []
        assert main(["bench", *shared, *words, "--json", str(out)]) == 0
        text = out.read_text()
        assert "NaN" not in text and "Infinity" not in text
        return valid(json.loads(text))

    return run
