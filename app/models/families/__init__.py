"""Which decoder reads a model's outputs?"""

from __future__ import annotations

from ..manifest import ModelSpec
from .base import Decoder, Shapes
from .other import FastestDet, NanoDet, UltraFace, YuNet
from .yolo import EndToEnd, YoloV5, YoloV8, YoloX

__all__ = ["STRIDES", "make_decoder"]

STRIDES = (8, 16, 32)


def make_decoder(spec: ModelSpec, shapes: Shapes) -> Decoder:
    """The decoder of ``spec.family`` for real output ``shapes``; raises ModelError on a misfit."""
    size, classes, parameters = spec.input.size_wh, len(spec.labels), spec.parameters
    strides = tuple(parameters.get("strides", STRIDES))
    if parameters.get("end_to_end", False):
        return EndToEnd(shapes, classes=classes)
    match spec.family:
        case "yolox":
            return YoloX(shapes, input_wh=size, classes=classes, strides=strides)
        case "yolov5":
            return YoloV5(shapes, classes=classes)
        case "yolov8":
            return YoloV8(shapes, classes=classes)
        case "nanodet":
            reg_max = int(parameters.get("reg_max", 7))
            return NanoDet(shapes, input_wh=size, classes=classes, strides=strides, reg_max=reg_max)
        case "fastestdet":
            return FastestDet(shapes, input_wh=size, classes=classes)
        case "yunet":
            return YuNet(shapes, input_wh=size, strides=strides)
        case "ultraface":
            return UltraFace(shapes, input_wh=size)
