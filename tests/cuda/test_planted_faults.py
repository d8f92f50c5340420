"""Faults planted in kernels and in the use of the driver: the simulated device names each one.

A small kernel holds the right text and a wrong one, written ``{{right|wrong}}``. Built with the
checks of tests/cudasim/device/checked.h the right one is silent and the wrong one is reported. The
project's own kernels lose one barrier, or one guard, after the other; and blocks that share sums
hand them over wrongly.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.cuda import kernels as kernel_files
from app.cuda.context import GpuContext
from app.cuda.kernels import KERNEL_DIR
from app.cuda.native import launch, launch_int8
from app.cuda.native.autotune import TILES, ConvAutotuner
from app.models.onnx_session import open_session
from tests.cuda import test_engine, test_int8, test_postprocess_kernel, test_preprocess_kernel
from tests.cuda.conftest import REAL, ROOT

pytestmark = pytest.mark.skipif(REAL, reason="a GPU does not report")
N = 64  # threads of a block, and floats of a buffer
CHECKED = ROOT / ".cudasim" / "checked"
RACE, BEYOND = "race on shared memory", "an access outside of an allocation, byte"
UNKNOWN = "read of {} memory that nothing was written to"
NEVER = "a barrier that some threads"
HALVES = "__align__(32) __shared__ half a[600]; for (int k = t; k < 600; k += 64) a[k] = 1.0f;"
TILE = "wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> tile;"
QUARTER = "__align__(16) __shared__ float a[72]; if (t < 15) "


class Small(NamedTuple):
    """A kernel of `out` and `in` (N floats, of ones), `n` (N); t: thread, i: of all threads."""

    body: str
    told: str
    blocks: int = 1
    zeros: bool = False  # `out` begins as zeros; else nothing was written to it


SMALL = {
    "neighbour read without a barrier": Small(
        "__shared__ float a[64]; a[t] = in[t]; {{__syncthreads();|}} out[t] = a[63 - t];", RACE
    ),
    "next round written before all have read": Small(
        "__shared__ float a[64]; float sum = 0; for (int k = 0; k < 2; ++k) { a[t] = in[t] + k;"
        "__syncthreads(); sum += a[63 - t]; {{__syncthreads();|}} } out[t] = sum;",
        RACE,
    ),
    "sum of a tree without barriers": Small(
        "__shared__ float a[64]; a[t] = in[t]; __syncthreads(); for (int k = 32; k; k /= 2) {"
        "if (t < k) a[t] += a[t + k]; {{__syncthreads();|}} } if (t == 0) out[0] = a[0];",
        RACE,
    ),
    "one thread's result read by all at once": Small(
        "__shared__ float first; if (t == 0) first = in[0]; {{__syncthreads();|}} out[t] = first;",
        "shared memory",
    ),
    "lanes of a warp taken to be in step": Small(
        "__shared__ float a[64]; a[t] = in[t]; {{__syncwarp();|}} out[t] = a[t ^ 1];", RACE
    ),
    "a meeting of the warp for one of the block": Small(
        "__shared__ float a[64]; a[t] = in[t]; {{__syncthreads|__syncwarp}}(); out[t] = a[t ^ 32];",
        RACE,
    ),
    "two threads write one place": Small(
        "__shared__ float a[64]; a[t] = 0; __syncthreads(); a[t {{|/ 2}}] = in[t];"
        "__syncthreads(); out[t] = a[t / 2];",
        "race on shared memory, write after write",
    ),
    "barrier in a branch": Small("{{|if (t < 32)}} __syncthreads(); out[t] = in[t];", NEVER),
    "return before a barrier": Small(
        "{{|if (t >= 60) return;}} __syncthreads(); if (t < 60) out[t] = in[t];", NEVER
    ),
    "barrier in a loop of uneven length": Small(
        "for (int k = 0; k < {{4|t / 32 + 4}}; ++k) __syncthreads(); out[t] = in[t];", NEVER
    ),
    "halves of a block at different barriers": Small(
        "if (t < {{64|32}})\n__syncthreads();\nelse\n__syncthreads();\nout[t] = in[t];",
        "threads of a block wait at different barriers",
    ),
    "a lane that its mask does not name": Small(
        "out[t] = __shfl_xor_sync({{0xffffffffu|0xffffu}}, in[t], 1);",
        "a lane is not in the mask that it names",
    ),
    "a shuffle from lanes that have ended": Small(
        "if (t >= 16) return; out[t] = __shfl_down_sync(0xffffffffu, in[t], {{0|16}});",
        "a shuffle takes the value of a lane that does not take part",
    ),
    "a mask with a lane that never comes": Small(
        "if (t < 16) __syncwarp({{0xffff|0x1ffff}}); __syncthreads(); out[t] = in[t];", NEVER
    ),
    "read one beyond": Small("out[t] = in[t {{|+ 1}}];", BEYOND),
    "written before the start": Small("out[t {{|- 1}}] = in[t];", BEYOND),
    "guard left out": Small("if (i < {{n|n + 64}}) out[i] = in[i];", BEYOND, blocks=2),
    "rows and columns swapped": Small(
        "out[{{t % 8 * 8 + t / 8|t % 8 + t / 8 * 32}}] = in[t];", BEYOND
    ),
    "index beyond an array": Small(
        "__shared__ float a[32]; if (t < {{32|40}}) a[t] = 1; __syncthreads(); out[t] = 1;",
        "an index beyond its array, line",
    ),
    "dynamic shared memory too small": Small(
        "extern __shared__ float line[]; line[t + {{0|8}}] = in[t]; __syncthreads(); out[t] = 1;",
        "an access outside of dynamic shared memory",
    ),
    "16 bytes from an address that is no multiple": Small(
        "if (t < 15) out[t] = reinterpret_cast<const float4*>(in + {{0|1}})[t].x;",
        "an address that is not aligned as its type needs it",
    ),
    "8 bytes to an odd place": Small(
        "if (t < 31) *reinterpret_cast<float2*>(out + 2 * t + {{0|1}}) = make_float2(1, 2);",
        "an address that is not aligned",
    ),
    "a pair of halves from an odd one": Small(
        "auto h = reinterpret_cast<const half*>(in) + {{0|1}}; if (t < 32)"
        "out[t] = __low2float(reinterpret_cast<const half2*>(h)[t]);",
        "an address that is not aligned",
    ),
    "a tile that begins between 32 bytes": Small(
        f"{HALVES} __syncthreads(); {TILE} wmma::load_matrix_sync(tile, a + {{{{16|8}}}}, 16);"
        "out[t] = tile.x[0];",
        "a wmma tile that does not begin at a multiple of 32 bytes",
    ),
    "a tile with rows of an odd distance": Small(
        f"{HALVES} __syncthreads(); {TILE} wmma::load_matrix_sync(tile, a, {{{{24|20}}}});"
        "out[t] = tile.x[0];",
        "a wmma tile whose rows are not multiples of 16 bytes apart",
    ),
    "an asynchronous copy between 16 bytes": Small(
        f"{QUARTER} __pipeline_memcpy_async(a + 4 * t + {{{{0|1}}}}, in + 4 * t, 16);"
        "__pipeline_commit(); __pipeline_wait_prior(0); __syncthreads(); out[t] = 1;",
        "an asynchronous copy whose addresses are not multiples of its size",
    ),
    "an asynchronous copy that nobody waits for": Small(
        f"{QUARTER} __pipeline_memcpy_async(a + 4 * t, in + 4 * t, 16); __pipeline_commit();"
        "{{__pipeline_wait_prior(0);|}} __syncthreads(); if (t < 60) out[t] = a[t];",
        UNKNOWN.format("shared"),
    ),
    "a stage too few waited for": Small(
        "__align__(16) __shared__ float a[2][4]; for (int k = 0; k < 2; ++k) {"
        "if (t == 0) __pipeline_memcpy_async(a[k], in, 16); __pipeline_commit(); }"
        "__pipeline_wait_prior({{1|2}}); __syncthreads(); out[t] = a[0][t % 4];",
        UNKNOWN.format("shared"),
    ),
    "copied by all, waited for by each alone": Small(
        f"{QUARTER} __pipeline_memcpy_async(a + 4 * t, in + 4 * t, 16); __pipeline_commit();"
        "__pipeline_wait_prior(0); {{__syncthreads();|}} if (t < 60) out[t] = a[59 - t];",
        "shared memory",
    ),
    "counted without an atomic": Small(
        "{{atomicAdd(out, in[t]);|*out = *out + in[t];}}", "race on device memory", zeros=True
    ),
    "two blocks write one place": Small(
        "if (t < 32) out[{{blockIdx.x * 32 + |}} t] = in[t];",
        "race on device memory, write after write, of blocks",
        blocks=2,
    ),
    "the last block sums without a fence": Small(
        "__shared__ int last; if (t == 0) { out[blockIdx.x] = in[t]; {{__threadfence();|}}"
        "last = atomicAdd(reinterpret_cast<int*>(out) + 32, 1) == 1; } __syncthreads();"
        "if (last && t == 0) out[40] = out[0] + out[1];",
        "race on device memory, read after write, of blocks",
        blocks=2,
        zeros=True,
    ),
    "scratch memory that nobody filled": Small(
        "{{out[t] = 0;|}} out[t] = out[t] + in[t];", UNKNOWN.format("device")
    ),
    "a sum in shared memory that does not begin at 0": Small(
        "__shared__ float sum; {{if (t == 0) sum = 0;|}} __syncthreads(); atomicAdd(&sum, in[t]);"
        "__syncthreads(); out[t] = sum;",
        UNKNOWN.format("shared"),
    ),
    "division by a size of 0": Small("out[t] = t / (n - {{63|64}});", "a division by zero, line"),
    "an index beyond 32 bits": Small(
        "int at = n * {{1|1000000}} * n; if (at == 64) out[t] = in[t];",
        "a product beyond its type, line",
    ),
    "a shift by the thread's number": Small("out[t] = 1 << (t {{% 31|}});", "a shift by more bits"),
}


def small_source(right: bool) -> str:
    """All small kernels, k0, k1 …, in one text: one compilation."""
    parts = ["#include <cuda_fp16.h>\n#include <mma.h>\nusing namespace nvcuda;\n"]
    for number, (body, *_) in enumerate(SMALL.values()):
        body = re.sub(r"\{\{(.*?)\|(.*?)\}\}", lambda m: m[1 if right else 2], body)
        parts.append(
            f'extern "C" __global__ void __launch_bounds__(256) k{number}(float* out, '
            "const float* in, int n) {\nint t = threadIdx.x, i = blockIdx.x * blockDim.x + t;\n"
            f"{body}\n}}\n"
        )
    return "".join(parts)


@pytest.fixture(scope="module")
def small(loaded):
    """The cubins by whether they are right; kept beside the simulated device, and gone with it."""
    made = {}
    CHECKED.mkdir(exist_ok=True)
    for right in (True, False):
        source = small_source(right)
        path = CHECKED / f"small-{hashlib.sha256(source.encode()).hexdigest()[:16]}.cubin"
        if not path.is_file():
            file = path.with_suffix(".cu")
            file.write_text(source)
            words = [ROOT / "tests" / "cudasim" / "nvcc", "-arch=sm_90", "-o", path, file]
            subprocess.run(words, check=True, env={**os.environ, "CUDASIM_CHECKED": "1"})
        made[right] = path.read_bytes()
    return made


class Bench:
    """A context, a stream, N floats of device memory twice, and the small kernels."""

    def __init__(self, context, cubin):
        self.context, self.driver = context, context.driver
        self.stream = self.driver.Stream()
        self.out, self.source = (self.driver.mem_alloc(4 * N) for _ in "ab")
        self.driver.memcpy_htod(self.source, np.ones(N, np.float32))
        self.module = self.driver.module_from_buffer(cubin)

    def launch(self, name="read one beyond", *, grid=(1, 1), threads=N, stream=None, **places):
        """The kernel of that name in SMALL; ``places``: other addresses of `out` and `source`."""
        kernel = self.module.get_function(f"k{list(SMALL).index(name)}")
        kernel.prepare("PPi")
        at = [places.get("out", self.out), places.get("source", self.source), np.int32(N)]
        shared = places.get("shared", 4 * N)
        on = None if stream == "default" else stream or self.stream
        kernel.prepared_async_call(grid, (threads, 1, 1), on, *at, shared_size=shared)

    def wait(self):
        """Until all is done, or the context is lost."""
        with suppress(self.driver.Error):
            self.stream.synchronize()


def in_bench(device, cubin, act):
    """What is reported while ``act`` uses a bench."""
    with GpuContext() as context:
        device.check(True)
        bench = Bench(context, cubin)
        act(bench)
        bench.wait()
        told = device.reports()
        del bench
    device.reports()  # of what a lost context leaves
    return told


@pytest.mark.parametrize("name", SMALL)
def test_a_right_kernel_is_silent_and_the_wrong_one_named(device, small, name):
    def act(bench):
        if SMALL[name].zeros:
            bench.driver.memcpy_htod(bench.out, np.zeros(N, np.float32))
        bench.launch(name, grid=(SMALL[name].blocks, 1))

    assert in_bench(device, small[True], act) == []
    told = in_bench(device, small[False], act)
    start = f"kernel k{list(SMALL).index(name)}: "
    assert any(each.startswith(start) and SMALL[name].told in each for each in told), told


# ---- the use of the driver ----


def refused(bench, call, *arguments, **words):
    with pytest.raises((bench.driver.Error, TypeError)):
        call(*arguments, **words)


def captured(call):
    """``call(bench)`` while a graph is captured: it fails, and there is no graph."""

    def act(bench):
        from cuda.bindings import driver

        bench.driver.Context.synchronize()
        spare = bench.driver.Stream()
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        assert int(driver.cuStreamBeginCapture(bench.stream.handle, mode)[0]) == 0
        bench.launch()
        with suppress(bench.driver.Error):
            call(bench, spare)
        code, _ = driver.cuStreamEndCapture(bench.stream.handle)
        assert int(code) == 901  # CUDA_ERROR_STREAM_CAPTURE_INVALIDATED

    return act


def wait_for_an_event_of_outside(bench, spare):
    event = bench.driver.Event()
    event.record(spare)
    bench.stream.wait_for_event(event)


def mapped(bench, flags=2):
    return bench.driver.pagelocked_empty(N, np.float32, mem_flags=flags)


def stale_read(bench):
    place = mapped(bench)
    bench.launch(out=place.base.get_device_pointer())
    _ = float(place[0])


def early_write(bench):
    place = mapped(bench)
    bench.launch(source=place.base.get_device_pointer())
    place[0] = 5


def stale_read_of_a_graph(bench):
    from cuda.bindings import driver

    place, stream = mapped(bench), bench.stream.handle
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    driver.cuStreamBeginCapture(stream, mode)
    bench.launch(out=place.base.get_device_pointer())
    graph = driver.cuStreamEndCapture(stream)[1]
    run = driver.cuGraphInstantiate(graph, 0)[1]
    driver.cuGraphLaunch(run, stream)
    _ = float(place[0])
    bench.wait()
    driver.cuGraphExecDestroy(run)
    driver.cuGraphDestroy(graph)


def use_after_free(bench):
    gone = bench.driver.mem_alloc(4 * N)
    address = int(gone)
    gone.free()
    bench.launch(source=address)


HELD = "not allowed while a graph is captured"
USES = {
    "a launch beyond its bounds": (
        lambda b: refused(b, b.launch, threads=512),
        "kernel k14: 512 threads a block, its __launch_bounds__ are 256",
    ),
    "dynamic shared memory without leave": (
        lambda b: refused(b, b.launch, shared=50000),
        "kernel k14: more dynamic shared memory than it was given leave for",
    ),
    "a grid with more rows than there are": (
        lambda b: refused(b, b.launch, grid=(1, 65536)),
        "kernel k14: a grid or a block of a size that no device takes",
    ),
    "freed memory read": (use_after_free, "kernel k14: an access to freed memory, byte"),
    "mapped memory read before its kernel is done": (
        stale_read,
        "the host touched pinned memory that a pending kernel k14 writes",
    ),
    "mapped memory written under its kernel": (
        early_write,
        "the host wrote pinned memory that a pending kernel k14 reads",
    ),
    "mapped memory read before its graph is done": (
        stale_read_of_a_graph,
        "the host touched pinned memory that a pending kernel k14 writes",
    ),
    "allocating in a capture": (
        captured(lambda b, _: b.driver.mem_alloc(16)),
        f"cuMemAlloc: {HELD}",
    ),
    "page-locking in a capture": (captured(lambda b, _: mapped(b)), f"cuMemHostAlloc: {HELD}"),
    "freeing in a capture": (captured(lambda b, _: b.out.free()), f"cuMemFree: {HELD}"),
    "a copy that waits, in a capture": (
        captured(lambda b, _: b.driver.memcpy_htod(b.source, np.ones(4, np.float32))),
        f"a copy that waits: {HELD}",
    ),
    "waiting for the stream that is captured": (
        captured(lambda b, _: b.stream.synchronize()),
        f"cuStreamSynchronize: {HELD}",
    ),
    "asking whether a captured stream is done": (
        captured(lambda b, _: b.stream.is_done()),
        f"cuStreamQuery: {HELD}",
    ),
    "waiting for everything in a capture": (
        captured(lambda b, _: b.driver.Context.synchronize()),
        f"cuCtxSynchronize: {HELD}",
    ),
    "the default stream in a capture": (
        captured(lambda b, _: b.launch(stream="default")),
        f"cuLaunchKernel on the default stream: {HELD}",
    ),
    "an event of outside in a capture": (
        captured(wait_for_an_event_of_outside),
        f"cuStreamWaitEvent for an event of outside: {HELD}",
    ),
}


@pytest.mark.parametrize("name", USES)
def test_a_wrong_use_of_the_driver_is_named(device, small, name):
    act, wanted = USES[name]
    told = in_bench(device, small[True], act)
    assert any(each.startswith(wanted) for each in told), told


ASK = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
def ask(name, since):
    at = ctypes.c_void_p()
    cuda.cuGetProcAddress_v2(name, ctypes.byref(at), since, ctypes.c_ulonglong(0), None)
    return at.value
print(ask(b"cuEventElapsedTime", 12000) is not None, ask(b"cuEventElapsedTime", 12080) is not None,
      ask(b"cuEventElapsedTime", 12000) != ask(b"cuEventElapsedTime", 12080),
      ask(b"cuGraphInstantiateWithFlags", 11040) is not None)
"""


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("12080", "True True True True"),
        ("12020", "True False True True"),
        ("11030", "False False False False"),
    ],
)
def test_a_driver_has_the_calls_of_its_version(loaded, version, wanted):
    env = {"LD_LIBRARY_PATH": str(ROOT / ".cudasim"), "CUDASIM_DRIVER_VERSION": version}
    words = [sys.executable, "-c", ASK]
    assert subprocess.run(words, env=env, capture_output=True, text=True).stdout.strip() == wanted


