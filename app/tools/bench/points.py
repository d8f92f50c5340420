"""What does `--sweep KEY=A,B,C` mean: which configurations are compared?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from app.config import ENGINES, PRECISIONS, TRANSFERS
from app.errors import ConfigError

CHOICES = {"engine": ENGINES, "precision": PRECISIONS, "transfer": TRANSFERS}
COUNTS = {"slots": 65, "workers": 64, "threads": 256, "batch": 256}  # the highest of each
KEYS = ("model", "size", *CHOICES, *COUNTS)
BESIDE_BATCH = ("model", "size", "threads")
MOST_POINTS = 64

Settings = dict[str, Any]


def parse_sweep(words: Sequence[str]) -> list[Settings]:
    """Every combination, in the order given; raises ConfigError in one line."""
    axes: dict[str, list[Any]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        if not equals or key not in KEYS:
            raise ConfigError(
                f"--sweep {word}: write KEY=A,B,C, where KEY is one of {', '.join(KEYS)}"
            )
        if key in axes:
            raise ConfigError(f"--sweep {key} is given twice; list all its values in one")
        axes[key] = [_value(key, text) for text in values.split(",")]
        if len(set(axes[key])) < len(axes[key]):
            raise ConfigError(f"--sweep {word}: a value is listed twice")
    if "batch" in axes and (other := axes.keys() - {"batch", *BESIDE_BATCH}):
        raise ConfigError(
            f"--sweep batch measures the network alone, so {', '.join(sorted(other))} has no "
            f"meaning beside it; only {', '.join(BESIDE_BATCH)} have"
        )
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if len(points) > MOST_POINTS:
        raise ConfigError(f"--sweep: {len(points)} combinations; at most {MOST_POINTS}")
    return points


def name_of(settings: Settings) -> str:
    """For tables and plots: slots=2, size=320x320."""
    return ", ".join(f"{key}={_text(value)}" for key, value in settings.items())


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _value(key: str, text: str) -> Any:
    if key in CHOICES:
        if text not in CHOICES[key]:
            known = ", ".join(CHOICES[key])
            raise ConfigError(f"--sweep {key}={text}: choose from {known}")
        return text
    if key == "size":
        width, by, height = text.partition("x")
        sides = [width, height if by else width]
        if not all(side.isascii() and side.isdigit() and 0 < int(side) <= 8192 for side in sides):
            raise ConfigError(f"--sweep size={text}: write pixels, as 320 or 416x256")
        return (int(sides[0]), int(sides[1]))
    if key in COUNTS:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= COUNTS[key]):
            raise ConfigError(f"--sweep {key}={text}: write a number from 1 to {COUNTS[key]}")
        return int(text)
    if not text:
        raise ConfigError(f"--sweep {key}: a value is empty")
    return text
