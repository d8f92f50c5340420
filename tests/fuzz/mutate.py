"""Spoils a sound input: cut, flipped, doubled, swapped, seasoned; the same for each seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

COUNT = 1000
SEED = 20260131
# what parsers stumble over: numbers too large, nothing, deep nesting, other encodings
SPICES = (
    *(b"", b"\0", b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b"9" * 400, b"1e400", b"0x"),
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"[" * 3000,
        b'{"a":' * 3000,
        b"\xff\xfe",
        b"\xed\xa0",
    ),
    *(b"%00", b"%zz", b"../" * 9, b"@", b"://", b"[::", b"]", b"\r\n", b"\xf0\x9f\x90\xa6", b"'"),
    *(b"99999", b"-99999999999999999999", b"1.5", b"2e-320", b"a" * 5000, b"*", b"#", b"/", b","),
)


def spoilt(sound: Sequence[bytes], count: int = COUNT, seed: int = SEED) -> Iterator[bytes]:
    """``count`` inputs made from the sound ones."""
    chance = random.Random(seed)
    for _ in range(count):
        data = chance.choice(sound)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            data = _spoil(data, chance)
        yield data


def _spoil(data: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(data))
    to = min(len(data), at + chance.choice((1, 2, 8, 64, 512)))
    match chance.randrange(7):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:to] + data[at:]
        case 3:
            return data[:at] + chance.choice(SPICES) + data[at:]
        case 4:
            return data[:at] + chance.choice(SPICES) + data[to:]
        case 5:
            return data[:at] + chance.randbytes(chance.randint(1, 20)) + data[to:]
    flipped = bytearray(data)
    for _ in range(chance.randint(1, 8) if data else 0):
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(flipped)
