"""Compiles .cu files with nvcc or NVRTC and loads the kernels.

Compiled once per source, options, compute capability and compiler, and kept as a cubin; a device
without a compiler starts from cubins that another machine of its kind has made.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import DeviceError
from ..core.package import data_folder
from ..models.cache import cache_dir, write_whole
from .context import GpuContext

log = logging.getLogger(__name__)


OPTIONS = ("-O3", "--std=c++17")
# nvcc includes its math header unasked, NVRTC does not
NVRTC_DEFINES = ("-DINFINITY=__int_as_float(0x7f800000)", "-DNAN=__int_as_float(0x7fffffff)")


class Compiler(Protocol):
    """Makes cubins. ``version`` goes into the cache's key; ``release`` is CUDA's (major, minor)."""

    version: str
    release: tuple[int, int]

    def compile(self, name: str, source: str, defines: Sequence[str], arch: str) -> bytes:
        """The cubin for ``arch`` ("sm_87"); raises DeviceError with the compiler's first error."""


def find_compiler() -> Compiler | None:
    """nvcc if it is there, else NVRTC, else None."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    # a service's PATH, and a Jetson's, often lack the toolkit
    if found := shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home) / "bin")):
        return Nvcc(found)
    try:
        return Nvrtc()
    except (ImportError, RuntimeError):  # no cuda-bindings; no libnvrtc for them
        return None


class Nvcc:
    """The toolkit's compiler."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.version = _nvcc_version(path)
        found = re.match(r"(\d+)\.(\d+)", self.version)
        self.release = (int(found[1]), int(found[2])) if found else (0, 0)

    def compile(self, name: str, source: str, defines: Sequence[str], arch: str) -> bytes:
        """See Compiler."""
        options = (*OPTIONS, *(f"-D{d}" for d in defines))
        with tempfile.TemporaryDirectory() as folder:
            file, out = Path(folder) / f"{name}.cu", Path(folder) / f"{name}.cubin"
            file.write_text(source)
            command = [self._path, "--cubin", f"-arch={arch}", *options, "-o", str(out), str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise _refused(name, arch, done.stderr)
            return out.read_bytes()


@lru_cache
def _nvcc_version(path: str) -> str:
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"V([\d.]+)( \(cudasim\))?", told.stdout)
    return (found[1] + ("-sim" if found[2] else "")) if found else "unknown"


class Nvrtc:
    """CUDA's compiler as a library, through cuda-bindings; needs no GPU and no toolkit.

    Raises ImportError without cuda-bindings, RuntimeError where they find no libnvrtc.
    """

    def __init__(self) -> None:
        from cuda.bindings import nvrtc

        self._nvrtc = nvrtc
        self.release = tuple(self._call(nvrtc.nvrtcVersion))
        self.version = "nvrtc-{}.{}".format(*self.release)

    def compile(self, name: str, source: str, defines: Sequence[str], arch: str) -> bytes:
        """See Compiler."""
        n = self._nvrtc
        program = self._call(
            n.nvrtcCreateProgram, source.encode(), f"{name}.cu".encode(), 0, [], []
        )
        options = [f"--gpu-architecture={arch}", "--std=c++17", *NVRTC_DEFINES]
        options += [*(f"-D{d}" for d in defines), *(f"-I{folder}" for folder in include_dirs())]
        try:
            code, *_ = n.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
            if int(code):
                log = self._read(n.nvrtcGetProgramLogSize, n.nvrtcGetProgramLog, program)
                raise _refused(name, arch, log.decode().rstrip("\0"))
            return self._read(n.nvrtcGetCUBINSize, n.nvrtcGetCUBIN, program)
        finally:
            n.nvrtcDestroyProgram(program)

    def _read(self, size: Any, content: Any, program: Any) -> bytes:
        room = bytearray(self._call(size, program))
        self._call(content, program, room)
        return bytes(room)

    @staticmethod
    def _call(function: Any, *arguments: Any) -> Any:
        code, *result = function(*arguments)
        if int(code):
            raise DeviceError(f"{function.__name__} failed: {code.name}")
        return result[0] if len(result) == 1 else result


@lru_cache
def include_dirs() -> tuple[Path, ...]:
    """Where NVRTC finds cuda_fp16.h and mma.h: NVIDIA's wheels, then a toolkit's headers."""
    spec = importlib.util.find_spec("nvidia")
    wheels = (spec.submodule_search_locations or ()) if spec else ()
    folders = [folder for place in wheels for folder in sorted(Path(place).glob("*/include"))]
    homes = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    folders += [Path(home) / "include" for home in homes if home]
    return tuple(f for f in folders if (f / "cuda_fp16.h").is_file() or (f / "crt").is_dir())


