"""Which source does a URI mean?"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from app.credentials import mask_credentials
from app.errors import ConfigError, SourceError
from app.interfaces import FrameSource
from app.sources.camera import CameraSource
from app.sources.chaos import ChaosSource, Schedule
from app.sources.diagnose import REFUSED, missing_file, missing_sample, port_fault
from app.sources.discover import stable_name
from app.sources.folder import PICTURE_SUFFIXES, FolderSource
from app.sources.gstreamer import GstSource
from app.sources.isolated import START_S, IsolatedSource
from app.sources.lasting import Endurance, LastingSource
from app.sources.opencv import FfmpegSource
from app.sources.options import SourceOptions
from app.sources.paced import Paced
from app.sources.pattern import PatternSource
from app.sources.query import camera_mode, csi, pattern_options, rtsp_transport

__all__ = ["SAMPLE_PATH", "SourceOptions", "make_source"]

log = logging.getLogger(__name__)

SAMPLE_PATH = Path(__file__).parent / "sample.mp4"

KNOCK_S, KNOCKS = 1.0, 5
_STREAMS = ("rtsp", "rtsps", "http", "https")
_LASTING = ("camera", "gst", "csi", *_STREAMS)
_KINDS = (
    "camera:0, camera:/dev/v4l/by-id/…, csi:0, gst:PIPELINE, rtsp://, rtsps://, http://, https://, "
    "file://, chaos:SCRIPT:SOURCE, a file, a folder of pictures, pattern:, sample:"
)


def is_recording(uri: str) -> bool:
    """Whether it has an end of its own: a file, a folder, a pattern of so many frames."""
    script, uri, _ = _chaos(uri)
    scheme, rest = _split(uri)
    if scheme == "pattern":
        return script is None and "frames=" in rest
    return script is None and scheme not in _LASTING


def make_source(
    uri: str,
    *,
    realtime: bool,
    isolate: bool | None = None,
    options: SourceOptions | None = None,
    endurance: Endurance | None = None,
) -> FrameSource:
    """The source that ``uri`` means, not opened yet.

    ``realtime``: recordings play at their own speed and the pattern ticks like a camera; else
    frames come as fast as they are taken. Cameras and streams are live either way.
    ``isolate``: decode in a child process, which a broken file can end without harm; None: for
    network streams only. ``endurance``: a camera or stream that is lost is opened again; None: its
    fault is its end. Raises ConfigError for a URI that means nothing, SourceError for a recording
    that is not there.
    """
    options = options or SourceOptions()
    script, uri, whole = _chaos(uri)
    followed = uri if endurance is None else _follow(uri)
    label = mask_credentials(whole)
    make: Callable[[], FrameSource] = partial(
        _once, followed, label=label, realtime=realtime, isolate=isolate, options=options
    )
    if script is not None:
        if not realtime:
            raise ConfigError("chaos: is for run and soak: what happens is timed by the clock")
        make = _with_chaos(make, Schedule(script), label)
    source = make()  # what is wrong with the URI is told here, not by the thread that opens it
    scheme, _ = _split(uri)
    if endurance is None or (scheme not in _LASTING and script is None):
        return source
    if scheme in _STREAMS and script is None:
        make = _knocking(make, uri, label)
    in_child = isolate or (isolate is None and scheme != "camera")
    patience = replace(endurance, open_s=endurance.open_s + (START_S if in_child else 0))
    return LastingSource(make, label=label, endurance=patience)


def _chaos(uri: str) -> tuple[str | None, str, str]:
    """(script, the source it happens to, all of it)."""
    match = re.fullmatch(r"(?i)chaos:([^:]*):(.*)", uri, flags=re.DOTALL)
    if match is None or match[2].lower().startswith("chaos:"):
        if uri[:6].lower() == "chaos:":
            raise ConfigError(
                "chaos wants a script or a seed and one source, such as chaos:7:camera:0"
            )
        return None, uri, uri
    return match[1], match[2], uri


def _with_chaos(
    make: Callable[[], FrameSource], schedule: Schedule, label: str
) -> Callable[[], FrameSource]:
    """One schedule for all openings of the source."""
    return lambda: ChaosSource(make(), schedule, label=label)


def _knocking(make: Callable[[], FrameSource], uri: str, label: str) -> Callable[[], FrameSource]:
    """Before most openings but the first look whether the port is shut.

    While a server is away this costs nothing, where a decoder that starts costs half a second. The
    decoder has the last word, as it may go another way (a proxy).
    """
    openings = itertools.count()

    def knock_and_make() -> FrameSource:
        if next(openings) % KNOCKS and port_fault(uri, KNOCK_S) == REFUSED:
            raise SourceError(f"cannot open {label}: {REFUSED}")
        return make()

    return knock_and_make


def _follow(uri: str) -> str:
    """A camera's number may be another one once it is plugged in again; its name stays."""
    match = re.fullmatch(r"camera:([0-9]{1,4})(\?.*)?", uri)
    name = stable_name(int(match[1])) if match else None
    if match is None or name is None:
        return uri
    log.info("camera:%s is followed by its name %s", match[1], name)
    return f"camera:{name}{match[2] or ''}"