# ---- the project's kernels, one barrier or one guard short ----


def boxes(tmp_path):
    """Candidates and NMS of both families, two frames; and more candidates than there is room."""
    kit = test_postprocess_kernel
    for family in ("yolov8", "yolox"):
        raws = [kit.raw_output(family, 2, seed, 0.4) for seed in (1, 2)]
        kit.of_frames(family, np.concatenate(raws), 2, 0.4, 0.45)
    many = np.tile(kit.raw_output("yolov8", 1, 0, 1.0)[:, :, :1], (1, 1, kit.CAPACITY + 256))
    kit.of_frames("yolov8", many, 1, 0.0, 0.45)


def pixels(tmp_path):
    """A picture of an odd size."""
    picture = test_preprocess_kernel.picture("bgr8", 41, 23)
    words = {"out_wh": (33, 17), "placed": (5, 0, 23, 17), "swap": False}
    test_preprocess_kernel.on_device(picture, "bgr8", **words, **test_preprocess_kernel.PLAIN)


def network(tmp_path, *, half):
    """Dense convolutions, a depthwise and a pointwise one; how far from ONNX Runtime's numbers."""
    shapes = {"s": (16, 3, 3, 3), "a": (24, 16, 3, 3), "b": (24, 1, 3, 3), "c": (40, 24, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "s"], ["t"], pads=[1] * 4),
        helper.make_node("Conv", ["t", "a"], ["u"], pads=[1] * 4),
        helper.make_node("Conv", ["u", "b"], ["v"], pads=[1] * 4, group=24),
        helper.make_node("Conv", ["v", "c"], ["y"]),
    ]
    return run_network(tmp_path, nodes, shapes, half=half)


