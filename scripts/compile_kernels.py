"""Fill a folder with compiled kernels, for devices that have no compiler.

    python scripts/compile_kernels.py FOLDER 7.5 8.7

needs nvcc or NVRTC (pip install 'cuda-bindings[all]'), and no GPU. On the device set
KESTREL_CUBIN_CACHE=FOLDER, or copy its files into ~/.cache/kestrel/cubins.
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
from app.cuda.kernels import CACHE_ENV, KERNEL_DIR, VARIANTS, cubin_for


def main() -> int:
    """Compile every kernel for every device; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("capability", nargs="+", help="as 8.7 (nvidia-smi: compute_cap)")
    args = parser.parse_args()
    os.environ[CACHE_ENV] = str(args.folder)
    capabilities = []
    for text in args.capability:
        major, dot, minor = text.partition(".")
        if not (dot and major.isdigit() and minor.isdigit()):
            parser.error(f"{text!r} is no compute capability; write it as 8.7")
        capabilities.append((int(major), int(minor)))
    try:
        compile_kernels(capabilities)
    except KestrelError as error:
        print(f"compile_kernels: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{len(list(args.folder.glob('*.cubin')))} compiled kernels in {args.folder}")
    return 0


def compile_kernels(capabilities: Sequence[tuple[int, int]]) -> None:
    """All variants of all kernels, into the cache, several at once. Raises DeviceError."""
    sources = {name: (KERNEL_DIR / f"{name}.cu").read_text() for name in VARIANTS}
    wanted = [(n, d, c) for n, variants in VARIANTS.items() for d in variants for c in capabilities]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda w: cubin_for(w[0], sources[w[0]], w[1], w[2]), wanted):
            pass


if __name__ == "__main__":
    sys.exit(main())
