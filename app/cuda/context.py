"""The GPU's context, page-locked memory and the wait for its work.

The primary context is retained, made current on the thread that enters, and given back on exit: no
autoinit, no finaliser. Everything else of the GPU lives inside the ``with`` and on that thread.

A slot owns page-locked memory, so that copies are asynchronous: from pageable memory the driver
would copy twice and block meanwhile.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DeviceError

log = logging.getLogger(__name__)

OLDEST_CAPABILITY = (7, 5)
_here = threading.local()  # .contexts: GPU index to its context, where this thread has entered one


def load_driver() -> Any:
    """The module ``pycuda.driver``, initialised; raises DeviceError with the cure."""
    try:
        import pycuda.driver as driver
    except ImportError as fault:
        if "libcuda" in str(fault):
            raise DeviceError(
                f"no NVIDIA driver: {fault}; install it (nvidia-smi must show the GPU), "
                "or use --engine cpu"
            ) from fault
        if "undefined symbol" in str(fault):
            raise DeviceError(
                f"the NVIDIA driver is older than the CUDA that PyCUDA was built with ({fault}): "
                "install a newer driver, or pip install --force-reinstall --no-cache-dir pycuda "
                "with an older toolkit, or use --engine cpu"
            ) from fault
        raise DeviceError(
            f"PyCUDA is missing ({fault}): run scripts/setup on a machine with the CUDA toolkit, "
            "or use --engine cpu"
        ) from fault
    try:
        driver.init()
    except driver.Error as fault:
        raise DeviceError(
            f"the NVIDIA driver does not start: {fault}; look at nvidia-smi, start the machine "
            "anew if the driver was just updated, or use --engine cpu"
        ) from fault
    return driver


class Gpu(NamedTuple):
    """What a GPU is; ``driver`` is the CUDA version that its driver can run (12080 for 12.8)."""

    name: str
    capability: tuple[int, int]
    driver: int


def find_gpu(index: int = 0) -> Gpu:
    """GPU ``index``, without a context, on any thread; raises DeviceError with the cure."""
    driver = load_driver()
    device = _device(driver, index)
    major, minor = device.compute_capability()
    return Gpu(str(device.name()), (int(major), int(minor)), int(driver.get_driver_version()))


def _device(driver: Any, index: int) -> Any:
    count = driver.Device.count()
    if index >= count:
        raise DeviceError(f"there is no GPU {index}: {count} found; use --engine cpu")
    return driver.Device(index)


class GpuContext:
    """The primary context of GPU ``index``, current on the thread that entered it.

    Entered within another one of the same GPU and thread it is that one's context: PyCUDA ties
    memory to the context object that is current, and does not free what outlives that object.
    """

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self._context: Any = None
        self._thread: int | None = None
        self.driver: Any = None
        self.device: Any = None
        # for what no finaliser frees; called while the context is still current, unless whoever
        # put it there has taken it out again
        self.at_exit: set[Callable[[], None]] = set()
        self.modules: dict[tuple[str, ...], Any] = {}  # kernel files, loaded once for all slots

    def __enter__(self) -> GpuContext:
        self.driver = load_driver()
        self.device = _device(self.driver, self.index)
        if self.capability < OLDEST_CAPABILITY:
            raise DeviceError(
                f"{self.name} has compute capability {self.capability[0]}.{self.capability[1]}; "
                "at least {}.{} is needed; use --engine cpu".format(*OLDEST_CAPABILITY)
            )
        contexts = _here.__dict__.setdefault("contexts", {})
        if self.index not in contexts:
            try:
                self._context = self.device.retain_primary_context()
                self._context.push()
            except self.driver.Error as fault:
                self._context = None
                raise DeviceError(f"{self.name} cannot be used: {fault}") from fault
            contexts[self.index] = self._context
        self._thread = threading.get_ident()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        context, self._context = self._context, None
        while self.at_exit:
            self.at_exit.pop()()
        self.modules.clear()
        if context is None:  # the outer one's
            return
        del _here.contexts[self.index]
        try:
            context.pop()
            context.detach()
        except self.driver.Error as fault:  # the end may tell what went wrong before
            if error is None:
                raise lost(self.name, fault) from fault

    @property
    def name(self) -> str:
        return str(self.device.name())

    @property
    def capability(self) -> tuple[int, int]:
        major, minor = self.device.compute_capability()
        return int(major), int(minor)

    @cached_property
    def graph_calls(self) -> Any:
        """NVIDIA's bindings for CUDA graphs, None where they are not here."""
        try:
            from cuda.bindings import driver
        except ImportError:
            log.info("no cuda-bindings: frames are launched call by call, not as one graph")
            return None
        return driver

    @cached_property
    def elapsed(self) -> Any:
        """``cuEventElapsedTime`` in the bindings' manner: (code, milliseconds).

        Bindings of CUDA 13 ask for a symbol that drivers before CUDA 12.8 lack. Those have the
        older one of libcuda, which does the same for events of one process.
        """
        driver = self.graph_calls
        _, event = driver.cuEventCreate(0)
        try:
            driver.cuEventElapsedTime(event, event)  # an error is fine, a missing symbol is not
        except RuntimeError:
            log.info("cuda-bindings are newer than the driver: event times come from libcuda")
            return _libcuda_elapsed(driver)
        finally:
            driver.cuEventDestroy(event)
        return driver.cuEventElapsedTime

    def check_thread(self) -> None:
        """Raise DeviceError when called from another thread than the one that entered."""
        if threading.get_ident() != self._thread:
            raise DeviceError(
                "the GPU's context belongs to the pipeline thread; please report this"
            )