def one_convolution(tmp_path, *, half):
    """One kernel, quick to build, of more K steps than its ring has stages."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[3] * 4)]
    return run_network(tmp_path, nodes, {"w": (40, 3, 7, 7)}, half=half)


def shared_sums(tmp_path):
    """Three convolutions, one after the other, whose sums three blocks share, all in one kernel."""
    shapes = {"a": (8, 3, 7, 7), "b": (16, 8, 5, 5), "c": (40, 16, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["s"], pads=[3] * 4),
        helper.make_node("Conv", ["s", "b"], ["t"], pads=[2] * 4),
        helper.make_node("Conv", ["t", "c"], ["y"], pads=[1] * 4),
    ]
    with pytest.MonkeyPatch.context() as patch:
        test_engine.share_sums(patch, 3)
        patch.setattr(ConvAutotuner, "_by_rule", lambda self, sizes: TILES[-1])
        return run_network(tmp_path, nodes, shapes, half=False)


def run_network(tmp_path, nodes, shapes, *, half):
    chance = np.random.default_rng(1)
    weights = {k: chance.standard_normal(v).astype(np.float32) / 8 for k, v in shapes.items()}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("x", TensorProto.FLOAT, (1, 3, 9, 9))],
        [value("y", TensorProto.FLOAT, (1, 40, 9, 9))],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    path = tmp_path / "small.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    x = chance.random((1, 3, 9, 9), np.float32)
    (found,) = test_engine.on_device(path, (9, 9), x, half=half)
    (wanted,) = open_session(path).run(None, {"x": x})
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def convolution_of_bytes(tmp_path):
    """The same of a quantised one."""
    weight = np.random.default_rng(1).integers(-127, 128, (8, 3, 9, 9)).astype(np.int8)
    nodes = [
        *test_int8.quantised("x", "a"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["v"]),
        helper.make_node("Conv", ["a", "v"], ["y"], pads=[4] * 4),
    ]
    path = test_int8.by_hand(tmp_path, nodes, test_int8.WEIGHTS | {"w": weight})
    x = np.random.default_rng(1).random((1, 3, 6, 6), np.float32)
    (found,), (wanted,) = test_engine.on_device(path, (6, 6), x), test_int8.reference(path, x)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def picked(network_kernels, file):
    """A file without the kernels that the network does not use: quicker to build."""
    line = re.compile(
        r'^extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\('
        r"([^\n]*\}\n|.*?^\}\n)",
        re.M | re.S,
    )
    text = (KERNEL_DIR / file).read_text()
    return line.sub(lambda m: m[0] if m[1] in network_kernels else "", text)


USED: dict[str, set[str]] = {}  # kernels that the networks of a scene launch


def used(scene, tmp_path):
    """Found once, without the checks."""
    if scene not in USED:
        names, load = USED.setdefault(scene, set()), launch.load_kernel

        def noting(module, name, signature):
            names.add(name)
            return load(module, name, signature)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launch, "load_kernel", noting)
            patch.setattr(launch_int8, "load_kernel", noting)
            WHOLE[scene](tmp_path)
    return USED[scene]


@pytest.fixture
def checked(device, monkeypatch, tmp_path, scene):
    """The project's kernels from a folder of this test, built with the checks."""
    for path in KERNEL_DIR.glob("*.cu*"):
        (tmp_path / path.name).write_text(path.read_text())
    if scene not in ("boxes", "pixels"):
        file = "conv_int8.cu" if "bytes" in scene else "conv.cu"
        (tmp_path / file).write_text(picked(used(scene, tmp_path), file))
    monkeypatch.setenv("CUDASIM_CHECKED", "1")
    monkeypatch.setenv("KESTREL_CUBIN_CACHE", str(CHECKED))
    monkeypatch.setattr(kernel_files, "KERNEL_DIR", tmp_path)
    device.check(True)
    return tmp_path


