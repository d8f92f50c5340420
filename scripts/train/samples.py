"""Which samples come in which order? All follows from (seed, step)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from scripts.train.augment import GENTLE, CutOut, Recipe, sample
from scripts.train.data import Labels, PictureSet
from scripts.train.loss import Targets
from scripts.train.plan import CLEAN, Plan
from scripts.train.teacher import LEAST_PX, Teacher
from scripts.train.team import Team

Key = tuple[int, int, tuple[int, ...], bool]  # index, size px, seed, whether gentle


class Source(Dataset[tuple[Tensor, Targets]]):
    """Where samples come from: made on the spot, or from a pool made before."""

    class_names: tuple[str, ...] = ()
    hint_width = 0  # features of a teacher per cell

    def __len__(self) -> int:
        raise NotImplementedError

    def share(self, plan: Plan) -> NDArray[np.float64]:
        """How often each is wanted."""
        return np.ones(len(self))


class Samples(Source):
    """A sample by (picture, size, seed, whether gentle), made when it is asked for."""

    def __init__(
        self,
        pictures: PictureSet,
        cut_outs: Sequence[CutOut] = (),
        teacher: Teacher | None = None,
    ) -> None:
        self._pictures, self._cut_outs, self._teacher = pictures.pictures, cut_outs, teacher
        self.class_names = pictures.class_names
        self.hint_width = teacher.hint_width() if teacher else 0

    def share(self, plan: Plan) -> NDArray[np.float64]:
        weights = dict(plan.repeat)
        return np.array([weights.get(p.source, 1.0) for p in self._pictures])

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, key: Key) -> tuple[Tensor, Targets]:
        index, size, seed, clean = key
        pixels, labels = sample(
            self._pictures,
            index,
            size=size,
            rng=np.random.default_rng(seed),
            recipe=GENTLE if clean else Recipe(),
            cut_outs=self._cut_outs,
        )
        taught, hints = np.zeros((0, 0), np.float32), np.zeros((0, 0), np.int8)
        if self._teacher is not None and size >= LEAST_PX:
            taught, hints = self._teacher(pixels)
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return tensor, targets_of(labels, taught, hints)


def targets_of(labels: Labels, taught: NDArray[np.float32], hints: NDArray[np.int8]) -> Targets:
    real, ignored = labels.select(~labels.ignored), labels.select(labels.ignored)
    boxes = (real.boxes, real.class_ids, real.weights, ignored.boxes, ignored.class_ids)
    return Targets(*(torch.from_numpy(a) for a in (*boxes, taught, hints)))


class Batches:
    """The keys of each step's samples, from ``first`` to ``last``; weighted, shuffled, seeded.

    ``share``: how often each is wanted. Of several processes each gets its part of every batch.
    """

    def __init__(
        self, plan: Plan, share: NDArray[np.float64], first: int, last: int, team: Team
    ) -> None:
        self._team = team
        self._share = share / share.sum()
        self._plan, self._first, self._last = plan, first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __iter__(self) -> Iterator[list[Key]]:
        plan, count = self._plan, len(self._share)
        per_epoch = math.ceil(count / plan.batch)
        drawn, order = -1, np.zeros(0, np.int64)
        for step in range(self._first, self._last):
            epoch, place = divmod(step, per_epoch)
            if epoch != drawn:
                drawn, order = epoch, self._order(epoch, per_epoch * plan.batch)
            progress = step / self._last
            size = plan.size_at(progress, step)
            mine = order[place * plan.batch : (place + 1) * plan.batch]
            clean = progress >= CLEAN
            keys: list[Key] = [
                (int(i), size, (plan.seed, step, k), clean) for k, i in enumerate(mine)
            ]
            yield keys[self._team.rank :: self._team.count]

    def _order(self, epoch: int, size: int) -> NDArray[np.int64]:
        """The samples of one epoch."""
        rng = np.random.default_rng((self._plan.seed, epoch, 3))
        # systematic resampling: each picture as often as its share says, to the nearest one
        ticks = (np.arange(size) + rng.random()) / size
        order = np.searchsorted(np.cumsum(self._share), ticks).clip(max=len(self._share) - 1)
        rng.shuffle(order)
        return order


def collate(samples: list[tuple[Tensor, Targets]]) -> tuple[Tensor, list[Targets]]:
    return torch.stack([pixels for pixels, _ in samples]), [targets for _, targets in samples]


def quiet_worker(_: int) -> None:
    """One thread each, and the training first."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.nice(5)