def _once(
    uri: str, *, label: str, realtime: bool, isolate: bool | None, options: SourceOptions
) -> FrameSource:
    """The source itself, whose fault is its end."""
    scheme, rest = _split(uri)
    if scheme == "pattern":
        return PatternSource(pattern_options(rest), label=label, live=realtime)
    if scheme == "sample" and rest:
        raise ConfigError(f"{uri!a} is no source: the bundled clip is sample: and takes no more")
    source: FrameSource
    if scheme == "gst":
        if not rest.strip():
            raise ConfigError("gst: wants a pipeline, such as gst:v4l2src ! decodebin")
        return GstSource(rest, label=label, options=options)
    if scheme == "csi":
        return GstSource(csi(rest), label=label, options=options)
    if scheme == "camera":
        device, mode = camera_mode(rest, raw=options.raw)
        where = uri
        source = CameraSource(device, label=label, mode=mode)
    elif scheme in _STREAMS:
        where, options = rtsp_transport(uri, options)
        source = FfmpegSource(where, label=label, remote=True, options=options)
    else:
        path = SAMPLE_PATH if scheme == "sample" else Path(rest)
        if not _is_there(path):
            raise missing_sample(path) if scheme == "sample" else missing_file(rest)
        where = str(path.absolute())
        source = _recording(path, label=label, options=options)
    if isolate or (isolate is None and scheme in _STREAMS):
        source = IsolatedSource(where, label=label, options=options)
    return Paced(source) if realtime and scheme != "camera" else source


def _split(uri: str) -> tuple[str, str]:
    """(scheme, rest); the scheme of a plain path is "file"."""
    if not uri.strip():
        raise ConfigError(f"the source is empty; it can be {_KINDS}")
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", uri)
    scheme = match[1].lower() if match else ""
    rest = uri[len(scheme) + 1 :] if match else uri
    if scheme in ("camera", "pattern", "sample", "gst", "csi") or (
        scheme in _STREAMS and rest[:2] == "//"
    ):
        return scheme, rest
    if scheme == "file" and rest.startswith("/"):
        local = re.sub(r"^//(localhost)?(?=/)", "", rest)
        if local.startswith("//"):
            raise ConfigError(f"{uri} names another machine; write file:///path")
        return "file", unquote(local)
    if re.match(r"/dev/(video\d+|v4l/.+)$", uri):
        return "camera", uri
    if scheme and not _is_there(Path(uri)):
        raise ConfigError(f"no source for {mask_credentials(uri)}; it can be {_KINDS}")
    return "file", uri


def _is_there(path: Path) -> bool:
    """False also for what cannot be a path: too long, or with a null character in it."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _recording(path: Path, *, label: str, options: SourceOptions) -> FrameSource:
    if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES:
        return FolderSource(path, label=label)
    return FfmpegSource(str(path), label=label, remote=False, options=options)
