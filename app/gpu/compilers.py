"""What turns a .cu file into a cubin here: the toolkit's nvcc, or NVRTC where there is none?"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from app.errors import DeviceError

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
    return tuple(folder for folder in _candidates() if (folder / "cuda_fp16.h").is_file() or
                 (folder / "crt").is_dir())  # fmt: skip


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec else ():
        yield from sorted(Path(place).glob("*/include"))
    homes = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    yield from (Path(home) / "include" for home in homes if home)


def _refused(name: str, arch: str, log: str) -> DeviceError:
    line = next((x for x in log.splitlines() if "error" in x), log[-300:])
    return DeviceError(f"kernel {name} does not compile for {arch}: {line.strip()}")
