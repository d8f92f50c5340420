"""Does this processor compute in bfloat16, and does OpenVINO do so rightly on it?

Not to be taken for granted: on some processors OpenVINO's products in bfloat16 are garbage while
those in float32 are sound (openvinotoolkit/openvino#38256), and no error is told. So, before any
model is trusted to it, some layers such as detectors consist of are computed both ways.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.openvino_library import load_openvino, one_thread, openvino_core
from app.backends.ort import one_line
from app.errors import ConfigError

CHANNELS, SIDE = 32, 24
LEAST_COSINE = 0.99  # 8 bits of mantissa give 0.9999; what was reported as garbage has 0.3 to 0.65
_CURE = "leave --precision out; a model in 8 bits may be as quick"


def need_bf16() -> None:
    """Raises ConfigError where OpenVINO knows no instructions for bfloat16 on this processor."""
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError(
            "precision bf16: this processor has no instructions for bfloat16 (AVX512_BF16, AMX); "
            f"{_CURE}"
        )


@cache  # a success; an error is raised each time
def prove_bf16() -> None:
    """Raises ConfigError where there is no bfloat16, or more than rounding sets it off float32.

    Takes some 0.1 s, once.
    """
    need_bf16()
    try:
        model = _layers(load_openvino())
        exact, rounded = (_outputs(model, precision) for precision in ("f32", "bf16"))
    except RuntimeError as fault:  # the root of OpenVINO's own
        raise ConfigError(
            f"precision bf16: OpenVINO fails on this processor ({one_line(fault)}); {_CURE}"
        ) from fault
    for name, one, other in zip(("convolutions", "products"), exact, rounded, strict=True):
        cosine = float(np.sum(one * other) / (np.linalg.norm(one) * np.linalg.norm(other)))
        if not cosine >= LEAST_COSINE:  # or NaN
            raise ConfigError(
                f"precision bf16: OpenVINO's {name} in bfloat16 are wrong on this processor "
                f"(cosine {cosine:.2f} to float32); {_CURE}"
            )


def _layers(ov: Any) -> Any:
    """A model of two outputs: 3×3, 1×1 and depthwise convolutions, and a product of matrices."""
    op, rng = ov.opset13, np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return op.constant(rng.standard_normal(shape, np.float32) / shape[-1])

    def convolve(x: Any, kernel: Any, pad: int, layer: Any = op.convolution) -> Any:
        return op.relu(layer(x, kernel, [1, 1], [pad, pad], [pad, pad], [1, 1]))

    image = op.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    x = convolve(image, weights(2 * CHANNELS, CHANNELS, 3, 3), 1)
    x = convolve(x, weights(CHANNELS, 2 * CHANNELS, 1, 1), 0)
    x = convolve(x, weights(CHANNELS, 1, 1, 3, 3), 1, op.group_convolution)
    rows = op.reshape(image, op.constant(np.array([CHANNELS, SIDE * SIDE])), False)
    product = op.matmul(rows, weights(SIDE * SIDE, 2 * CHANNELS), False, False)
    return ov.Model([x, product], [image], "layers")


def _outputs(model: Any, precision: str) -> list[NDArray[np.float32]]:
    compiled = one_thread(model, precision)
    image = np.random.default_rng(1).random((1, CHANNELS, SIDE, SIDE), np.float32)
    answer = compiled.create_infer_request().infer([image])
    return [np.array(answer[port], np.float32) for port in compiled.outputs]
