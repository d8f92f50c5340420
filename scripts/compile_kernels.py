"""Fill a folder with compiled kernels, for devices that have no compiler.

    python scripts/compile_kernels.py FOLDER 7.5 8.7

needs nvcc or NVRTC (pip install 'cuda-bindings[all]'), and no GPU. On the device set
KESTREL_CUBIN_CACHE=FOLDER, or copy its files into ~/.cache/kestrel/cubins.

    python scripts/compile_kernels.py FOLDER --table

compiles for all devices of the committed table of registers and spills, and writes it anew
(kernel_table.py). That takes CUDA 13, which knows them all, and minutes; what FOLDER holds already
is not compiled again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.core.errors import KestrelError
from app.cuda.kernels import CACHE_ENV, VARIANTS, cubin_for, find_compiler, kernel_source
from scripts.kernel_table import LIMITS, TABLE, read_cubin, write_table


def main() -> int:
    """Compile every kernel for every device; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("capability", nargs="*", help="as 8.7 (nvidia-smi: compute_cap)")
    parser.add_argument("--table", action="store_true", help=f"write {TABLE.name} anew")
    args = parser.parse_args()
    if bool(args.capability) == args.table:
        parser.error("name compute capabilities, or --table")
    os.environ[CACHE_ENV] = str(args.folder)
    capabilities = []
    for text in args.capability:
        major, dot, minor = text.partition(".")
        if not (dot and major.isdigit() and minor.isdigit()):
            parser.error(f"{text!r} is no compute capability; write it as 8.7")
        capabilities.append((int(major), int(minor)))
    if args.table:
        capabilities = [(int(arch[3:-1]), int(arch[-1])) for arch in LIMITS]
    try:
        compiled = compile_kernels(capabilities)
    except KestrelError as error:
        print(f"compile_kernels: {error}", file=sys.stderr)
        return error.exit_code
    if args.table:
        compiler = find_compiler()
        assert compiler is not None
        kernels = [kernel for each in compiled for kernel in read_cubin(*each)]
        write_table(TABLE, compiler.version, kernels)
    print(f"{len(list(args.folder.glob('*.cubin')))} compiled kernels in {args.folder}")
    return 0


Compiled = tuple[bytes, str, tuple[str, ...], str]  # cubin, file, variant, architecture


def compile_kernels(capabilities: Sequence[tuple[int, int]]) -> list[Compiled]:
    """All variants of all kernels, into the cache, several at once. Raises DeviceError."""
    jobs = [(n, d, c) for c in capabilities for n, variants in VARIANTS.items() for d in variants]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: _compiled(*job), jobs))


def _compiled(name: str, defines: tuple[str, ...], capability: tuple[int, int]) -> Compiled:
    cubin = cubin_for(name, kernel_source(name), defines, capability)
    return cubin, name, defines, "sm_{}{}".format(*capability)


if __name__ == "__main__":
    sys.exit(main())
