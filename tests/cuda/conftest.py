"""The device for the tests of the GPU path: the simulated one (tests/cudasim/README.md), or a GPU.

The simulated device's library is loaded before PyCUDA, whose extension then finds the driver's
functions in it. ``KESTREL_GPU=real pytest -m gpu tests/cuda`` runs those marked so on the GPU of
this machine instead; those that ask for faults or strict checks are for the simulated device.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("KESTREL_GPU") == "real"
CHECKED = bool(os.environ.get("CUDASIM_CHECKED"))  # all kernels: slow, for a look by hand
CUBINS = "checked" if CHECKED else "cubins"
LIBRARY = ROOT / ".cudasim" / "libcuda.so.1"


class Device:
    """What tests ask of the simulated device and tell it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._planted: set[str] = set()
        for count in ("blocks", "streams", "events", "modules"):
            getattr(library, f"cudasim_{count}").restype = ctypes.c_size_t

    def reports(self) -> list[str]:
        """What strict checks found since the last call."""
        buffer = ctypes.create_string_buffer(1 << 16)
        self._library.cudasim_reports(buffer, ctypes.c_size_t(len(buffer)))
        return buffer.value.decode().splitlines()

    def delay(self, us: int, seed: int = 0) -> None:
        """Work on streams starts up to ``us`` late, by chance, for streams made from now on; the
        ``seed`` also gives the order of blocks, warps and lanes."""
        self._library.cudasim_delay(us, ctypes.c_ulonglong(seed))

    def check(self, on: bool) -> None:
        """Whether device memory made from now on is watched byte by byte, for checked kernels."""
        self._library.cudasim_check(int(on))

    def plant(self, call: str, error: int, *, after: int = 0, times: int = 1) -> None:
        """The call named, after ``after`` more of them, fails ``times`` times with ``error``."""
        self._library.cudasim_plant(call.encode(), after, error, times)
        self._planted.add(call)

    def unplant(self) -> None:
        """No call fails on purpose any more."""
        for call in self._planted:
            self._library.cudasim_plant(call.encode(), 0, 0, 0)
        self._planted.clear()

    def holds(self) -> dict[str, int]:
        """What is allocated now."""
        names = ("blocks", "streams", "events", "modules")
        return {n: int(getattr(self._library, f"cudasim_{n}")()) for n in names}


class RealDevice:
    """A GPU in the simulated device's place: it is not strict, and does not fail on request.

    Its context is held for all tests, since making one takes longer than most of them.
    """

    def __init__(self) -> None:
        import pycuda.driver as driver

        driver.init()
        self._driver, self._context = driver, driver.Device(0).retain_primary_context()

    def require_sound(self) -> None:
        """After a fault nothing more works in this process: tell it once, not test by test."""
        self._context.push()
        try:
            self._driver.Context.synchronize()
        except self._driver.Error as fault:
            pytest.exit(f"the GPU's context is lost: {fault}", returncode=5)
        finally:
            self._context.pop()

    def close(self) -> None:
        """Give the context back."""
        self._context.detach()

    def reports(self) -> list[str]:
        return []

    def delay(self, us: int, seed: int = 0) -> None:
        pass

    def check(self, on: bool) -> None:
        pass

    def plant(self, call: str, error: int, *, after: int = 0, times: int = 1) -> None:
        pytest.skip("faults are planted on the simulated device")

    def unplant(self) -> None:
        pass

    def holds(self) -> dict[str, int]:
        return dict.fromkeys(("blocks", "streams", "events", "modules"), 0)


@pytest.fixture(scope="session")
def loaded() -> Iterator[Device | RealDevice]:
    """The device, loaded once for all tests of this process."""
    if REAL:
        real = RealDevice()
        yield real
        real.close()
        return
    if not LIBRARY.is_file():
        pytest.skip("the simulated CUDA device is not built: python tests/cudasim/build.py")
    if shutil.which("g++") is None:
        pytest.skip("the simulated CUDA device needs g++ to build kernels")
    device = Device(ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL))
    pytest.importorskip("pycuda.driver", reason="python tests/cudasim/build.py installs PyCUDA")
    yield device


@pytest.fixture
def device(
    loaded: Device | RealDevice, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Device | RealDevice]:
    """The device; the test fails when it reports something or something is left."""
    if isinstance(loaded, RealDevice):
        yield loaded
        loaded.require_sound()
        return
    monkeypatch.setenv("PATH", f"{ROOT / 'tests' / 'cudasim'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KESTREL_CUBIN_CACHE", str(ROOT / ".cudasim" / CUBINS))
    loaded.delay(0)
    loaded.check(CHECKED)
    loaded.reports()
    yield loaded
    loaded.delay(0)
    loaded.check(False)
    loaded.unplant()
    assert loaded.reports() == []
    assert loaded.holds() == dict.fromkeys(("blocks", "streams", "events", "modules"), 0)
