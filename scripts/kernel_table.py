"""What the compiler made of each kernel: registers, shared memory, spills, tensor-core work.

Read from cubins, without a GPU and without NVIDIA's disassembler. The committed table is
tests/cuda/kernel_table.csv; ``python scripts/compile_kernels.py FOLDER --table`` makes it anew.

A cubin is an ELF file. Its attributes (.nv.info: kind, number, size, value; number 0x2f registers,
0x11 frame, 0x05 largest block) and instructions (16 bytes each since compute capability 7.0; the
low 12 bits are the operation, bits 73 to 75 a load's size, bits 34 to 81 how many words of 4 bytes
a branch goes, from sm_90 on with bits 16 to 23 below them) are as Mesa's compiler NAK and
CuAssembler tell:
https://gitlab.freedesktop.org/mesa/mesa/-/tree/main/src/nouveau/compiler/nak
https://github.com/cloudcores/CuAssembler
"""

from __future__ import annotations

import csv
import hashlib
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from app.cuda.kernels import VARIANTS, kernel_source

TABLE = Path(__file__).resolve().parents[1] / "tests" / "cuda" / "kernel_table.csv"
REGISTERS, FRAME, LARGEST_BLOCK = 0x2F, 0x11, 0x05  # .nv.info
BRANCHES, ASYNC_COPY = (0x947, 0x547), 0xFAE  # operations; from sm_100 on some are uniform
TENSOR = (0x23C, 0x237)  # HMMA, IMMA
GLOBAL_LOADS, BYTES16 = (0x381, 0x981), 6
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


class Limits(NamedTuple):
    """Of one multiprocessor: warps, blocks, bytes of shared memory, and of these per block for the
    system. CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"."""

    warps: int
    blocks: int
    shared: int
    reserved: int = 1024


LIMITS = {
    "sm_75": Limits(32, 16, 64 << 10, 0),
    "sm_80": Limits(64, 32, 164 << 10),
    "sm_86": Limits(48, 16, 100 << 10),
    "sm_87": Limits(48, 16, 164 << 10),
    "sm_89": Limits(48, 24, 100 << 10),
    "sm_90": Limits(64, 32, 228 << 10),
    "sm_100": Limits(64, 32, 228 << 10),
    "sm_110": Limits(48, 24, 228 << 10),
    "sm_120": Limits(48, 24, 100 << 10),
}


class Kernel(NamedTuple):
    """One kernel for one device. ``local``: bytes of a thread's stack, where registers are spilled;
    ``step``: instructions of the innermost loop with tensor-core work (0: there is none), which is
    one K step or a few; in it, or in all of a kernel without, ``mma``: tensor-core instructions,
    ``loads16``: 16-byte loads from global memory, asynchronous copies included; ``occupancy``:
    share of the multiprocessor's warps, in percent."""

    file: str
    variant: str
    kernel: str
    arch: str
    registers: int
    shared: int
    local: int
    instructions: int
    step: int
    mma: int
    loads16: int
    threads: int
    occupancy: int


