"""What does the teacher see where it does not yet say anything? Its features, learned from too.

Hints (Romero et al. 2015, "FitNets"), compared as correlations (Cao et al. 2022, "PKD"): a cell's
features hold what the teacher knows of all its classes, cats and cups among them, which a set
of people and faces cannot say. The layers here serve training only; they are not shipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scripts.train.loss import Targets
from scripts.train.network import Detector

STEP = 1 / 24  # of a stored hint: int8 reaches 5.3, which 99.9 % of them do not


class Hints(nn.Module):
    """The student's features as the teacher would put them; one linear layer per level."""

    def __init__(self, network: Detector, width: int) -> None:
        super().__init__()
        entrances = [unit.get_submodule("0") for unit in network.tower]
        self.layers = nn.ModuleList(
            nn.Conv2d(entrance.in_channels, width, 1)
            for entrance in entrances
            if isinstance(entrance, nn.Conv2d)
        )

    def forward(self, features: Sequence[Tensor], targets: Sequence[Targets]) -> Tensor:
        """The mean squared difference, each level's channels brought to mean 0 and variance 1."""
        wanted = torch.stack([t.hints for t in targets]).float()  # (B,N,F)
        start, losses = 0, []
        for layer, level in zip(self.layers, features, strict=True):
            mine: Tensor = layer(level.float()).flatten(2).transpose(1, 2)
            theirs = wanted[:, start : start + mine.shape[1]]
            start += mine.shape[1]
            spread, mean = torch.std_mean(theirs, (0, 1))
            # one step more: what varies by less than that is rounding
            losses.append(((theirs - mean) / (spread + 1) - mine).square().mean())
        return torch.stack(losses).mean()
