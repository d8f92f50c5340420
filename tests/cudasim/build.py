"""Builds the simulated CUDA device and, against it, PyCUDA: ``python tests/cudasim/build.py``.

The library goes to ``.cudasim/`` at the project's root, PyCUDA from its source into the environment
of the interpreter that runs this. Quick when nothing changed. ``cuda.h`` comes from NVIDIA's wheel
(requirements-dev.txt), so no CUDA toolkit is needed. A PyCUDA that is there already, built against
a real toolkit, is left alone: it finds the same functions in either library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / ".cudasim"
LIBRARY = OUT / "libcuda.so.1"
SOURCES = ("driver.cpp", "memory.cpp", "stream.cpp", "module.cpp", "check.cpp")
SOURCES += ("unsupported.cpp",)
PYCUDA = "pycuda>=2024.1,<2027"


def cuda_headers() -> Path:
    """The folder of cuda.h in NVIDIA's runtime wheel; raises FileNotFoundError."""
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec else ():
        for folder in Path(place).glob("*/include"):
            if (folder / "cuda.h").is_file():
                return folder
    raise FileNotFoundError("no cuda.h: pip install -r requirements-dev.txt brings NVIDIA's wheel")


def build_library() -> Path:
    """libcuda.so.1 of the simulated device; compiled when its sources changed."""
    headers = cuda_headers()
    digest = hashlib.sha256(str(headers).encode())
    for path in sorted(p for p in HERE.rglob("*") if p.suffix in (".cpp", ".hpp", ".h", "")):
        if path.is_file():
            digest.update(path.read_bytes())
    stamp = OUT / "stamp"
    if LIBRARY.is_file() and stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return LIBRARY
    shutil.rmtree(OUT, ignore_errors=True)  # kernels built with another shim, too
    OUT.mkdir()
    command = [os.environ.get("CXX", "g++"), "-shared", "-fPIC", "-O1", "-g", "-std=c++17"]
    command += [f"-I{headers}", *(str(HERE / name) for name in SOURCES)]
    command += ["-o", str(LIBRARY), "-Wl,-soname,libcuda.so.1", "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    link = OUT / "libcuda.so"
    link.unlink(missing_ok=True)
    link.symlink_to(LIBRARY.name)
    stamp.write_text(digest.hexdigest())
    return LIBRARY


def build_pycuda() -> None:
    """Install PyCUDA from its source, linked to libcuda.so.1, unless it is there."""
    if importlib.util.find_spec("pycuda") is not None:
        return
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    with tempfile.TemporaryDirectory() as folder:
        # --no-deps: its dependencies come with the installation below
        fetch = ["download", "--no-deps", "--no-binary", "pycuda", "-d", folder, PYCUDA]
        subprocess.run([*pip, *fetch], check=True)
        (archive,) = Path(folder).glob("pycuda-*.tar.gz")
        shutil.unpack_archive(archive, folder, filter="data")
        source = Path(folder) / archive.name.removesuffix(".tar.gz")
        (source / "siteconf.py").write_text(
            f"CUDA_ROOT = '/nonexistent'\n"
            f"CUDA_INC_DIR = {[str(cuda_headers()), str(HERE / 'include')]}\n"
            f"CUDADRV_LIB_DIR = [{str(OUT)!r}]\nCUDADRV_LIBNAME = ['cuda']\n"
            "CUDA_ENABLE_CURAND = False\nCUDA_ENABLE_GL = False\nCXXFLAGS = ['-w', '-O1']\n"
        )
        done = subprocess.run([*pip, "install", str(source)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"PyCUDA does not build:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    build_library()
    build_pycuda()
