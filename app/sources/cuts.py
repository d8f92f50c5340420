"""Where a long recording may be cut so that its parts decode to the pictures of the whole."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from .base import load_av
from .diagnose import bytes_missing

# Their key frames begin anew; of other codecs some only mend the picture. H.264: see ``_idr``.
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mjpeg")
_IDR = 5  # nal_unit_type (ITU-T H.264, table 7-1)


def key_frame_cuts(path: Path, every_s: float) -> list[int]:
    """Positions (media_ns) of key frames, rising, about ``every_s`` seconds apart, without 0.

    One seek each; no picture but the first is decoded. None are found in a recording that is
    shorter than two parts, is cut off, has no times of presentation, or cannot be opened: it is
    taken whole, and whoever reads it tells what is wrong.
    """
    av = load_av()
    cuts: list[int] = []
    if bytes_missing(path):
        return cuts
    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context.name not in CODECS:
                return cuts
            first = next(container.decode(stream), None)
            length_us = container.duration or 0
            if first is None or first.pts is None or length_us < 2e6 * every_s:
                return cuts
            # each rounded as a source rounds the position of a frame
            origin_ns = round(first.pts * first.time_base * 1_000_000_000)
            for number in count(1):
                wanted_ns = round(number * every_s * 1e9)
                if wanted_ns > length_us * 1000 - every_s * 5e8:  # the rest is no part of its own
                    break
                position = round((origin_ns + wanted_ns) / 1_000_000_000 / stream.time_base)
                container.seek(position, stream=stream)
                packet = next((each for each in container.demux(stream) if _begins(each)), None)
                if packet is None or packet.pts is None:
                    return []
                at_ns = round(packet.pts * packet.time_base * 1_000_000_000) - origin_ns
                if at_ns > (cuts[-1] if cuts else 0):
                    cuts.append(at_ns)
    except (av.error.FFmpegError, OSError, ValueError):
        return []
    return cuts


def _begins(packet: Any) -> bool:
    if not packet.is_keyframe:
        return False
    codec = packet.stream.codec_context
    return codec.name != "h264" or _idr(bytes(packet), codec.extradata or b"")


def _idr(data: bytes, head: bytes) -> bool:
    """Whether an H.264 access unit is an IDR: others that count as key frames may lean on pictures
    before them. ``head``: the stream's; one that begins with 1 is of units with lengths (avcC)."""
    if head[:1] != b"\x01":
        at = data.find(b"\0\0\1")
        while 0 <= at < len(data) - 3 and data[at + 3] & 31 != _IDR:
            at = data.find(b"\0\0\1", at + 3)
        return 0 <= at < len(data) - 3
    size, at = (head[4] & 3) + 1, 0
    while at + size < len(data):
        if data[at + size] & 31 == _IDR:
            return True
        at += size + int.from_bytes(data[at : at + size], "big")
    return False
