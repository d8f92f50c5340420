"""What is a training run? Its length, sizes, rates and seed: all that a resumed run must share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# (until this share of the steps, sizes relative to the input): small first, cheap and many
SIZES = ((0.45, (0.5, 0.6, 0.7)), (0.75, (0.7, 0.8, 0.9)), (1.0, (0.9, 1.0, 1.0, 1.1)))
FINE_SIZES = ((1.0, (0.8, 0.9, 1.0, 1.0, 1.1)),)  # of fine-tuning: it can walk already
POOL_SIZES = ((0.85, (0.8,)), (1.0, (1.0,)))  # parts of samples, then whole ones
CLEAN = 0.9  # from this share on: no mosaic, no pasting
MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is; a checkpoint of another plan is not resumed."""

    epochs: float
    input_px: int = 320
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.03
    warm_up: int = 500
    average: float = 0.9995
    seed: int = 1
    repeat: tuple[tuple[str, float], ...] = ()
    fine: bool = False
    teacher: str = ""
    pool: bool = False
    hints: float = 0.0  # the weight of the teacher's features in the loss

    def steps(self, pictures: int) -> int:
        return max(1, math.ceil(self.epochs * pictures / self.batch))

    def rate_at(self, progress: float, step: int) -> float:
        """Linear warm-up, then a cosine to a fiftieth."""
        warm = min(1.0, (step + 1) / self.warm_up)
        return self.rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)

    def size_at(self, progress: float, step: int) -> int:
        sizes = POOL_SIZES if self.pool else FINE_SIZES if self.fine else SIZES
        choices = next(s for until, s in sizes if progress <= until)
        factor = float(np.random.default_rng((self.seed, step, 7)).choice(choices))
        return max(MULTIPLE, round(self.input_px * factor / MULTIPLE) * MULTIPLE)
