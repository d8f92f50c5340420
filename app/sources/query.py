"""What do the options in a source's URI mean? (camera:0?size=1280x720&fps=30)"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args
from urllib.parse import parse_qsl

from app.errors import ConfigError
from app.sources.camera import CameraMode
from app.sources.gstreamer import csi_pipeline
from app.sources.options import RtspTransport, SourceOptions
from app.sources.pattern import PatternOptions


def rtsp_transport(uri: str, options: SourceOptions) -> tuple[str, SourceOptions]:
    """Takes ``rtsp_transport=`` out of an RTSP address; all else belongs to the server."""
    match = re.search(r"(?<=[?&])rtsp_transport=([^&#]*)&?", uri)
    if match is None or not uri.lower().startswith("rtsp"):
        return uri, options
    transport: RtspTransport
    for transport in get_args(RtspTransport):
        if match[1] == transport:
            break
    else:
        raise ConfigError(f"rtsp_transport must be auto, tcp or udp, is {match[1]!r}")
    rest = (uri[: match.start()] + uri[match.end() :]).rstrip("?&")
    return rest, replace(options, rtsp_transport=transport)


def camera_mode(rest: str, *, raw: bool) -> tuple[int | str, CameraMode]:
    """Device and mode of ``0?size=1280x720`` or ``/dev/v4l/by-id/…``."""
    name, _, query = rest.partition("?")
    keys = ("size", "fps", "format", "raw")
    given = _query(query, keys, example="camera:0?size=1280x720&format=MJPG")
    if given.get("raw", "0") not in ("0", "1"):
        raise ConfigError(f"camera raw must be 0 or 1, is {given['raw']!r}")
    fourcc = given.get("format")
    if fourcc is not None and len(fourcc) != 4:
        raise ConfigError(f"camera format must be four characters such as MJPG, is {fourcc!r}")
    mode = CameraMode(
        wh_px=_size(given["size"]) if "size" in given else None,
        fps=_number(given["fps"], "fps") if "fps" in given else None,
        fourcc=fourcc,
        raw=given["raw"] == "1" if "raw" in given else raw,
    )
    if re.fullmatch(r"[0-9]{1,4}", name):
        return int(name), mode
    if name.startswith("/"):
        return name, mode
    raise ConfigError(f"camera:{name} is no camera; write camera:0 or camera:/dev/v4l/by-id/…")


def csi(rest: str) -> str:
    """The pipeline of ``0?size=1280x720&fps=30``."""
    name, _, query = rest.partition("?")
    given = _query(query, ("size", "fps", "flip"), example="csi:0?size=1280x720&fps=30&flip=2")
    if not re.fullmatch(r"[0-9]{1,2}", name) or not re.fullmatch("[0-7]", given.get("flip", "0")):
        raise ConfigError(f"csi:{rest} is no camera; write csi:0, or csi:0?flip=2 (0 to 7)")
    return csi_pipeline(
        int(name),
        wh_px=_size(given["size"]) if "size" in given else None,
        fps=_number(given["fps"], "fps") if "fps" in given else None,
        flip=int(given.get("flip", "0")),
    )


def pattern_options(rest: str) -> PatternOptions:
    """Of ``?size=1280x720&boxes=3``."""
    keys = ("size", "fps", "boxes", "frames", "seed")
    given = _query(rest.lstrip("?"), keys, example="pattern:?size=1280x720&fps=30&boxes=3")
    default = PatternOptions()
    return PatternOptions(
        wh_px=_size(given["size"]) if "size" in given else default.wh_px,
        fps=_number(given["fps"], "fps") if "fps" in given else default.fps,
        boxes=_count(given["boxes"], "boxes") if "boxes" in given else default.boxes,
        frames=_count(given["frames"], "frames") if "frames" in given else None,
        seed=_count(given["seed"], "seed") if "seed" in given else default.seed,
    )


def _query(query: str, keys: tuple[str, ...], *, example: str) -> dict[str, str]:
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise ConfigError(f"cannot read the options {query!r}; write {example}") from None
    unknown = sorted(set(given) - set(keys))
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]!r}; there are {', '.join(keys)}: {example}")
    return given


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if not match:
        raise ConfigError(f"size must be WIDTHxHEIGHT such as 1280x720, is {text!r}")
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
