"""How do several processes train one network? Each takes a part of every batch.

Start them with PyTorch's own launcher: ``torchrun --nproc-per-node 2 -m scripts.train …``, one
process for each GPU; on a CPU, two processes of one thread are some 30 % faster than one of two
threads, which wait for each other at every small operation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn


@dataclass(frozen=True, slots=True)
class Team:
    """This process is number ``rank`` of ``count``."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Team:
        """Meet the other processes that torchrun started, if it did."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return ALONE
        kind = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(kind, timeout=timedelta(minutes=30))
        if kind == "gloo":
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // count))
        return cls(distributed.get_rank(), count)

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and validates."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device for this process: with several GPUs, its own."""
        return torch.device(name, self.rank) if name == "cuda" else torch.device(name)

    def average_gradients(self, learned: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by the mean over all processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in learned if p.grad is not None]
        together = torch.cat([g.flatten() for g in gradients])
        distributed.all_reduce(together)
        together /= self.count
        parts = torch.split(together, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


ALONE = Team()
