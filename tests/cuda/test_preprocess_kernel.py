"""The preprocessing kernel gives what its NumPy twin gives, and the twin what OpenCV gives."""

import cv2
import numpy as np
import pytest

from app.core.frame import BT601, Colour
from app.core.letterbox import place
from app.cuda.context import GpuContext
from app.cuda.kernels import load_kernel, load_module
from app.cuda.slot import FORMATS, SIGNATURE, yuv_numbers
from kernels import twins
from tests.colours import COLOURS, bgr_by_definition, yuv_frame

pytestmark = pytest.mark.gpu

SHAPES = {"bgr8": (3,), "bgra8": (4,), "gray8": (), "yuyv": (2,)}
# float32 sums in another order and fused multiply-adds: a value on the edge may round the other way
ONE_LEVEL = 1.001


def picture(pixel_format, w, h, kind="random"):
    rng = np.random.default_rng(w * h)
    shape = (h, w, *SHAPES[pixel_format]) if pixel_format in SHAPES else (h * 3 // 2, w)
    if kind == "gradient":
        ramp = np.linspace(0, 255, int(np.prod(shape[1:]))).reshape(1, *shape[1:])
        return np.ascontiguousarray(np.broadcast_to(ramp, shape).astype(np.uint8))
    return rng.integers(0, 256, shape, dtype=np.uint8)


def on_device(pixels, pixel_format, *, out_wh, placed, swap, scale, shift, pad, yuv, half=False):
    with GpuContext() as context:
        driver = context.driver
        module = load_module(context, "preprocess", defines=["HALF"] if half else [])
        kernel = load_kernel(module, "preprocess", SIGNATURE)
        src, stream = driver.mem_alloc(pixels.nbytes), driver.Stream()
        out = np.empty((3, out_wh[1], out_wh[0]), np.float16 if half else np.float32)
        dst = driver.mem_alloc(out.nbytes)
        driver.memcpy_htod(src, pixels)
        h, w = pixels.shape[:2]
        h = h if pixel_format in SHAPES else h * 2 // 3
        grid = (-(-out_wh[0] // 32), -(-out_wh[1] // 8))
        numbers = [np.float32(v) for v in (*scale, *shift, pad, *yuv)]
        kernel(
            grid, (32, 8, 1), stream, src, dst, w, h, pixels.strides[0],
            FORMATS.index(pixel_format), *out_wh, *placed, int(swap), *numbers,
        )  # fmt: skip
        stream.synchronize()
        driver.memcpy_dtoh(out, dst)
        for thing in (src, dst):
            thing.free()
        del module, kernel, stream
    return out


PLAIN = {"scale": np.ones(3, np.float32), "shift": np.zeros(3, np.float32), "pad": 114.0}
PLAIN["yuv"] = yuv_numbers(BT601)


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize(
    ("source_wh", "out_wh"), [((64, 48), (32, 32)), ((34, 22), (96, 64)), ((62, 46), (33, 17))]
)
@pytest.mark.parametrize("kind", ["random", "gradient", "cropped"])
def test_kernel_and_twin_agree(device, pixel_format, source_wh, out_wh, kind):
    pixels = picture(pixel_format, *source_wh, kind)
    p = place(source_wh, out_wh, resize="crop" if kind == "cropped" else "letterbox")
    words = {"out_wh": out_wh, "placed": (p.x, p.y, p.w, p.h), "swap": False, **PLAIN}
    found = on_device(pixels, pixel_format, **words)
    wanted = twins.preprocess(pixels, pixel_format, **words)
    assert np.abs(found - wanted).max() <= ONE_LEVEL
    assert (np.abs(found - wanted) > 1e-3).mean() < 5e-3


@pytest.mark.parametrize("half", [False, True])
def test_normalisation_channel_order_and_padding(device, half):
    pixels = picture("bgr8", 41, 23)
    scale, shift = np.float32([0.017, 0.018, 0.019]), np.float32([-2.1, -2.0, -1.8])
    words = {**PLAIN, "out_wh": (32, 32), "placed": (0, 7, 32, 18), "swap": True, "pad": 0.0}
    words |= {"scale": scale, "shift": shift}
    found = on_device(pixels, "bgr8", half=half, **words).astype(np.float32)
    wanted = twins.preprocess(pixels, "bgr8", **words)
    assert np.abs(found - wanted).max() <= 0.02
    assert np.allclose(found[:, 0, 0], shift, atol=2e-3)


def test_the_twin_agrees_with_opencvs_resize():
    pixels = picture("bgr8", 97, 61)
    p = place((97, 61), (64, 64))
    words = {"out_wh": (64, 64), "placed": (p.x, p.y, p.w, p.h), "swap": False, **PLAIN}
    ours = twins.preprocess(pixels, "bgr8", **words)[:, p.y : p.y + p.h, p.x : p.x + p.w]
    theirs = cv2.resize(pixels, (p.w, p.h), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    # shares may be rounded the other way, as ours are float32
    assert np.abs(ours - theirs).max() <= 1
    assert np.abs(ours - theirs).mean() < 0.01


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("pixel_format", ["yuyv", "nv12", "i420"])
def test_the_twins_colours_are_those_of_the_definition(pixel_format, colour):
    frame = yuv_frame(pixel_format, colour, (32, 24))
    ours = twins.to_bgr(frame.pixels, pixel_format, yuv_numbers(colour))
    assert np.abs(ours - bgr_by_definition(frame)).max() <= 0.51  # rounded


@pytest.mark.parametrize("colour", [Colour("bt709"), Colour("bt601", full_range=True)])
@pytest.mark.parametrize("pixel_format", ["yuyv", "nv12", "i420"])
def test_kernel_and_twin_agree_in_every_colour(device, pixel_format, colour):
    pixels = picture(pixel_format, 62, 46)
    words = {**PLAIN, "out_wh": (33, 17), "placed": (5, 0, 23, 17), "swap": False}
    words["yuv"] = yuv_numbers(colour)
    found = on_device(pixels, pixel_format, **words)
    wanted = twins.preprocess(pixels, pixel_format, **words)
    assert np.abs(found - wanted).max() <= ONE_LEVEL
    assert (np.abs(found - wanted) > 1e-3).mean() < 5e-3
