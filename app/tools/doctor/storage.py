"""Is there room on the disk, and can the cache be written?"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from app.cache import cache_dir
from app.tools.doctor.finding import Finding, Section, only, warning
from app.tools.doctor.probe import PROJECT, Probe

LEAST_FREE_MB = 1000
ROLES = {"project": PROJECT, "cache": cache_dir(""), "temporary": Path(tempfile.gettempdir())}


@dataclass(frozen=True, slots=True)
class Folder:
    """``free_mb`` None: it cannot be asked."""

    role: str
    path: str
    free_mb: int | None
    writable: bool


def gather(folders: dict[str, Path]) -> list[Folder]:
    """The folders, or where they would be made."""
    return [_folder(role, path) for role, path in folders.items()]


def _folder(role: str, path: Path) -> Folder:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free_mb = shutil.disk_usage(there).free // 2**20
    except OSError:
        free_mb = None
    # write permission alone: nothing is written for a look
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Folder(role, str(path), free_mb, writable)


def check_room(folder: Folder) -> Finding | None:
    """Recordings, weights and engines want some."""
    if folder.free_mb is None or folder.free_mb >= LEAST_FREE_MB:
        return None
    return warning(
        f"only {folder.free_mb} MB are free for the {folder.role} folder {folder.path}",
        "make room (du -xh --max-depth=2 / | sort -h), or name a folder elsewhere",
    )


def check_writable(folder: Folder) -> Finding | None:
    """Of the cache alone: a project folder may well be read-only."""
    if folder.role != "cache" or folder.writable:
        return None
    return warning(
        f"the cache folder {folder.path} cannot be written: kernels, engines and measurements are "
        "made anew at every start",
        f"sudo chown -R $USER {folder.path}, or KESTREL_CACHE=FOLDER",
    )


def look(probe: Probe) -> Section:
    """The subject."""
    folders = gather({**ROLES, "cache": cache_dir("")})
    lines = [
        f"{folder.role} {folder.path}: {'unknown' if folder.free_mb is None else folder.free_mb} "
        f"MB free{'' if folder.writable else ', not writable'}"
        for folder in folders
    ]
    findings = only(check(folder) for folder in folders for check in (check_room, check_writable))
    return Section("disk", lines, {folder.role: asdict(folder) for folder in folders}, findings)
