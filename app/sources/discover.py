"""Which cameras does this machine have?"""

from __future__ import annotations

import re
from pathlib import Path


def cameras(dev: Path = Path("/dev")) -> list[int]:
    """Numbers of the V4L2 devices, rising. Some may be metadata devices of another's camera."""
    names = (re.fullmatch(r"video(\d+)", path.name) for path in dev.glob("video*"))
    return sorted(int(name[1]) for name in names if name)


def first_camera(dev: Path = Path("/dev")) -> str | None:
    """URI of the first camera, None if there is none."""
    numbers = cameras(dev)
    return f"camera:{numbers[0]}" if numbers else None


def stable_name(number: int, dev: Path = Path("/dev")) -> Path | None:
    """The name that a camera keeps when it is plugged in again, and may get another number."""
    for link in sorted(dev.glob("v4l/by-id/*")):
        if link.resolve() == (dev / f"video{number}").resolve():
            return link
    return None
