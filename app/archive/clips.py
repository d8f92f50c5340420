"""The manifest of an archive: a row is a clip, or a part of a long one, never a frame."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ..config import Config, parse_sources
from ..core.credentials import mask_credentials, mask_text
from ..core.errors import ConfigError, KestrelError
from ..core.schemes import is_network, scheme_of
from ..sources.cuts import key_frame_cuts
from ..sources.uri import is_recording

log = logging.getLogger(__name__)

SUFFIXES = (
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg"),
    *(".flv", ".wmv", ".3gp", ".ogv", ".mxf", ".h264", ".h265", ".mjpeg", ".gif"),
)
LEAST_RATE = 6_000  # bytes a second of what a frugal camera sends: smaller files are not opened


class Clip(NamedTuple):
    """``name``: of its folder of results; ``uri``: absolute, may hold a password; ``size``: bytes
    by which progress is told, 1 where it is not known."""

    name: str
    uri: str
    size: int


class Row(NamedTuple):
    """A row: the frames of a clip from ``start_ns`` on and before ``end_ns`` (None: to its end).

    ``of``: how many parts the clip has.
    """

    clip: Clip
    number: int = 0
    of: int = 1
    start_ns: int = 0
    end_ns: int | None = None

    @property
    def key(self) -> str:
        """The name of its file while the clip's other parts are missing."""
        name = hashlib.sha256(self.clip.name.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return f"{name}.{self.clip.size}.{self.number}-{self.of}.{self.start_ns}"


def find_clips(where: str) -> list[Clip]:
    """The recordings below a folder, those that a file lists, one a line, or a single one; by name.

    A list's relative paths begin at the list; # begins a comment. Raises ConfigError for what is
    none of these, is empty, or names a camera or stream.
    """
    path = Path(where)
    try:
        if path.is_dir():
            root = path.absolute()
            files = sorted(each for each in root.rglob("*") if each.suffix.lower() in SUFFIXES)
            clips = [_clip(str(each.relative_to(root)), str(each)) for each in files if _seen(each)]
            what = f"no recording ({', '.join(SUFFIXES)})"
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            clips, what = [_clip(path.name, str(path.absolute()))], ""
        else:
            lines = path.read_text("utf-8", "surrogateescape").splitlines()
            clips, what = list(_listed(lines, path.absolute().parent)), "no line that names a clip"
    except (OSError, ValueError) as error:  # a zero byte, in its name or as a line
        why = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"cannot read {where}: {why}; name a recording, a folder of recordings, or a file that "
            "lists them, one a line"
        ) from error
    if not clips:
        raise ConfigError(f"{where} has {what}")
    clips.sort()
    for one, other in pairwise(clips):
        if one.name == other.name:
            raise ConfigError(f"{where} lists {one.name} twice; take one of the two out")
    return clips


def clips_of(count: int) -> str:
    """How many, in words."""
    return f"{count} clip{'s' * (count != 1)}"


def _seen(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _listed(lines: Iterable[str], folder: Path) -> Iterator[Clip]:
    for line in (each.strip() for each in lines):
        if not line or line.startswith("#"):
            continue
        scheme, named = scheme_of(line), parse_sources([line])[0].uri
        if scheme is None and scheme_of(named) is not None and not (folder / line).exists():
            raise ConfigError(
                f"{mask_text(line)}: an archive's clips are named by their paths or addresses; "
                f"write {mask_credentials(named)}"
            )
        path = folder / line.removeprefix("file://")
        is_file = scheme is None or scheme.name == "file"
        network = scheme is not None and scheme.network and not scheme.live
        if not network and not is_recording(str(path) if is_file else line):
            raise ConfigError(
                f"an archive is of recordings; {mask_credentials(line)} has no end: use run "
                "--source"
            )
        if is_file:
            yield _clip(quote(line.lstrip("/"), safe="/ "), str(path))
        else:
            yield _clip(quote(mask_credentials(line), safe=""), line)


def _clip(name: str, uri: str) -> Clip:
    parts = [each for each in name.split("/") if each not in ("", ".")]
    safe = "/".join("%2E%2E" if each == ".." else each for each in parts)
    try:
        size = 1 if is_network(uri) else max(1, Path(uri).stat().st_size)
    except OSError:  # whoever reads it tells what is wrong
        size = 1
    return Clip(safe, uri, size)


def parts_of(clip: Clip, config: Config, part_s: float) -> list[Row]:
    """Those of about ``part_s`` seconds, cut at key frames; one where it is short or cannot be cut.

    Pictures that are made of several (``deinterlace``) are not cut apart.
    """
    cuts: list[int] = []
    if clip.size >= 2 * part_s * LEAST_RATE and not config.deinterlace and not is_network(clip.uri):
        try:
            cuts = key_frame_cuts(Path(clip.uri), part_s)
        except KestrelError as fault:
            log.debug("%s is not cut: %s", clip.name, fault)
    edges = [0, *cuts]
    return [
        Row(clip, number, len(edges), start_ns, end_ns)
        for number, (start_ns, end_ns) in enumerate(zip(edges, [*cuts, None], strict=True))
    ]
