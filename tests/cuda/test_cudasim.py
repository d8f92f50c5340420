"""The simulated device itself: it computes, and each bug planted here is reported."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from app.core.errors import DeviceError
from app.cuda.context import GpuContext
from app.cuda.kernels import load_kernel

ROOT = Path(__file__).parents[2]
KERNELS = """
extern "C" __global__ void twice(float* out, const float* in, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = 2 * in[i];
}
extern "C" __global__ void total(float* out, const float* in, int n) {
    __shared__ float part[32];
    float v = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) v += in[i];
    for (int k = 16; k; k /= 2) v += __shfl_down_sync(0xffffffffu, v, k);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    v = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f;
    for (int k = 16; k; k /= 2) v += __shfl_down_sync(0xffffffffu, v, k);
    if (threadIdx.x == 0) *out = v;
}
extern "C" __global__ void reversed(float* out, const float* in) {
    extern __shared__ float line[];
    line[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = line[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void count(int* out, const float* in, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && in[i] > 0.5f) atomicAdd(out, 1);
}
extern "C" __global__ void vote(unsigned* out, const float* in) {
    unsigned votes = __ballot_sync(0xffffffffu, in[threadIdx.x] > 0.5f);
    if (threadIdx.x == 0) *out = votes;
}
extern "C" __global__ void stuck(float* out) {
    if (threadIdx.x < 16) __syncthreads();
    else __syncwarp(0xffff0001u);
    out[0] = 1;
}
extern "C" __global__ void beyond(float* out) { out[-(1ll << 38)] = 1; }  // a TB off: nothing
"""
TENSOR_CORE = """
#include <mma.h>
using namespace nvcuda;
extern "C" __global__ void multiply(float* c, const half* a, const half* b) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
    wmma::fill_fragment(fc, 0.0f);
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
}
"""
N = 1000
CACHE = ROOT / ".cudasim" / "pycuda"


@pytest.fixture
def gpu(device):
    with GpuContext() as context:
        yield context


def built(gpu, source=KERNELS):
    """A module that goes with its last reference: fixtures would outlive the context."""
    from pycuda.compiler import compile as compile_source

    CACHE.mkdir(exist_ok=True)
    # PyCUDA runs the preprocessor to cache a source that includes others
    cache = False if "#include" in source else str(CACHE)
    return gpu.driver.module_from_buffer(compile_source(source, no_extern_c=True, cache_dir=cache))


class Buffers:
    """Page-locked in and out, device in and out, one stream."""

    def __init__(self, driver):
        self.driver, self.stream = driver, driver.Stream()
        self.host_in = driver.pagelocked_empty(N, np.float32)
        self.host_out = driver.pagelocked_empty(N, np.float32)
        self.host_in[:] = np.random.default_rng(0).random(N)
        self.device_in = driver.mem_alloc(self.host_in.nbytes)
        self.device_out = driver.mem_alloc(self.host_out.nbytes)

    def upload(self):
        self.driver.memcpy_htod_async(self.device_in, self.host_in, self.stream)

    def download(self):
        self.driver.memcpy_dtoh_async(self.host_out, self.device_out, self.stream)


@pytest.mark.parametrize("seed", range(5))
def test_work_on_a_stream_stays_in_order_however_late_it_starts(device, gpu, seed):
    module = built(gpu)
    device.delay(2000, seed)
    b = Buffers(gpu.driver)
    twice = load_kernel(module, "twice", "PPi")
    for _ in range(3):
        b.upload()
        twice((8, 1), (128, 1, 1), b.stream, b.device_out, b.device_in, np.int32(N))
        b.download()
        b.stream.synchronize()
        assert (b.host_out == 2 * b.host_in).all()
        b.host_in[:] += 1


def test_streams_are_independent_until_an_event_joins_them(device, gpu):
    module = built(gpu)
    device.delay(3000, 1)
    driver, b = gpu.driver, Buffers(gpu.driver)
    other, ready = driver.Stream(), driver.Event()
    b.upload()
    ready.record(b.stream)
    other.wait_for_event(ready)
    twice = load_kernel(module, "twice", "PPi")
    twice((8, 1), (128, 1, 1), other, b.device_out, b.device_in, np.int32(N))
    driver.memcpy_dtoh_async(b.host_out, b.device_out, other)
    other.synchronize()
    assert (b.host_out == 2 * b.host_in).all()
    b.host_in[:] = 0  # seen to be done through the other stream: allowed


def test_shared_memory_barriers_shuffles_votes_and_atomics(gpu):
    module, b = built(gpu), Buffers(gpu.driver)
    b.upload()
    load_kernel(module, "total", "PPi")(
        (1, 1), (256, 1, 1), b.stream, b.device_out, b.device_in, np.int32(N)
    )
    b.download()
    b.stream.synchronize()
    assert b.host_out[0] == pytest.approx(b.host_in.sum(), rel=1e-5)
    function = module.get_function("reversed")
    function.prepare("PP")
    function.prepared_async_call(
        (1, 1), (100, 1, 1), b.stream, b.device_out, b.device_in, shared_size=400
    )
    b.download()
    b.stream.synchronize()
    assert (b.host_out[:100] == b.host_in[99::-1]).all()
    zero = np.zeros(2, np.int32)
    b.driver.memcpy_htod(b.device_out, zero)
    load_kernel(module, "count", "PPi")(
        (8, 1), (128, 1, 1), b.stream, b.device_out, b.device_in, np.int32(N)
    )
    b.stream.synchronize()
    b.driver.memcpy_dtoh(zero, b.device_out)
    assert zero[0] == (b.host_in > 0.5).sum()
    load_kernel(module, "vote", "PP")((1, 1), (32, 1, 1), b.stream, b.device_out, b.device_in)
    b.stream.synchronize()
    b.driver.memcpy_dtoh(zero, b.device_out)
    assert zero[0].astype(np.uint32) == sum(1 << i for i in range(32) if b.host_in[i] > 0.5)


def test_tensor_cores_multiply(gpu):
    driver = gpu.driver
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((16, 16)).astype(np.float16) for _ in "ab")
    stream = driver.Stream()
    places = [driver.mem_alloc(n) for n in (1024, 512, 512)]
    driver.memcpy_htod(places[1], a)
    driver.memcpy_htod(places[2], np.ascontiguousarray(b.T))
    multiply = load_kernel(built(gpu, TENSOR_CORE), "multiply", "PPP")
    multiply((1, 1), (32, 1, 1), stream, *places)
    stream.synchronize()
    c = np.empty((16, 16), np.float32)
    driver.memcpy_dtoh(c, places[0])
    assert np.abs(c - a.astype(np.float32) @ b.astype(np.float32)).max() < 1e-4


def test_new_device_memory_holds_no_zeros_to_rely_on(gpu):
    place = gpu.driver.mem_alloc(64)
    found = np.empty(16, np.float32)
    gpu.driver.memcpy_dtoh(found, place)
    assert np.isnan(found).all()


# ---- planted bugs ----


def test_a_write_to_memory_that_a_pending_copy_reads_is_reported(device, gpu):
    buffers = Buffers(gpu.driver)
    buffers.upload()
    buffers.host_in[0] = 5
    assert device.reports() == ["the host wrote pinned memory that a pending copy reads"]


def test_a_read_before_the_copy_is_known_to_be_done_is_reported(device, gpu):
    buffers = Buffers(gpu.driver)
    buffers.upload()
    buffers.download()
    _ = float(buffers.host_out[0])
    assert device.reports() == ["the host touched pinned memory that a pending copy writes"]
    buffers.stream.synchronize()


def test_waiting_first_is_right_and_not_reported(device, gpu):
    buffers = Buffers(gpu.driver)
    done = gpu.driver.Event()
    buffers.upload()
    buffers.download()
    done.record(buffers.stream)
    done.synchronize()
    buffers.host_in[0] = buffers.host_out[0]
    assert device.reports() == []


def test_an_asynchronous_copy_from_pageable_memory_is_reported(device, gpu):
    buffers = Buffers(gpu.driver)
    pageable = np.zeros(N, np.float32)
    gpu.driver.memcpy_htod_async(buffers.device_in, pageable, buffers.stream)
    assert device.reports() == ["an asynchronous copy of memory that is not page-locked"]


def test_freeing_page_locked_memory_under_a_pending_copy_is_reported(device, gpu):
    device.delay(3000, 2)
    late = Buffers(gpu.driver)
    late.upload()
    late.host_in.base.free()
    assert "cuMemFreeHost: freed with a copy pending" in device.reports()


def test_a_context_on_a_second_thread_is_reported_and_refused_by_the_application(device, gpu):
    def other():
        gpu._context.push()
        gpu.driver.Context.pop()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert device.reports() == ["a context was made current on a second thread"]
    refused = []

    def use():
        try:
            gpu.check_thread()
        except DeviceError as error:
            refused.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert "belongs to the pipeline thread" in refused[0]


def test_wrong_arguments_are_reported(device, gpu):
    module, buffers = built(gpu), Buffers(gpu.driver)
    twice = load_kernel(module, "twice", "PP")
    with pytest.raises(gpu.driver.Error):
        twice((1, 1), (32, 1, 1), buffers.stream, buffers.device_out, buffers.device_in)
    assert device.reports() == ["kernel twice: 16 bytes of arguments, it takes 20"]


def test_memory_runs_out(device, gpu):
    with pytest.raises(gpu.driver.MemoryError):
        gpu.driver.mem_alloc(1 << 31)


@pytest.mark.parametrize(
    ("kernel", "why"),
    [
        ("beyond", "an access to memory that nobody allocated"),
        ("stuck", "a barrier that some threads of the block never reach"),
    ],
)
def test_an_illegal_access_or_a_barrier_never_reached_poisons_the_context(device, gpu, kernel, why):
    module, buffers = built(gpu), Buffers(gpu.driver)
    bad = load_kernel(module, kernel, "P")
    bad((1, 1), (32, 1, 1), buffers.stream, buffers.device_out)
    with pytest.raises(gpu.driver.Error, match="illegal memory access"):
        gpu.driver.Context.synchronize()
    with pytest.raises(gpu.driver.Error, match="illegal memory access"):
        gpu.driver.mem_alloc(16)
    assert device.reports() == [f"kernel {kernel}: {why}"]


def test_nothing_is_left_of_a_poisoned_context(device):
    """After the tests above a new context works."""
    with GpuContext() as context:
        context.driver.mem_alloc(16).free()


def test_a_planted_error_strikes_once(device, gpu):
    device.plant("cuEventCreate", 999, after=1)
    gpu.driver.Event()
    with pytest.raises(gpu.driver.Error):
        gpu.driver.Event()
    gpu.driver.Event()


def test_what_a_context_leaves_behind_is_reported(device):
    with GpuContext() as context:
        kept = [context.driver.mem_alloc(16), context.driver.Stream()]
    (told,) = device.reports()
    assert told == "the context ended with 1 allocations, 1 streams, 0 events and 0 modules left"
    del kept


def test_a_hundred_contexts_leave_nothing(device):
    for _ in range(100):
        with GpuContext() as context:
            place = context.driver.mem_alloc(1 << 16)
            place.free()


def without_devices(code: str, **environment: str) -> str:
    """Run code in a process of its own, with other settings of the device."""
    words = [sys.executable, "-c", code]
    library = ROOT / ".cudasim"
    env = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(library), **environment}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


TRY = """
from app.cuda.context import GpuContext
try:
    with GpuContext() as c:
        print(c.name)
except Exception as e:
    print(type(e).__name__, e)
"""


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "Simulated CUDA device"),
        ({"CUDASIM_DEVICES": "0"}, "DeviceError the NVIDIA driver does not start"),
        ({"CUDASIM_CAPABILITY": "61"}, "DeviceError Simulated CUDA device has compute capability"),
        ({"LD_LIBRARY_PATH": ""}, "DeviceError no NVIDIA driver: libcuda.so.1"),
    ],
)
def test_what_the_machine_lacks_is_told_with_the_cure(loaded, environment, told):
    out = without_devices(TRY, **environment)
    assert told in out
    assert told.startswith("Simulated") or "--engine cpu" in out
