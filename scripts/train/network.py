"""YOLOX-Nano with batch norm folded, and beside its 80 classes a small tower of its own for faces.

YOLOX: Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021". Modules are named after its parts and
stand in the order in which its ONNX files list their convolutions (from_onnx.py relies on that).
The face tower reads the features that the first layer of each head makes, and has boxes of its own:
a cell then can answer for a person and for that person's face.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
LOG_SIDE = 8.0  # of a box's side in strides: the most that is taken, so that nothing overflows
LEVELS = (64, 128, 256)  # channels of the neck's three maps
HEAD = 64


class Conv(nn.Sequential):
    """Convolution and SiLU; ``depthwise`` has one filter a channel."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 1, *, stride: int = 1, depthwise: bool = False
    ) -> None:
        pad, groups = (size - 1) // 2, inputs if depthwise else 1
        super().__init__(nn.Conv2d(inputs, outputs, size, stride, pad, groups=groups), nn.SiLU())


class Separable(nn.Sequential):
    """Depthwise 3×3, then 1×1."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        first = Conv(inputs, inputs, 3, stride=stride, depthwise=True)
        super().__init__(first, Conv(inputs, outputs))


class Bottleneck(nn.Module):
    """1×1, then separable 3×3; with a shortcut around both in the backbone."""

    def __init__(self, width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.reduce, self.conv = Conv(width, width), Separable(width, width)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.reduce(x))
        return x + y if self.shortcut else y


class Csp(nn.Module):
    """Half of the channels go through ``blocks`` bottlenecks, half around them."""

    def __init__(self, inputs: int, outputs: int, blocks: int, *, shortcut: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.deep, self.plain = Conv(inputs, half), Conv(inputs, half)
        self.blocks = nn.Sequential(*(Bottleneck(half, shortcut=shortcut) for _ in range(blocks)))
        self.merge = Conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        # in this order, so that an export lists its convolutions as the original does
        deep, plain = self.deep(x), self.plain(x)
        merged: Tensor = self.merge(torch.cat((self.blocks(deep), plain), 1))
        return merged


class Pyramid(nn.Module):
    """Max-pooling over 5, 9 and 13 cells, as 5 after 5 after 5."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.merge = Conv(width, width // 2), Conv(width * 2, width)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.reduce(x)]
        for _ in range(3):
            levels.append(functional.max_pool2d(levels[-1], 5, 1, 2))
        merged: Tensor = self.merge(torch.cat(levels, 1))
        return merged


class Head(nn.Module):
    """One level: 4 of the box, objectness, one logit a class; and the features that it reads."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.stem = Conv(inputs, HEAD)
        self.classes = nn.Sequential(Separable(HEAD, HEAD), Separable(HEAD, HEAD))
        self.class_out = nn.Conv2d(HEAD, classes, 1)
        self.boxes = nn.Sequential(Separable(HEAD, HEAD), Separable(HEAD, HEAD))
        self.box_out, self.object_out = nn.Conv2d(HEAD, 4, 1), nn.Conv2d(HEAD, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        classes, boxes = self.classes(features), self.boxes(features)
        outputs = self.box_out(boxes), self.object_out(boxes), self.class_out(classes)
        return torch.cat(outputs, 1)


class FaceTower(nn.Module):
    """One level: 4 of the box and one logit, which is objectness and class in one.

    It has the form of the head's branch for boxes and starts as a copy of it (``start_from``):
    what tells objects and where they end is most of what tells faces.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Separable(HEAD, HEAD), Separable(HEAD, HEAD))
        self.out = nn.Conv2d(HEAD, 5, 1)

    @torch.no_grad()
    def start_from(self, head: Head) -> None:
        """Answer what the head says of objects."""
        self.body.load_state_dict(head.boxes.state_dict())
        of_boxes, of_objects = head.box_out.state_dict(), head.object_out.state_dict()
        state = {name: torch.cat((value, of_objects[name])) for name, value in of_boxes.items()}
        self.out.load_state_dict(state)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.body(features))
        return outputs