BARRIER = re.compile(r"__syncthreads\(\);")
GUARD = re.compile(r"if \(\w+ >= [^;{}()]*\) return;")
WHOLE = {
    "boxes": boxes,
    "pixels": pixels,
    "network in float32": lambda path: network(path, half=False),
    "network in half precision": lambda path: network(path, half=True),
    "shared sums in float32": shared_sums,
    "convolution of bytes": convolution_of_bytes,
    "convolution in float32": lambda path: one_convolution(path, half=False),
    "convolution in half precision": lambda path: one_convolution(path, half=True),
}
LOST = [("conv.cu", BARRIER, "convolution in half precision"), ("postprocess.cu", BARRIER, "boxes")]
LOST += [("postprocess.cu", GUARD, "boxes"), ("preprocess.cu", GUARD, "pixels")]
LOST += [("conv_common.cuh", BARRIER, "shared sums in float32")]
LOST += [("conv_int8.cu", BARRIER, "convolution of bytes")]


def for_floats(before):
    """Whether what follows is compiled only without HALF_IN."""
    open_: list[str] = []
    for line in before.splitlines():
        if line.startswith("#if"):
            open_.append(line)
        elif line.startswith("#else"):
            open_[-1] = f"not {open_[-1]}"
        elif line.startswith("#endif"):
            open_.pop()
    return "not #ifdef HALF_IN" in open_


