"""Fill a folder with compiled kernels, for devices that have no compiler.

    python scripts/compile_kernels.py FOLDER 7.5 8.7

needs nvcc or NVRTC (pip install 'cuda-bindings[all]'), and no GPU. On the device set
KESTREL_CUBIN_CACHE=FOLDER, or copy its files into ~/.cache/kestrel/cubins.
"""

from __future__ import annotations

import argparse
import os
import sys
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
    for text in args.capability:
        major, dot, minor = text.partition(".")
        if not (dot and major.isdigit() and minor.isdigit()):
            parser.error(f"{text!r} is no compute capability; write it as 8.7")
        for name, defines in ((n, d) for n, variants in VARIANTS.items() for d in variants):
            source = (KERNEL_DIR / f"{name}.cu").read_text()
            try:
                cubin_for(name, source, defines, (int(major), int(minor)))
            except KestrelError as error:
                print(f"compile_kernels: {error}", file=sys.stderr)
                return error.exit_code
    print(f"{len(list(args.folder.glob('*.cubin')))} compiled kernels in {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
