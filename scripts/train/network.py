"""What does the detector look like?

One stage, anchor-free: a small CSP backbone, a top-down and bottom-up neck, one 3×3 convolution and
one 1×1 per level. Only dense 3×3 and 1×1 convolutions, ReLU, max-pooling, nearest upsampling, add
and concat: what every engine runs fast, what 8 bits hardly hurt, and what trains fast on a CPU too
(depthwise convolutions cost several times their arithmetic there).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.utils.fusion
from torch import Tensor, nn

STRIDES = (8, 16, 32)
LOG_REACH = 5.0  # exp(5) cells: farther than any input is wide
MEAN, STD = 114.0, 64.0  # of a pixel; the letterbox's gray becomes 0, as the padding inside is
PRIOR = 0.01  # the score that an untrained network gives everywhere (RetinaNet, section 4.1)


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths (channels) of the backbone's five stages, blocks in the last four, and the neck."""

    widths: tuple[int, int, int, int, int] = (16, 32, 64, 96, 160)
    blocks: tuple[int, int, int, int] = (1, 2, 2, 1)
    neck: int = 48


class ConvUnit(nn.Sequential):
    """Convolution, batch norm, ReLU; "same" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3×3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvUnit(width, width)
        self.second = ConvUnit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.second(self.first(x))
        return added


class CspStage(nn.Module):
    """Half of the channels through residual blocks, half straight on (CSPNet)."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        half = width // 2
        self.deep = ConvUnit(width, half, 1)
        self.plain = ConvUnit(width, half, 1)
        self.blocks = nn.Sequential(*(Residual(half) for _ in range(blocks)))
        self.merge = ConvUnit(2 * half, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        merged: Tensor = self.merge(torch.cat([self.blocks(self.deep(x)), self.plain(x)], 1))
        return merged


class Pyramid(nn.Module):
    """Max-pooling over 5, 9 and 13 cells: sight of the whole picture at little cost (SPPF)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = ConvUnit(width, width // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.merge = ConvUnit(width // 2 * 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.reduce(x)]
        for _ in range(3):
            levels.append(self.pool(levels[-1]))
        merged: Tensor = self.merge(torch.cat(levels, 1))
        return merged


class Neck(nn.Module):
    """Coarse meaning goes down to fine levels by addition, fine detail back up."""

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(ConvUnit(n, width, 1) for n in inputs)
        self.down_4, self.down_3 = ConvUnit(width, width), ConvUnit(width, width)
        self.reduce_3, self.reduce_4 = ConvUnit(width, width, 3, 2), ConvUnit(width, width, 3, 2)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        p3, p4, p5 = (layer(x) for layer, x in zip(self.lateral, features, strict=True))
        p4 = self.down_4(p4 + self.upsample(p5))
        p3 = self.down_3(p3 + self.upsample(p4))
        p4 = p4 + self.reduce_3(p3)
        return [p3, p4, p5 + self.reduce_4(p4)]


class Detector(nn.Module):
    """(B,3,H,W) float, BGR, normalised, H and W multiples of 32, to (B,N,4+C) raw values.

    Per cell, level after level, row by row: the logarithms of the distances in strides from the
    cell's centre to the box's left, top, right and bottom; then one logit per class.
    """

    def __init__(self, classes: int, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or Shape()
        w0, w1, w2, w3, w4 = shape.widths
        b1, b2, b3, b4 = shape.blocks
        self.stem = nn.Sequential(ConvUnit(3, w0, 3, 2), ConvUnit(w0, w1, 3, 2), CspStage(w1, b1))
        self.stage_3 = nn.Sequential(ConvUnit(w1, w2, 3, 2), CspStage(w2, b2))
        self.stage_4 = nn.Sequential(ConvUnit(w2, w3, 3, 2), CspStage(w3, b3))
        self.stage_5 = nn.Sequential(ConvUnit(w3, w4, 3, 2), CspStage(w4, b4), Pyramid(w4))
        self.neck = Neck((w2, w3, w4), shape.neck)
        self.tower = nn.ModuleList(ConvUnit(shape.neck, shape.neck) for _ in STRIDES)
        self.out = nn.ModuleList(nn.Conv2d(shape.neck, 4 + classes, 1) for _ in STRIDES)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for layer in self.out:
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias[:4], 1.0)
            nn.init.constant_(layer.bias[4:], -torch.log(torch.tensor((1 - PRIOR) / PRIOR)).item())

    def features(self, x: Tensor) -> list[Tensor]:
        """The neck's maps of the three levels."""
        c3 = self.stage_3(self.stem(x))
        c4 = self.stage_4(c3)
        maps: list[Tensor] = self.neck([c3, c4, self.stage_5(c4)])
        return maps

    def levels(self, x: Tensor) -> list[Tensor]:
        """The raw maps (B,4+C,h,w) of the three levels."""
        return self._raw(self.features(x))

    def _raw(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [o(t(f)) for o, t, f in zip(self.out, self.tower, features, strict=True)]

    def answers(self, features: Sequence[Tensor]) -> Tensor:
        """(B,N,4+C) from the neck's maps."""
        return torch.cat([m.flatten(2) for m in self._raw(features)], 2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.answers(self.features(x))


def normalise(pixels: Tensor) -> Tensor:
    """(B,3,H,W) uint8 to the network's input, channels last in memory."""
    values = (pixels.float() - MEAN) / STD
    return values.contiguous(memory_format=torch.channels_last)


def cell_centres(input_wh: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """(N,3): centre x, centre y and stride of each cell, in input pixels, in output order."""
    rows = []
    for stride in STRIDES:
        w, h = input_wh[0] // stride, input_wh[1] // stride
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centres = (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride
        rows.append(torch.cat([centres, torch.full((len(centres), 1), float(stride))], 1))
    return torch.cat(rows).to(device)


def decode_boxes(raw: Tensor, cells: Tensor) -> Tensor:
    """(…,N,4) log-distances to (…,N,4) xyxy in input pixels; ``cells`` from cell_centres."""
    reach = raw.clamp(max=LOG_REACH).exp() * cells[:, 2:]
    return torch.cat([cells[:, :2] - reach[..., :2], cells[:, :2] + reach[..., 2:]], -1)


def fold(network: nn.Module) -> None:
    """Put each batch norm into its convolution, in place: the same outputs in evaluation mode.

    For the second stage of training: the statistics are settled by then, and batch norm costs more
    than a third of a step on a CPU.
    """
    for unit in network.modules():
        if isinstance(unit, ConvUnit) and isinstance(unit[1], nn.BatchNorm2d):
            convolution, norm = unit[0], unit[1]
            assert isinstance(convolution, nn.Conv2d)
            unit[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(convolution.eval(), norm.eval())
            unit[1] = nn.Identity()


def is_folded(state: Mapping[str, Tensor]) -> bool:
    """Whether a network's state has no batch norm any more."""
    return not any(name.endswith("running_mean") for name in state)


def take_shapes(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the layers the form that ``state`` (folded, or pruned) has; then load it."""
    if is_folded(state):
        fold(network)
    for name, module in list(network.named_modules()):
        weight = state.get(f"{name}.weight")
        if weight is None:
            continue
        if isinstance(module, nn.Conv2d):
            module.out_channels, module.in_channels = weight.shape[0], weight.shape[1]
            module.weight = nn.Parameter(torch.empty_like(weight))
            if module.bias is not None:
                module.bias = nn.Parameter(torch.empty(weight.shape[0]))
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = len(weight)
            module.weight, module.bias = (nn.Parameter(torch.empty_like(weight)) for _ in "wb")
            module.running_mean = torch.empty_like(weight)
            module.running_var = torch.empty_like(weight)
    network.load_state_dict(dict(state))
