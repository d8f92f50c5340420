"""The source that a URI means, and the options in it."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, unquote

from ..core.credentials import mask_credentials
from ..core.errors import ConfigError, SourceError
from ..core.interfaces import FrameSource
from ..core.schemes import KINDS, SCHEMES, Scheme, scheme_of, split_scheme
from ..core.tls import client_context
from .base import Paced, RtspTransport, SourceOptions, stable_name
from .camera import CameraMode, CameraSource
from .chaos import ChaosSource, Schedule
from .diagnose import REFUSED, missing_file, missing_sample, port_fault
from .ffmpeg import FfmpegSource
from .gstreamer import csi_pipeline, gst_command
from .hardware import HOWS, JETSON, Preferred, jetson_pipeline
from .http_pictures import HttpSource
from .images import FolderSource, absolute, find, is_there as _is_there, split_loop
from .motion_gate import MotionGate
from .packets import TakesPackets
from .pattern import PatternOptions, PatternSource
from .picture import is_picture
from .reconnect import Endurance, ReconnectingSource
from .subprocess_source import START_S, IsolatedSource

log = logging.getLogger(__name__)


def network_address(uri: str, options: SourceOptions) -> tuple[str, SourceOptions]:
    """An address as FFmpeg and servers take it, and what its options said to Kestrel.

    Options of other names belong to the server. Raises ConfigError for an address that cannot be
    meant, for a wrong value, and for an option of ours that does nothing here.
    """
    name, rest = split_scheme(uri)
    scheme = SCHEMES[name]
    where = f"{_SENT_AS.get(name, name)}:{rest}"
    _check_address(where, scheme)
    parsers: dict[str, Callable[[str, str], Any]] = {}
    if name.startswith("rtsp"):
        parsers["rtsp_transport"] = _transport
    if "tls" in scheme.protocols:
        parsers |= {"tls_insecure": _switch, "ca_file": lambda text, _: unquote(text)}
    if name in ("http", "https"):
        parsers["poll_s"] = _number
    given: dict[str, Any] = {}
    for match in re.findall(r"(?<=[?&])(\w+)=([^&#]*)", where):
        if match[0] in parsers:
            given[match[0]] = parsers[match[0]](match[1], match[0])
        elif match[0] in _OF_ADDRESSES:
            raise ConfigError(
                f"{match[0]} does nothing for {name}://; leave it out of {mask_credentials(uri)}, "
                f"or take one of {', '.join([*_DECODING, *parsers])}"
            )
    for taken in given:
        where = re.sub(rf"(?<=[?&]){taken}=[^&#]*&?", "", where)
    options = replace(options, playlist=options.playlist or name in _SENT_AS, **given)
    if "poll_s" not in given:
        options = replace(options, poll_s=min(options.poll_s, options.read_timeout_s / 2))
    elif options.poll_s >= options.read_timeout_s:
        raise ConfigError(
            f"poll_s is {options.poll_s:g}, but a source without a frame for "
            f"{options.read_timeout_s:g} s is lost: raise read_timeout_s, or lower poll_s"
        )
    return (where.rstrip("?&") if given else where), options


_OF_ADDRESSES = ("rtsp_transport", "tls_insecure", "ca_file", "poll_s")
_SENT_AS = {"hls": "https", "hls+https": "https", "hls+http": "http"}
_ESCAPES = (
    "percent-encode what a user name or a password must not hold as it is: # is %23, % is %25, "
    "/ is %2F, : is %3A, ? is %3F, @ is %40"
)


def _check_address(where: str, scheme: Scheme) -> None:
    """Raise ConfigError for an address without host or port, and for raw characters in it."""
    shown = mask_credentials(where)
    if any(not "\x20" <= char <= "\x7e" and not char.isprintable() for char in where):
        raise ConfigError(
            f"{shown!a} holds what is no character: {_ESCAPES.partition(':')[0]}, as UTF-8"
        )
    authority = re.split(r"[/?#]", where.partition("//")[2], maxsplit=1)[0]
    login, _, host = authority.rpartition("@")
    if re.search(r"%(?![0-9A-Fa-f]{2})", login):
        raise ConfigError(f"{shown} has a % that begins no code: {_ESCAPES}")
    port = re.fullmatch(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?", host)
    if port is None or int(port[1] or 0) > 65535:
        raise ConfigError(f"{shown} has no port where one is expected: {_ESCAPES}")
    if not port[1] and scheme.listens:
        raise ConfigError(f"{shown} names no port: write {scheme.written}")
    if not host.partition(":")[0] and not scheme.listens:
        raise ConfigError(f"{shown} names no host")


def _transport(text: str, name: str) -> RtspTransport:
    transport: RtspTransport
    for transport in get_args(RtspTransport):
        if text == transport:
            return transport
    raise ConfigError(f"{name} must be auto, tcp or udp, is {text!r}")


def _decoder(text: str, name: str) -> str:
    if text not in HOWS:
        raise ConfigError(f"{name} must be one of {', '.join(HOWS)}, is {text!r}")
    return text


def decoding(uri: str, options: SourceOptions) -> tuple[str, SourceOptions]:
    """Take ``deinterlace=1``, ``decode=HOW`` out of a stream's address or a recording's name."""
    given: dict[str, Any] = {}
    while match := re.search(rf"(?<=[?&])({'|'.join(_DECODING)})=([^&#]*)&?", uri):
        if not given and _is_there(Path(uri)):
            break
        given[match[1]] = _DECODING[match[1]](match[2], match[1])
        uri = (uri[: match.start()] + uri[match.end() :]).rstrip("?&")
    return uri, replace(options, **given) if given else options


def camera_mode(rest: str, *, raw: bool) -> tuple[int | str, CameraMode]:
    """Device and mode of ``0?size=1280x720`` or ``/dev/v4l/by-id/…``."""
    name, _, query = rest.partition("?")
    parsers = {"size": _size, "fps": _number, "format": _fourcc, "raw": _switch}
    given = _options(query, parsers, example="camera:0?size=1280x720&format=MJPG")
    mode = CameraMode(**{"raw": raw, **given})
    if re.fullmatch(r"[0-9]{1,4}", name):
        return int(name), mode
    if name.startswith("/"):
        return name, mode
    raise ConfigError(f"camera:{name} is no camera; write camera:0 or camera:/dev/v4l/by-id/…")


def csi(rest: str) -> str:
    """The pipeline of ``0?size=1280x720&fps=30``."""
    name, _, query = rest.partition("?")
    parsers = {"size": _size, "fps": _number, "flip": _count}
    given = _options(query, parsers, example="csi:0?size=1280x720&fps=30&flip=2")
    if not re.fullmatch(r"[0-9]{1,2}", name) or given.get("flip", 0) > 7:
        raise ConfigError(f"csi:{rest} is no camera; write csi:0, or csi:0?flip=2 (0 to 7)")
    return csi_pipeline(int(name), **given)


def pattern_options(rest: str) -> PatternOptions:
    """Of ``?size=1280x720&boxes=3``."""
    parsers = {"size": _size, "fps": _number, "boxes": _count, "frames": _count, "seed": _count}
    example = "pattern:?size=1280x720&fps=30&boxes=3"
    return PatternOptions(**_options(rest.lstrip("?"), parsers, example=example))


_FIELDS = {"size": "wh_px", "format": "fourcc"}  # options that are not named as their fields are


def _options(
    query: str, parsers: Mapping[str, Callable[[str, str], Any]], *, example: str
) -> dict[str, Any]:
    """The options given in ``query``, parsed, by the fields that they fill."""
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise ConfigError(f"cannot read the options {query!r}; write {example}") from None
    unknown = sorted(set(given) - set(parsers))
    if unknown:
        known = ", ".join(parsers)
        raise ConfigError(f"unknown option {unknown[0]!r}; there are {known}: {example}")
    return {_FIELDS.get(name, name): parsers[name](text, name) for name, text in given.items()}


def _size(text: str, name: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if not match:
        raise ConfigError(f"{name} must be WIDTHxHEIGHT such as 1280x720, is {text!r}")
    return int(match[1]), int(match[2])


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 10_000:
        raise ConfigError(f"{name} must be above 0 and at most 10000, is {text!r}")
    return number


def _count(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError(f"{name} must be a whole number, is {text!r}")
    return int(text)


def _fourcc(text: str, name: str) -> str:
    if len(text) != 4:
        raise ConfigError(f"camera {name} must be four characters such as MJPG, is {text!r}")
    return text


def _switch(text: str, name: str) -> bool:
    if text not in ("0", "1"):
        raise ConfigError(f"{name} must be 0 or 1, is {text!r}")
    return text == "1"


_DECODING = {"deinterlace": _switch, "decode": _decoder}

SAMPLE_PATH = Path(__file__).parent / "sample.mp4"

KNOCK_S, KNOCKS = 1.0, 5


def is_recording(uri: str) -> bool:
    """Whether it has an end of its own: a file, a folder, a pattern of so many frames."""
    script, uri, _ = _chaos(uri)
    scheme, rest = _split(uri)
    if scheme == "pattern":
        return script is None and "frames=" in rest
    endless = scheme == "file" and split_loop(rest)[1]
    return script is None and not SCHEMES[scheme].lasting and not endless


def make_source(
    uri: str,
    *,
    realtime: bool,
    isolate: bool | None = None,
    options: SourceOptions | None = None,
    endurance: Endurance | None = None,
    packets: TakesPackets | None = None,
) -> FrameSource:
    """The source that ``uri`` means, not opened yet.

    ``realtime``: recordings play at their own speed and the pattern ticks like a camera; else
    frames come as fast as they are taken. Cameras and streams are live either way.
    ``isolate``: decode in a child process, which a broken file can end without harm; None: for
    network streams only. ``endurance``: a camera or stream that is lost is opened again; None: its
    fault is its end. ``packets`` gets those of H.264 and H.265, if the source has any. Raises
    ConfigError for a URI that means nothing, SourceError for a recording that is not there.
    """
    if packets is not None:
        packets.begin(None)  # until the source says otherwise
    options = options or SourceOptions()
    script, uri, whole = _chaos(uri)
    followed = uri if endurance is None else _follow(uri)
    label = mask_credentials(whole)
    make: Callable[[], FrameSource] = partial(
        _once,
        followed,
        label=label,
        realtime=realtime,
        isolate=isolate,
        options=options,
        packets=packets,
    )
    if script is not None:
        if not realtime:
            raise ConfigError("chaos: is for run and soak: what happens is timed by the clock")
        make = _with_chaos(make, Schedule(script), label)
    source = make()  # what is wrong with the URI is told here, not by the thread that opens it
    scheme, _ = _split(uri)
    asked = options
    if SCHEMES[scheme].network:
        address, asked = network_address(uri, options)
        if asked.ca_file is not None:
            client_context(asked.ca_file)
        if asked.tls_insecure:
            log.warning("%s: no certificate is checked (tls_insecure)", label)
        if SCHEMES[scheme].port and script is None:  # nobody answers a knock at a datagram's port
            make = _knocking(make, address, label)
    if endurance is None or (not SCHEMES[scheme].lasting and script is None):
        return source
    in_child = isolate or (isolate is None and scheme != "camera")
    motion = asked.motion
    pause_s = max(
        asked.poll_s if asked.poll_s > 1 else 0, max(motion.floor_s, motion.wake_s) if motion else 0
    )
    patience = replace(
        endurance,
        open_s=endurance.open_s + (START_S if in_child else 0),
        # a picture that is seldom asked for, or given, is told stalled when the second is missing
        stall_s=max(endurance.stall_s, 2 * pause_s),
    )
    return ReconnectingSource(make, label=label, endurance=patience)


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
    uri: str,
    *,
    label: str,
    realtime: bool,
    isolate: bool | None,
    options: SourceOptions,
    packets: TakesPackets | None,
) -> FrameSource:
    """The source itself, whose fault is its end."""
    scheme, rest = _split(uri)
    if SCHEMES[scheme].network:
        uri, options = decoding(uri, options)
    elif scheme == "file":
        (rest, options), whole = decoding(rest, options), rest
        _check_names(rest, decodes=rest != whole)
    if options.decode == JETSON:
        place = uri if SCHEMES[scheme].network else rest
        return _gated(_on_jetson(scheme, place, label=label, options=options), options)
    if scheme == "pattern":
        return _gated(PatternSource(pattern_options(rest), label=label, live=realtime), options)
    if scheme == "sample" and rest:
        raise ConfigError(f"{uri!a} is no source: the bundled clip is sample: and takes no more")
    source: FrameSource
    if scheme == "gst":
        if not rest.strip():
            raise ConfigError("gst: wants a pipeline, such as gst:v4l2src ! decodebin")
        if re.search(rf"(^|\s)\w*\?({'|'.join([*_DECODING, *_OF_ADDRESSES])})=\S*$", rest):
            raise ConfigError("gst: takes no options after a ?; say it in the pipeline")
    if scheme in ("gst", "csi"):
        pipeline = rest if scheme == "gst" else csi(rest)
        return _gated(
            IsolatedSource(pipeline, label=label, options=options, command=gst_command), options
        )
    if scheme == "camera":
        device, mode = camera_mode(rest, raw=options.raw)
        where = uri
        source = CameraSource(device, label=label, mode=mode)
    elif SCHEMES[scheme].network:
        where, options = network_address(uri, options)
        if split_scheme(where)[0] in ("http", "https"):
            source = HttpSource(where, label=label, options=options, packets=packets)
        else:
            source = FfmpegSource(where, label=label, remote=True, options=options, packets=packets)
    else:
        name = str(SAMPLE_PATH) if scheme == "sample" else rest
        if scheme == "sample" and not _is_there(SAMPLE_PATH):
            raise missing_sample(SAMPLE_PATH)
        name, loop = split_loop(name)
        where = absolute(name) + "?loop=1" * loop
        source = _recording(name, label=label, options=options, loop=loop, packets=packets)
    if isolate or (isolate is None and SCHEMES[scheme].network):
        source = IsolatedSource(where, label=label, options=options, packets=packets)
    elif not isinstance(source, FolderSource):  # pictures of which each is looked at
        source = _gated(source, options)
    return Paced(source) if realtime and scheme != "camera" else source


def _on_jetson(scheme: str, place: str, *, label: str, options: SourceOptions) -> FrameSource:
    """By GStreamer, for RTSP and files; else as ever."""
    if scheme not in ("rtsp", "rtsps", "file"):
        raise ConfigError(f"decode={JETSON} is for rtsp:// and files; leave it out of {label}")
    remote, plain = scheme != "file", replace(options, decode="cpu", motion=None)
    where, plain = network_address(place, plain) if remote else (absolute(place), plain)

    def hardware(place: str) -> FrameSource:
        pipeline = jetson_pipeline(place)
        return IsolatedSource(pipeline, label=label, options=plain, command=gst_command)

    return Preferred(
        hardware(where),
        IsolatedSource(where, label=label, options=plain)
        if remote
        else FfmpegSource(where, label=label, remote=False, options=plain),
        label=label,
        proof=hardware(str(SAMPLE_PATH)),
        known=FfmpegSource(str(SAMPLE_PATH), label="sample:", remote=False, options=plain),
    )


def _gated(source: FrameSource, options: SourceOptions) -> FrameSource:
    motion = options.motion
    return source if motion is None else MotionGate(source, motion, options.still)


def _split(uri: str) -> tuple[str, str]:
    """(scheme, rest); the scheme of a plain path is "file"."""
    if not uri.strip():
        raise ConfigError(f"the source is empty; it can be {KINDS}")
    scheme, rest = split_scheme(uri)
    if scheme not in ("file", "chaos") and scheme_of(uri) is not None:
        return scheme, rest
    if scheme == "file" and rest.startswith("/"):
        local = re.sub(r"^//(localhost)?(?=/)", "", rest)
        if local.startswith("//"):
            raise ConfigError(f"{uri} names another machine; write file:///path")
        return "file", unquote(local)
    if re.match(r"/dev/(video\d+(\?.*)?|v4l/.+)$", uri):
        return "camera", uri
    if scheme and not _is_there(Path(uri)) and not _is_there(Path(uri.partition("?")[0])):
        raise ConfigError(f"no source for {mask_credentials(uri)}; it can be {KINDS}")
    return "file", uri


def _check_names(text: str, *, decodes: bool) -> None:
    """Raise ConfigError for options that files, or pictures, do not take."""
    name, _ = split_loop(text)
    if not decodes and "?" not in name:
        return
    found = find(name)
    path, mark, query = name.partition("?")
    if mark and not found and find(path):
        option = query.partition("=")[0]
        raise ConfigError(
            f"unknown option {option!r}; recordings take {', '.join(_DECODING)} and loop, pictures "
            f"loop: {path}?loop=1"
        )
    if decodes and found and all(map(is_picture, found)):
        raise ConfigError(
            f"{' and '.join(_DECODING)} are for videos, and {path} is of pictures, which take loop"
        )


def _recording(
    name: str,
    *,
    label: str,
    options: SourceOptions,
    loop: bool,
    packets: TakesPackets | None,
) -> FrameSource:
    path = Path(name)
    if not _is_there(path) and not find(name):
        raise missing_file(name)
    if loop or is_picture(path) or path.is_dir() or not _is_there(path):
        return FolderSource(name, label=label, options=options, loop=loop)
    return FfmpegSource(str(path), label=label, remote=False, options=options, packets=packets)
