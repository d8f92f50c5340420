"""Which cameras are there, what do they offer, and may this user open them?"""

from __future__ import annotations

import fcntl
import grp
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from app.sources.v4l2 import Ioctl, Mode, list_cameras
from app.tools.doctor.finding import Finding, Section, only, warning
from app.tools.doctor.probe import Probe

SHOWN_SIZES = 4


@dataclass(frozen=True, slots=True)
class Camera:
    """One V4L2 device; ``by_id`` is a name that stays when it is plugged in elsewhere."""

    path: str
    name: str
    usable: bool  # by its permissions
    answers: bool  # to the question what it can
    by_id: str | None
    modes: tuple[Mode, ...]


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """Devices that give frames, or that could not be asked."""

    cameras: tuple[Camera, ...]
    groups: tuple[str, ...]


def gather(probe: Probe, *, ioctl: Ioctl = fcntl.ioctl) -> CameraFacts:
    """Ask every device that may be opened."""
    found = []
    for camera in list_cameras(probe.path("/dev"), ioctl):
        path = probe.path(f"/dev/video{camera.number}")
        found.append(
            Camera(
                f"/dev/video{camera.number}",
                camera.name,
                usable=probe.may_use(path),
                answers=camera.name != str(path),
                by_id=_by_id(probe, path),
                modes=camera.modes,
            )
        )
    return CameraFacts(tuple(found), _groups())


def _by_id(probe: Probe, path: Path) -> str | None:
    names = probe.glob("/dev/v4l/by-id/*")
    return next((n for n in names if probe.path(n).resolve() == path.resolve()), None)


def _groups() -> tuple[str, ...]:
    names = []
    for number in sorted({os.getgid(), *os.getgroups()}):
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:  # a group of the host, in a container
            names.append(str(number))
    return tuple(names)


def check_permission(facts: CameraFacts) -> Finding | None:
    """By the group that systems give their cameras."""
    closed = [camera.path for camera in facts.cameras if not camera.usable]
    if not closed:
        return None
    if "video" in facts.groups:
        return warning(
            f"no permission to use {', '.join(closed)}, though this user is in the video group",
            f"sudo chgrp video {' '.join(closed)}; sudo chmod g+rw {' '.join(closed)}",
        )
    return warning(
        f"no permission to use {', '.join(closed)}: this user is not in the video group",
        "sudo usermod -aG video $USER, and log in again",
    )


def check_answers(facts: CameraFacts) -> Finding | None:
    """A device that is there, and does not say what it can."""
    mute = [camera.path for camera in facts.cameras if camera.usable and not camera.answers]
    if not mute:
        return None
    return warning(
        f"{', '.join(mute)} cannot be asked for its formats",
        "plug it in again, look at dmesg, and end other programs that use it",
    )


def look(probe: Probe) -> Section:
    """The subject."""
    facts = gather(probe)
    lines = [line for camera in facts.cameras for line in _lines(camera)]
    lines = lines or ["no camera (no /dev/video*); streams, files and sample: need none"]
    lines.append(f"groups {', '.join(facts.groups)}")
    findings = only(check(facts) for check in (check_permission, check_answers))
    return Section("cameras", lines, asdict(facts), findings)


def _lines(camera: Camera) -> list[str]:
    name = camera.name if camera.answers else "does not answer"
    lines = [f"{camera.path}: {name if camera.usable else 'closed to this user'}"]
    if camera.by_id:
        lines.append(f"  --source camera:{camera.by_id}")
    by_code: dict[str, list[str]] = {}
    for mode in camera.modes:
        rate = f"@{mode.fps:g}" if mode.fps else ""
        by_code.setdefault(mode.fourcc, []).append(f"{mode.wh_px[0]}x{mode.wh_px[1]}{rate}")
    for code, sizes in by_code.items():
        more = f" and {len(sizes) - SHOWN_SIZES} more" if len(sizes) > SHOWN_SIZES else ""
        lines.append(f"  {code} {', '.join(sizes[:SHOWN_SIZES])}{more}")
    return lines
