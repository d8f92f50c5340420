"""How does a .cu file become a kernel that can be launched?

Compiled once per source, options, compute capability and compiler, and kept as a cubin; a device
without a compiler starts from cubins that another machine of its kind has made.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.errors import DeviceError
from app.gpu.context import GpuContext

log = logging.getLogger(__name__)

KERNEL_DIR = Path(__file__).resolve().parents[2] / "kernels"
CACHE_ENV = "KESTREL_CUBIN_CACHE"
OPTIONS = ("-O3", "--std=c++17")


def cache_dir() -> Path:
    """Where cubins are kept: $KESTREL_CUBIN_CACHE, or kestrel/cubins in the user's cache."""
    if named := os.environ.get(CACHE_ENV):
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "kestrel" / "cubins"


def load_module(context: GpuContext, name: str, *, defines: Sequence[str] = ()) -> Any:
    """The module of ``kernels/NAME.cu``, built with -D ``defines``. Raises DeviceError."""
    context.check_thread()
    key = (name, *defines)
    if key not in context.modules:
        context.modules[key] = _load(context, name, defines)
    return context.modules[key]


def _load(context: GpuContext, name: str, defines: Sequence[str]) -> Any:
    source = (KERNEL_DIR / f"{name}.cu").read_text()
    options = (*OPTIONS, *(f"-D{d}" for d in defines))
    cubin = cubin_for(name, source, options, context.capability)
    try:
        return context.driver.module_from_buffer(cubin)
    except context.driver.Error as fault:
        raise DeviceError(f"kernel {name} does not load: {fault}") from fault


def load_kernel(module: Any, name: str, signature: str) -> Callable[..., None]:
    """The kernel ``name`` of a module: call it with (grid, block, stream, *arguments).

    ``signature``: PyCUDA's letters, P for a pointer, i and f for 32-bit numbers.
    """
    function = module.get_function(name)
    function.prepare(signature)

    def launch(
        grid: tuple[int, ...], block: tuple[int, int, int], stream: Any, *arguments: Any
    ) -> None:
        function.prepared_async_call(grid, block, stream, *arguments)

    return launch


def cubin_for(name: str, source: str, options: Sequence[str], capability: tuple[int, int]) -> bytes:
    """From the cache, or compiled and put there. Raises DeviceError."""
    compiler = shutil.which("nvcc")
    arch = f"sm_{capability[0]}{capability[1]}"
    folder = cache_dir()
    content = "\0".join([source, *options, arch])
    stem = f"{name}-{arch}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if compiler is None:
        # any compiler's cubin will do where none is at hand to make another
        for path in sorted(folder.glob(f"{stem}-*.cubin")):
            return path.read_bytes()
        raise DeviceError(
            f"kernel {name} is not compiled for {arch}, and there is no nvcc: install the CUDA "
            f"toolkit, or copy {stem}-*.cubin from another machine into {folder}"
        )
    path = folder / f"{stem}-{_version(compiler)}.cubin"
    if path.is_file():
        return path.read_bytes()
    cubin = _compile(name, source, options, arch, compiler)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(cubin)
        part.replace(path)
    except OSError as fault:
        log.warning("compiled kernels cannot be kept in %s: %s", folder, fault.strerror)
    return cubin


def _compile(name: str, source: str, options: Sequence[str], arch: str, compiler: str) -> bytes:
    log.info("compiling kernel %s for %s", name, arch)
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / f"{name}.cu", Path(folder) / f"{name}.cubin"
        file.write_text(source)
        command = [compiler, "--cubin", f"-arch={arch}", *options, "-o", str(out), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            line = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr[-300:])
            raise DeviceError(f"kernel {name} does not compile for {arch}: {line.strip()}")
        return out.read_bytes()


@lru_cache
def _version(compiler: str) -> str:
    """The compiler's release, for the cache's key."""
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"V([\d.]+)( \(cudasim\))?", told.stdout)
    return (found[1] + ("-sim" if found[2] else "")) if found else "unknown"