def _libcuda_elapsed(driver: Any) -> Callable[[Any, Any], tuple[Any, float]]:
    call = ctypes.CDLL("libcuda.so.1").cuEventElapsedTime
    call.argtypes = [ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_void_p]

    def elapsed(start: Any, end: Any) -> tuple[Any, float]:
        ms = ctypes.c_float()
        return driver.CUresult(call(ctypes.byref(ms), int(start), int(end))), ms.value

    return elapsed


def lost(name: str, fault: Exception) -> DeviceError:
    """The fault after which nothing on the GPU can be trusted: the process has to end."""
    if "out of memory" in str(fault):
        return DeviceError(
            f"{name}: {fault}. End other programs that use it (nvidia-smi shows them), choose a "
            "smaller model or frame size, or use --engine cpu"
        )
    return DeviceError(
        f"{name} failed: {fault}. The process ends so that its supervisor can start it anew; if it "
        "comes back, look at dmesg for Xid messages, at temperature and power supply"
    )


class PinnedArray:
    """Page-locked host memory of ``shape``, with its copy on the device unless that has another.

    ``mapped``: no copy; ``device`` is the address by which kernels reach the host's memory.
    """

    def __init__(
        self,
        context: GpuContext,
        shape: tuple[int, ...],
        dtype: Any,
        *,
        on_device: bool = True,
        mapped: bool = False,
    ) -> None:
        self._driver, self.mapped = context.driver, mapped
        flags = self._driver.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: NDArray[Any] = self._driver.pagelocked_empty(shape, dtype, mem_flags=flags)
        self.device: Any = None
        base: Any = self.host.base
        try:
            if mapped:
                self.device = int(base.get_device_pointer())
            elif on_device:
                self.device = self._driver.mem_alloc(self.host.nbytes)
        except BaseException:  # nobody else knows of it yet, and the error may outlive the context
            self.host = np.empty(0)
            base.free()
            raise

    def check(self) -> None:
        """Raise DeviceError unless ``host`` is page-locked: a copy from it would not be one."""
        if type(self.host.base).__name__ != "PagelockedHostAllocation":
            raise DeviceError("a slot's array is not page-locked; please report this")

    def upload(self, stream: Any, nbytes: int) -> None:
        """Enqueue the copy of the first ``nbytes`` to the device, where there is one."""
        if self.mapped:
            return
        flat = self.host.reshape(-1).view(np.uint8)[:nbytes]
        self._driver.memcpy_htod_async(self.device, flat, stream)

    def download(self, stream: Any, address: int, rows: int) -> None:
        """Enqueue the copy of a device tensor's first rows into ``host``, where kernels do not
        write there."""
        if self.mapped:
            return
        self._driver.memcpy_dtoh_async(self.host[:rows], address, stream)

    def close(self) -> None:
        """Free both sides; nothing may be pending."""
        if self.device is not None and not self.mapped:
            self.device.free()
        base: Any = self.host.base
        self.host = np.empty(0)
        base.free()


_SEMAPHORE_BYTES = 64  # more than any libc's sem_t


class Bell:
    """Calls ``ring`` when a stream's work has come so far, from a thread of its own.

    The driver posts a semaphore, in C: a Python function there would need the interpreter's lock,
    which a thread may hold that waits for the driver, and both would wait for ever.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._ring, self._wait, self._post = ring, libc.sem_wait, libc.sem_post
        self._semaphore = ctypes.create_string_buffer(_SEMAPHORE_BYTES)
        libc.sem_init(self._semaphore, 0, 0)
        self._launch = ctypes.CDLL("libcuda.so.1").cuLaunchHostFunc
        self._launch.argtypes = [ctypes.c_void_p] * 3
        self._function = ctypes.cast(self._post, ctypes.c_void_p)
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def enqueue(self, stream: Any) -> None:
        """Ring after what is on the stream by now."""
        code = self._launch(stream.handle, self._function, ctypes.addressof(self._semaphore))
        if code:
            raise DeviceError(f"cuLaunchHostFunc failed with CUDA error {code}")

    def close(self) -> None:
        """End the thread; nothing may be pending."""
        self._ending = True
        self._post(self._semaphore)
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wait(self._semaphore)  # ctypes lets go of the interpreter meanwhile
            if self._ending:
                return
            self._ring()
