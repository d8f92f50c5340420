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
    protocols: str = ""  # what FFmpeg may open for it: a playlist names further addresses
    port: int = 0  # a server's on TCP, where the address names none; 0: no TCP, or always named
    tls: bool = False  # the other side has a certificate
    listens: bool = False  # its address may be one of this machine, to which somebody sends

    @property
    def network(self) -> bool:
        """Whether it comes over the network; then ``//`` follows, and credentials may."""
        return bool(self.protocols)

    @property
    def lasting(self) -> bool:
        """Whether it is opened again once it is lost."""
        return self.live or self.network


# No protocol here opens a file of this machine. What comes over TLS names nothing without it.
_HTTPS = "https,tls,tcp,httpproxy,crypto,data"
_HTTP = f"http,{_HTTPS}"
_RTSP = "rtsp,rtp,tcp,udp"

SCHEMES = {
    each.name: each
    for each in (
        Scheme("camera", "camera:0, camera:/dev/v4l/by-id/…", live=True),
        Scheme("csi", "csi:0", live=True),
        Scheme("gst", "gst:PIPELINE", live=True),
        Scheme("rtsp", "rtsp://", live=True, protocols=_RTSP, port=554),
        Scheme(
            "rtsps",
            "rtsps://",
            live=True,
            protocols=f"{_RTSP},tls,srtp",
            port=322,
            tls=True,
        ),
        # a stream, a picture that is asked for again and again, or a recording
        Scheme("http", "http://", protocols=_HTTP, port=80),
        Scheme("https", "https://", protocols=_HTTPS, port=443, tls=True),
        Scheme("hls+http", "hls+http://", protocols=_HTTP, port=80),
        Scheme("hls+https", "hls+https://", protocols=_HTTPS, port=443, tls=True),
        Scheme("hls", "hls://", protocols=_HTTPS, port=443, tls=True),
        Scheme("rtmp", "rtmp://", live=True, protocols="rtmp,tcp", port=1935),
        Scheme("rtmps", "rtmps://", live=True, protocols="rtmps,tls,tcp", port=443, tls=True),
        Scheme("srt", "srt://HOST:PORT", live=True, protocols="srt", listens=True),
        Scheme("udp", "udp://ADDRESS:PORT", live=True, protocols="udp", listens=True),
        Scheme("rtp", "rtp://ADDRESS:PORT", live=True, protocols="rtp,udp", listens=True),
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
    scheme = scheme_of(uri)
    return scheme is not None and scheme.network