def planted():
    """Each barrier and each guard: file, text, which one of its kind, and what shows its loss."""
    cases = []
    for file, pattern, scene in LOST:
        text = (KERNEL_DIR / file).read_text()
        for found in pattern.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            kind = "barrier" if pattern is BARRIER else "guard"
            before = text[: found.start()]
            shows = "convolution in float32" if for_floats(before) else scene
            case = (file, found.group(), before.count(found.group()), shows)
            cases.append(pytest.param(*case, id=f"{file} without the {kind} of line {line}"))
    return cases


@pytest.mark.parametrize("scene", list(WHOLE)[:6])
def test_the_projects_kernels_pass_every_check(device, checked, scene):
    apart = WHOLE[scene](checked)
    assert device.reports() == []
    assert apart is None or apart < 2e-2


@pytest.mark.parametrize(("file", "text", "number", "scene"), planted())
def test_a_kernel_that_lost_a_line_is_named(device, checked, file, text, number, scene):
    path = checked / file
    parts = path.read_text().split(text)
    path.write_text(text.join(parts[: number + 1]) + text.join(parts[number + 1 :]))
    with suppress(Exception):  # the context may be lost
        WHOLE[scene](checked)
    told = device.reports()
    wanted = ("race on", UNKNOWN.format("shared")) if "sync" in text else (BEYOND,)
    assert any(each in line for line in told for each in wanted), told


HANDED_OVER = {
    "counted and read without a fence": (
        "__threadfence();",
        "",
        "race on device memory, read after write, of blocks",
    ),
    "added up by the first to come": ("== parts - 1", "== 0", UNKNOWN.format("device")),
    "counted from where the last launch ended": (
        "if (last) g.counted[first] = 0;",
        "",
        UNKNOWN.format("device"),
    ),
}


@pytest.mark.parametrize("scene", ["shared sums in float32"])
@pytest.mark.parametrize("name", HANDED_OVER)
def test_parts_of_sums_that_are_handed_over_wrongly_are_named(device, checked, name, scene):
    right, wrong, wanted = HANDED_OVER[name]
    path = checked / "conv_common.cuh"
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    with suppress(Exception):  # the context may be lost
        WHOLE[scene](checked)
    told = device.reports()
    assert any(wanted in line for line in told), told
