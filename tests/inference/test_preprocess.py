"""Preprocessing: the tensor is (pixel × scale − mean) / std of the letterboxed frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.frame import BT601, Colour, Frame, PixelFormat, bgr_pixels
from app.core.letterbox import place
from app.inference.preprocess import CpuPreprocessor
from app.models.manifest import InputSpec
from tests.colours import COLOURS, YUV_FORMATS, packed, yuv_frame, yuv_of

SPECS = [
    InputSpec((64, 48), channels, scale, mean, std, resize, align, pad)  # type: ignore[arg-type]
    for channels, scale, mean, std in (
        ("BGR", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ("RGB", 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ("RGB", 1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
        ("BGR", 1.0, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
        ("RGB", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    )
    for resize, align, pad in (
        ("letterbox", "center", 114),
        ("letterbox", "top-left", 0),
        ("stretch", "center", 114),
        ("crop", "center", 114),
    )
]


def expected(spec: InputSpec, pixels: np.ndarray) -> np.ndarray:
    """The definition, in float64, one step at a time."""
    h, w = pixels.shape[:2]
    p = place((w, h), spec.size_wh, resize=spec.resize, align=spec.align)
    canvas = np.full((spec.size_wh[1], spec.size_wh[0], 3), spec.pad, np.float64)
    resized = cv2.resize(pixels, (p.w, p.h))
    if spec.resize == "crop":
        canvas[:] = resized[-p.y :, -p.x :][: spec.size_wh[1], : spec.size_wh[0]]
    else:
        canvas[p.y : p.y + p.h, p.x : p.x + p.w] = resized
    if spec.channels == "RGB":
        canvas = canvas[..., ::-1]
    return ((canvas * spec.scale - spec.mean) / spec.std).transpose(2, 0, 1)


@given(st.sampled_from(SPECS), st.integers(1, 200), st.integers(1, 200), st.integers(0, 999))
def test_is_the_definition(spec: InputSpec, w: int, h: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    tensor = np.full((1, 3, 48, 64), np.nan, np.float32)
    CpuPreprocessor(spec)(Frame(pixels, 0, 0), tensor)
    np.testing.assert_allclose(tensor[0], expected(spec, pixels), rtol=1e-5, atol=1e-4)


def smooth_frame(layout: PixelFormat, colour: Colour, wh: tuple[int, int]) -> Frame:
    """A picture without edges, of many colours: what depends on how chroma is placed is small."""
    x, y = np.meshgrid(*(np.linspace(0, 1, n) for n in wh))
    bgr = 255 * np.stack([x, y, 0.5 + 0.5 * np.sin(4 * (x + y))], -1)
    luma, u, v = yuv_of(bgr, colour)
    pixels = packed(luma, u[::2, ::2], v[::2, ::2], layout)
    return Frame(pixels, 0, 0, format=layout, colour=colour)


def prepared(spec: InputSpec, frame: Frame) -> np.ndarray:
    tensor = np.full((1, 3, *spec.size_wh[::-1]), np.nan, np.float32)
    CpuPreprocessor(spec)(frame, tensor)
    return tensor


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("layout", YUV_FORMATS)
@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_a_frame_in_planes_gives_what_its_bgr_gives(
    layout: PixelFormat, colour: Colour, channels: Any
) -> None:
    spec = InputSpec((64, 48), channels)
    frame = smooth_frame(layout, colour, (320, 200))
    there = prepared(spec, Frame(bgr_pixels(frame), 0, 0))
    assert np.abs(prepared(spec, frame) - there).max() <= 4
    assert np.abs(prepared(spec, frame) - there).mean() <= 1


@given(
    st.sampled_from(YUV_FORMATS),
    st.sampled_from([c for c in COLOURS if c != BT601]),
    st.integers(1, 60).map(lambda n: 2 * n),
    st.integers(1, 60).map(lambda n: 2 * n),
    st.sampled_from([1.0, 2.0, 0.5]),
)
def test_frames_in_planes_of_any_size_and_shape_fill_the_tensor(
    layout: PixelFormat, colour: Colour, w: int, h: int, aspect: float
) -> None:
    frame = replace(yuv_frame(layout, colour, (w, h)), pixel_aspect=aspect)
    tensor = np.full((1, 3, 48, 64), np.nan, np.float32)
    p = CpuPreprocessor(InputSpec((64, 48)))(frame, tensor)
    assert p == place((w, h), (64, 48), pixel_aspect=aspect)
    assert ((tensor >= 0) & (tensor <= 255)).all()


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("bgr", [(0, 0, 255), (0, 255, 0), (255, 0, 0), (90, 160, 220)])
def test_plain_colours_reach_the_network(colour: Colour, bgr: tuple[int, int, int]) -> None:
    values = yuv_of(np.array(bgr), colour)
    spec = InputSpec((64, 48))
    for layout in YUV_FORMATS:
        y, u, v = (
            np.full(s, x) for s, x in zip(((96, 128), (48, 64), (48, 64)), values, strict=True)
        )
        frame = Frame(packed(y, u, v, layout), 0, 0, format=layout, colour=colour)
        assert np.abs(prepared(spec, frame) - np.array(bgr)[:, None, None]).max() <= 3


def test_gray_and_bgra_give_what_their_bgr_gives() -> None:
    rng, spec = np.random.default_rng(1), InputSpec((64, 48), "RGB", mean=(1.0, 2.0, 3.0))
    for layout, shape in (("gray8", (90, 70)), ("bgra8", (90, 70, 4))):
        frame = Frame(rng.integers(0, 256, shape, np.uint8), 0, 0, format=layout)  # type: ignore[arg-type]
        there = prepared(spec, Frame(bgr_pixels(frame), 0, 0))
        assert prepared(spec, frame).tobytes() == there.tobytes()


def test_formats_and_aspects_in_turn_are_as_with_a_fresh_preprocessor() -> None:
    spec, shared = InputSpec((64, 64), pad=7), CpuPreprocessor(InputSpec((64, 64), pad=7))
    tensor = np.zeros((1, 3, 64, 64), np.float32)
    turns = [("i420", 1.0), ("nv12", 1.0), ("i420", 2.0), ("yuyv", 0.5), ("i420", 1.0)]
    for layout, aspect in turns:
        for colour in COLOURS:
            frame = replace(yuv_frame(layout, colour, (80, 60)), pixel_aspect=aspect)  # type: ignore[arg-type]
            shared(frame, tensor)
            assert tensor.tobytes() == prepared(spec, frame).tobytes()


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_a_red_frame_is_red_in_the_right_plane(channels: str) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 2] = 255
    tensor = np.zeros((1, 3, 48, 64), np.float32)
    CpuPreprocessor(InputSpec((64, 48), channels=channels))(Frame(red, 0, 0), tensor)  # type: ignore[arg-type]
    assert tensor[0, :, 20, 20].tolist() == ([0, 0, 255] if channels == "BGR" else [255, 0, 0])


def test_a_new_frame_size_leaves_nothing_of_the_old_one() -> None:
    preprocess = CpuPreprocessor(InputSpec((64, 64), pad=7))
    tensor = np.zeros((1, 3, 64, 64), np.float32)
    preprocess(Frame(np.full((64, 64, 3), 255, np.uint8), 0, 0), tensor)
    preprocess(Frame(np.full((16, 64, 3), 255, np.uint8), 1, 0), tensor)
    assert (tensor[0, :, :24] == 7).all() and (tensor[0, :, 40:] == 7).all()


def test_writes_into_the_given_tensor_and_keeps_its_own_memory() -> None:
    preprocess = CpuPreprocessor(SPECS[0])
    tensor = np.zeros((1, 3, 48, 64), np.float32)
    pixels = np.zeros((100, 100, 3), np.uint8)
    preprocess(Frame(pixels, 0, 0), tensor)
    buffers = {id(preprocess._content), id(preprocess._planes)}
    address = tensor.ctypes.data
    preprocess(Frame(pixels + 1, 1, 0), tensor)
    assert tensor.ctypes.data == address and tensor.any()
    assert {id(preprocess._content), id(preprocess._planes)} == buffers


@pytest.mark.parametrize("align", ["center", "top-left"])
@pytest.mark.parametrize("wh", [(90, 50), (50, 90), (61, 47)])
def test_sizes_and_tensors_in_turn_are_as_with_a_fresh_preprocessor(
    align: Any, wh: tuple[int, int]
) -> None:
    spec = InputSpec((64, 48), "RGB", 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "letterbox", align)
    rng, shared = np.random.default_rng(1), CpuPreprocessor(spec)
    tensors = [np.full((1, 3, 48, 64), np.nan, np.float32) for _ in range(2)]
    for turn, size in enumerate([wh, wh, (64, 48), wh, wh, wh]):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        fresh = np.full((1, 3, 48, 64), np.nan, np.float32)
        CpuPreprocessor(spec)(Frame(pixels, 0, 0), fresh)
        shared(Frame(pixels, turn, 0), tensors[turn % 3 // 2])
        assert tensors[turn % 3 // 2].tobytes() == fresh.tobytes()
