"""The kinds of source that a URI can name, with what each scheme implies."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scheme:
    """One kind of source, as it is written and as it behaves."""

    name: str
    written: str  # for messages
    live: bool = False  # never ends by itself
    port: int = 0  # a server's, where it is reached over the network

    @property
    def network(self) -> bool:
        """Whether a server sends it; then ``//`` follows, and credentials may."""
        return self.port > 0

    @property
    def lasting(self) -> bool:
        """Whether it is opened again once it is lost."""
        return self.live or self.network


SCHEMES = {
    each.name: each
    for each in (
        Scheme("camera", "camera:0, camera:/dev/v4l/by-id/…", live=True),
        Scheme("csi", "csi:0", live=True),
        Scheme("gst", "gst:PIPELINE", live=True),
        Scheme("rtsp", "rtsp://", live=True, port=554),
        Scheme("rtsps", "rtsps://", live=True, port=322),
        Scheme("http", "http://", port=80),  # a stream, or a recording
        Scheme("https", "https://", port=443),
        Scheme("file", "file://, a file, a folder of pictures"),
        Scheme("chaos", "chaos:SCRIPT:SOURCE"),
        Scheme("pattern", "pattern:"),
        Scheme("sample", "sample:"),
    )
}
KINDS = ", ".join(each.written for each in SCHEMES.values())


def split_scheme(uri: str) -> tuple[str, str]:
    """(scheme in lower case, rest); ("", ``uri``) where it has none."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", uri)
    return (match[1].lower(), uri[match.end() :]) if match else ("", uri)


def scheme_of(uri: str) -> Scheme | None:
    """The scheme's properties; None for a path and for what names no source."""
    name, rest = split_scheme(uri)
    scheme = SCHEMES.get(name)
    return None if scheme is None or (scheme.network and rest[:2] != "//") else scheme


def is_network(uri: str) -> bool:
    """Whether it is the address of a server."""
    scheme = scheme_of(uri)
    return scheme is not None and scheme.network