def occupancy_percent(arch: str, *, registers: int, shared: int, threads: int) -> int:
    """How many of a multiprocessor's warps can be there at once; registers go in units of 256."""
    limits, warps = LIMITS[arch], -(-threads // 32)
    by_registers = 65536 // (-(-registers * 32 // 256) * 256 * warps)
    by_shared = limits.shared // max(1, shared + limits.reserved)
    blocks = min(limits.warps // warps, limits.blocks, by_registers, by_shared)
    return round(100 * blocks * warps / limits.warps)


def read_cubin(cubin: bytes, file: str, defines: Iterable[str], arch: str) -> list[Kernel]:
    """Its kernels by name."""
    sections, symbols = _sections(cubin)
    registers_of, frame_of = (
        {symbols[index]: value for index, value in _pairs(sections[".nv.info"], attribute)}
        for attribute in (REGISTERS, FRAME)
    )
    kernels, newer = [], int(arch.removeprefix("sm_")) >= 90
    for section, code in sorted(sections.items()):
        if not section.startswith(".text."):
            continue
        name = section.removeprefix(".text.")
        words = list(struct.iter_unpack("<QQ", code))
        step = _tensor_loop(words, split=newer)
        inner = words[step] if step else words
        mma = sum(low & 0xFFF in TENSOR for low, _ in inner)
        wide = sum(
            low & 0xFFF == ASYNC_COPY or (low & 0xFFF in GLOBAL_LOADS and high >> 9 & 7 == BYTES16)
            for low, high in inner
        )
        blocks = [v for v, _ in _pairs(sections.get(f".nv.info.{name}", b""), LARGEST_BLOCK)]
        registers, threads = registers_of[name], blocks[0] if blocks else 256
        shared = len(sections.get(f".nv.shared.{name}", b""))
        if newer and shared:  # there the section begins with what the system takes of each block
            shared -= LIMITS[arch].reserved
        kernels.append(
            Kernel(
                file=file,
                variant="+".join(defines),
                kernel=name,
                arch=arch,
                registers=registers,
                shared=shared,
                local=frame_of.get(name, 0),
                instructions=len(words),
                step=len(inner) if step else 0,
                mma=mma,
                loads16=wide,
                threads=threads,
                occupancy=occupancy_percent(
                    arch, registers=registers, shared=shared, threads=threads
                ),
            )
        )
    return kernels


def _tensor_loop(words: list[tuple[int, int]], *, split: bool) -> slice | None:
    """From where the shortest branch back over tensor-core work goes, to that branch.

    ``split``: the lowest 8 bits of a branch's distance lie apart, as from sm_90 on.
    """
    work = [i for i, (low, _) in enumerate(words) if low & 0xFFF in TENSOR]
    loops = []
    for i, (low, high) in enumerate(words):
        if low & 0xFFF in BRANCHES:
            distance = (low >> 34 | high << 30) & (1 << 48) - 1
            distance -= (1 << 48) * (distance >> 47)
            if split:
                distance = distance << 8 | low >> 16 & 0xFF
            target = i + 1 + distance // 4
            if 0 <= target <= i and any(target <= at <= i for at in work):
                loops.append(slice(target, i + 1))
    return min(loops, key=lambda loop: loop.stop - loop.start, default=None)


def _sections(cubin: bytes) -> tuple[dict[str, bytes], list[str]]:
    """Contents by section name (zeros of a section's size where the file holds none), and the
    names of the symbols."""
    at, size, count, names_index = struct.unpack_from("<Q10xHHH", cubin, 0x28)
    headers = [struct.unpack_from("<IIQQQQII", cubin, at + i * size) for i in range(count)]

    def content(header: tuple[int, ...]) -> bytes:
        _, kind, _, _, start, length, *_ = header
        return bytes(length) if kind == 8 else cubin[start : start + length]  # 8: SHT_NOBITS

    def text(table: bytes, start: int) -> str:
        return table[start : table.index(b"\0", start)].decode()

    names = content(headers[names_index])
    sections = {text(names, header[0]): content(header) for header in headers}
    strings = sections[".strtab"]
    symbols = [text(strings, name) for name, *_ in struct.iter_unpack("<I20x", sections[".symtab"])]
    return sections, symbols


def _pairs(info: bytes, wanted: int) -> list[tuple[int, int]]:
    """The first two numbers of each attribute of that number."""
    found, at = [], 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if form == 4:  # a value of `size` bytes follows
            if attribute == wanted:
                found.append(struct.unpack_from("<II", info, at + 4))
            at += size
        at += 4
    return found


def digest(file: str) -> str:
    """Of a kernel file's code; comments and white space do not count."""
    code = COMMENT.sub(" ", kernel_source(file))
    return hashlib.sha256(" ".join(code.split()).encode()).hexdigest()[:12]


def write_table(path: Path, compiler: str, kernels: Iterable[Kernel]) -> None:
    """One line a kernel; the first line tells of what and by which compiler."""
    about = [f"{file}={digest(file)}" for file in sorted(VARIANTS)]
    with path.open("w", newline="") as out:
        out.write(f"# {compiler} {' '.join(about)}\n")
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(Kernel._fields)
        lines.writerows(sorted(kernels))


def read_table(path: Path = TABLE) -> tuple[str, dict[str, str], list[Kernel]]:
    """The compiler, the digest of each file then, and the kernels."""
    about, *lines = path.read_text().splitlines()
    _, compiler, *digests = about.split()
    rows = [
        Kernel(*row[:4], *map(int, row[4:]))  # type: ignore[arg-type]
        for row in list(csv.reader(lines))[1:]
    ]
    return compiler, dict(d.split("=") for d in digests), rows
