"""How does a .cu file become a kernel that can be launched?

Compiled once per source, options, compute capability and compiler, and kept as a cubin; a device
without a compiler starts from cubins that another machine of its kind has made.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.cache import cache_dir, write_whole
from app.errors import DeviceError
from app.gpu.compilers import OPTIONS, find_compiler
from app.gpu.context import GpuContext

log = logging.getLogger(__name__)

KERNEL_DIR = Path(__file__).resolve().parents[2] / "kernels"
CACHE_ENV = "KESTREL_CUBIN_CACHE"
_TYPES = ((), ("HALF_IN",), ("HALF_IN", "HALF_OUT"))
VARIANTS: dict[str, tuple[tuple[str, ...], ...]] = {  # -D of each file, as it is used
    "preprocess": ((), ("HALF",)),
    "conv": _TYPES,
    "tensor": _TYPES,
    "postprocess": ((),),
}


def cubin_dir() -> Path:
    """Where cubins are kept: $KESTREL_CUBIN_CACHE, or cubins/ of the cache (app/cache.py)."""
    named = os.environ.get(CACHE_ENV)
    return Path(named) if named else cache_dir("cubins")


def kernels_digest() -> str:
    """Of all kernels' sources: what was measured with others says nothing of these."""
    digest = hashlib.sha256()
    for path in sorted(KERNEL_DIR.glob("*.cu")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def load_module(context: GpuContext, name: str, *, defines: Sequence[str] = ()) -> Any:
    """The module of ``kernels/NAME.cu``, built with -D ``defines``. Raises DeviceError."""
    context.check_thread()
    assert tuple(defines) in VARIANTS[name], "compile_kernels.py would miss this one"
    key = (name, *defines)
    if key not in context.modules:
        context.modules[key] = _load(context, name, defines)
    return context.modules[key]


def _load(context: GpuContext, name: str, defines: Sequence[str]) -> Any:
    source = (KERNEL_DIR / f"{name}.cu").read_text()
    cubin = cubin_for(name, source, defines, context.capability)
    try:
        return context.driver.module_from_buffer(cubin)
    except context.driver.Error as fault:
        raise unloadable(context, name, fault) from fault


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
