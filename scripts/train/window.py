"""What does a part of a sample, or its mirror image, hold? Pixels, boxes, a teacher's answers.

A part begins at a multiple of the largest stride, so that the cells of all levels stay what they
were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scripts.train.augment import LEAST_PX, LEAST_SEEN
from scripts.train.loss import Targets
from scripts.train.network import STRIDES


@dataclass(frozen=True, slots=True)
class Window:
    """``size`` px of a sample of ``whole`` px, from ``left`` and ``top``; then mirrored or not."""

    whole: int
    size: int
    left: int = 0
    top: int = 0
    mirror: bool = False

    @classmethod
    def draw(cls, whole: int, size: int, rng: np.random.Generator) -> Window:
        places = (whole - size) // STRIDES[-1] + 1
        left, top = (int(n) * STRIDES[-1] for n in rng.integers(places, size=2))
        return cls(whole, size, left, top, bool(rng.random() < 0.5))

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """(3,whole,whole) to (3,size,size)."""
        part = pixels[:, self.top : self.top + self.size, self.left : self.left + self.size]
        return part.flip(2) if self.mirror else part

    def of_targets(self, target: Targets) -> Targets:
        """What of each box is inside; hardly anything or a speck of one is ignored from then on."""
        boxes, hidden, kept = self._cut(target.boxes)
        ignored, _, still = self._cut(target.ignored)
        learned, unsure = kept & ~hidden, kept & hidden
        taught, hints = target.taught, target.hints
        if len(taught):
            taught, hints = self._cells(taught), self._cells(hints)
            taught = torch.cat([taught[:, :-4], self._cut(taught[:, -4:])[0]], 1)
        return Targets(
            boxes[learned],
            target.class_ids[learned],
            target.weights[learned],
            torch.cat([ignored[still], boxes[unsure]]),
            torch.cat([target.ignored_ids[still], target.class_ids[unsure]]),
            taught,
            hints,
        )

    def _cut(self, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (n,4) as the window shows them; which are hardly seen; which are seen at all."""
        inside = boxes - boxes.new_tensor([self.left, self.top] * 2)
        inside = inside.clamp(0, self.size)
        if self.mirror:
            x0, y0, x1, y1 = inside.unbind(1)
            inside = torch.stack([self.size - x1, y0, self.size - x0, y1], 1)
        seen, was = ((b[:, 2:] - b[:, :2]).clamp(min=0) for b in (inside, boxes))
        share = seen.prod(1) / was.prod(1).clamp(min=1e-6)
        # a box that was whole was judged when the sample was made
        hidden = (share < LEAST_SEEN) | ((seen.amin(1) < LEAST_PX) & (share < 1))
        return inside, hidden, seen.prod(1) > 0

    def _cells(self, rows: Tensor) -> Tensor:
        """The rows of the cells inside, level after level."""
        levels = torch.split(rows, [(self.whole // stride) ** 2 for stride in STRIDES])
        parts = []
        for stride, level in zip(STRIDES, levels, strict=True):
            n, x, y = (v // stride for v in (self.size, self.left, self.top))
            side = self.whole // stride
            grid = level.reshape(side, side, -1)[y : y + n, x : x + n]
            parts.append((grid.flip(1) if self.mirror else grid).flatten(0, 1))
        return torch.cat(parts)