class Network(nn.Module):
    """(B,3,H,W) float, BGR 0..255, H and W multiples of 32, to raw values of N cells.

    The first result is (B,N,5+C): centre, logarithms of the size (in strides; ``decode``), logits
    of objectness and of each class. The second is (B,N,5): a face's box, and its one logit.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        # YOLOX moves 2×2 pixels into channels and convolves those 3×3: the same as 6×6, stride 2
        self.stem = Conv(3, 16, 6, stride=2)
        self.stage_2 = nn.Sequential(Separable(16, 32, stride=2), Csp(32, 32, 1, shortcut=True))
        self.stage_3 = nn.Sequential(Separable(32, 64, stride=2), Csp(64, 64, 3, shortcut=True))
        self.stage_4 = nn.Sequential(Separable(64, 128, stride=2), Csp(128, 128, 3, shortcut=True))
        self.stage_5 = nn.Sequential(
            Separable(128, 256, stride=2), Pyramid(256), Csp(256, 256, 1, shortcut=False)
        )
        self.lateral_5, self.top_down_4 = Conv(256, 128), Csp(256, 128, 1, shortcut=False)
        self.lateral_4, self.top_down_3 = Conv(128, 64), Csp(128, 64, 1, shortcut=False)
        self.reduce_3 = Separable(64, 64, stride=2)
        self.bottom_up_4 = Csp(128, 128, 1, shortcut=False)
        self.reduce_4 = Separable(128, 128, stride=2)
        self.bottom_up_5 = Csp(256, 256, 1, shortcut=False)
        self.heads = nn.ModuleList(Head(width, classes) for width in LEVELS)
        self.faces = nn.ModuleList(FaceTower() for _ in LEVELS)

    def early(self, x: Tensor) -> Tensor:
        """The first layers, at half and a quarter of the size: a third of the arithmetic."""
        maps: Tensor = self.stage_2(self.stem(x))
        return maps

    def maps(self, early: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The neck's maps of the three levels."""
        c3 = self.stage_3(early)
        c4 = self.stage_4(c3)
        f5 = self.lateral_5(self.stage_5(c4))
        f4 = self.lateral_4(self.top_down_4(torch.cat((_twice(f5), c4), 1)))
        p3 = self.top_down_3(torch.cat((_twice(f4), c3), 1))
        n4 = self.bottom_up_4(torch.cat((self.reduce_3(p3), f4), 1))
        return p3, n4, self.bottom_up_5(torch.cat((self.reduce_4(n4), f5), 1))

    def features(self, early: Tensor) -> list[Tensor]:
        """What heads and face towers read, (B,64,h,w) a level."""
        heads = (cast(Head, head) for head in self.heads)
        return [head.stem(level) for head, level in zip(heads, self.maps(early), strict=True)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(self.early(x))
        return self.object_rows(features), self.face_rows(features)

    def object_rows(self, features: list[Tensor]) -> Tensor:
        return _in_rows(self.heads, features)

    def face_rows(self, features: list[Tensor]) -> Tensor:
        return _in_rows(self.faces, features)


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0)


def _in_rows(modules: nn.ModuleList, features: list[Tensor]) -> Tensor:
    levels = [module(x).flatten(2) for module, x in zip(modules, features, strict=True)]
    return torch.cat(levels, 2).transpose(1, 2)


def cells(input_hw: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """(N,3) column, row and stride of each cell, level after level, row by row."""
    levels = []
    for stride in STRIDES:
        rows, columns = input_hw[0] // stride, input_hw[1] // stride
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        at = torch.stack((x, y, torch.full_like(x, stride)), -1)
        levels.append(at.reshape(-1, 3).float())
    return torch.cat(levels).to(device)


def decode(raw: Tensor, grid: Tensor) -> Tensor:
    """(…,N,4) raw box values to (…,N,4) xyxy in input pixels; ``grid`` is that of ``cells``."""
    centre = (raw[..., :2] + grid[:, :2]) * grid[:, 2:]
    half = raw[..., 2:4].clamp(max=LOG_SIDE).exp() * grid[:, 2:] / 2
    return torch.cat((centre - half, centre + half), -1)
