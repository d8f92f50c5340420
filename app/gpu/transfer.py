"""How do a frame's bytes come to the GPU and the results back, without anybody waiting?

A slot owns page-locked memory, so that copies are asynchronous: from pageable memory the driver
would copy twice and block meanwhile.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DeviceError
from app.gpu.context import GpuContext


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