def _refused(name: str, arch: str, log: str) -> DeviceError:
    line = next((x for x in log.splitlines() if "error" in x), log[-300:])
    return DeviceError(f"kernel {name} does not compile for {arch}: {line.strip()}")


KERNEL_DIR = data_folder("kernels")
INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)
CACHE_ENV = "KESTREL_CUBIN_CACHE"
_TYPES = ((), ("HALF_IN",), ("HALF_IN", "HALF_OUT"))
VARIANTS: dict[str, tuple[tuple[str, ...], ...]] = {  # -D of each file, as it is used
    "preprocess": ((), ("HALF",)),
    "conv": (*_TYPES, ("HALF_IN", "EIGHT"), ("HALF_IN", "HALF_OUT", "EIGHT")),
    "conv_int8": ((), ("WIDE",)),
    "tensor": (("INT8",), *_TYPES),
    "postprocess": ((),),
}


def cubin_dir() -> Path:
    """Where cubins are kept: $KESTREL_CUBIN_CACHE, or cubins/ of the cache (models/store.py)."""
    named = os.environ.get(CACHE_ENV)
    return Path(named) if named else cache_dir("cubins")


def kernels_digest() -> str:
    """Of all kernels' sources: what was measured with others says nothing of these."""
    digest = hashlib.sha256()
    for path in sorted(KERNEL_DIR.glob("*.cu*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def kernel_source(name: str) -> str:
    """``kernels/NAME.cu`` with the files of that folder that it includes put in: one text, which a
    compiler needs no folder for."""
    text = (KERNEL_DIR / f"{name}.cu").read_text()
    return INCLUDE.sub(lambda found: (KERNEL_DIR / found[1]).read_text(), text)


def load_module(context: GpuContext, name: str, *, defines: Sequence[str] = ()) -> Any:
    """The module of ``kernels/NAME.cu``, built with -D ``defines``. Raises DeviceError."""
    context.check_thread()
    assert tuple(defines) in VARIANTS[name], "compile_kernels.py would miss this one"
    key = (name, *defines)
    if key not in context.modules:
        cubin = cubin_for(name, kernel_source(name), defines, context.capability)
        try:
            context.modules[key] = context.driver.module_from_buffer(cubin)
        except context.driver.Error as fault:
            raise unloadable(context, name, fault) from fault
    return context.modules[key]


def load_kernel(module: Any, name: str, signature: Sequence[str]) -> Callable[..., None]:
    """The kernel ``name`` of a module: call it with (grid, block, stream, *arguments).

    ``signature``: PyCUDA's letters, P for a pointer, i and f for 32-bit numbers, 9s for 9 bytes.
    """
    function = module.get_function(name)
    function.prepare(signature)
    launch: Callable[..., None] = function.prepared_async_call
    return launch


def cubin_for(name: str, source: str, defines: Sequence[str], capability: tuple[int, int]) -> bytes:
    """From the cache, or compiled and put there. Raises DeviceError."""
    compiler = find_compiler()
    arch = f"sm_{capability[0]}{capability[1]}"
    folder = cubin_dir()
    content = "\0".join([source, *OPTIONS, *(f"-D{d}" for d in defines), arch])
    stem = f"{name}-{arch}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if compiler is None:
        # any compiler's cubin will do where none is at hand to make another
        for path in sorted(folder.glob(f"{stem}-*.cubin")):
            return path.read_bytes()
        raise DeviceError(
            f"kernel {name} is not compiled for {arch}, and there is no compiler: pip install "
            "'cuda-bindings[all]', install the CUDA toolkit, or copy "
            f"{stem}-*.cubin from another machine into {folder}"
        )
    path = folder / f"{stem}-{compiler.version}.cubin"
    if path.is_file():
        return path.read_bytes()
    log.info("compiling kernel %s for %s", name, arch)
    cubin = compiler.compile(name, source, defines, arch)
    try:
        write_whole(path, cubin)
    except OSError as fault:
        log.warning("compiled kernels cannot be kept in %s: %s", folder, fault.strerror)
    return cubin


def unloadable(context: GpuContext, name: str, fault: Exception) -> DeviceError:
    """Why the driver refuses a cubin: too new for it, or damaged in the cache."""
    number = int(context.driver.get_driver_version())
    release, compiler = (number // 1000, number % 1000 // 10), find_compiler()
    if compiler is not None and release < compiler.release:
        cure = (
            "the driver is for CUDA {}.{} and older than the compiler, {}.{}: install a newer "
            "driver, or a toolkit no newer than it".format(*release, *compiler.release)
        )
    else:
        cure = f"remove the compiled kernels in {cubin_dir()} and start again"
    return DeviceError(f"kernel {name} does not load: {fault}; {cure}")
