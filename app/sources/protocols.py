"""What FFmpeg is told of an address in the network."""

from __future__ import annotations

import io
import math
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import SourceError
from ..core.schemes import SCHEMES, split_scheme
from ..core.tls import authorities_file, client_context, untrusted
from .base import SourceOptions
from .http_client import HttpClient

_TRANSPORT = {
    "auto": {"rtsp_flags": "prefer_tcp"},  # UDP loses packets rather than time
    "tcp": {"rtsp_transport": "tcp"},
    "udp": {"rtsp_transport": "udp"},
}


def ffmpeg_options(where: str, options: SourceOptions) -> dict[str, str]:
    """FFmpeg's own options for it: protocols, certificates, transport, latency.

    Raises SourceError where certificates are to be checked and nothing says whom to trust.
    """
    name, _ = split_scheme(where)
    scheme = SCHEMES[name]
    told = {"protocol_whitelist": scheme.protocols}
    if scheme.live:
        told["flags"] = "low_delay"
    if name.startswith("rtsp"):
        # One packet is looked at, where FFmpeg's default is up to five seconds. Not "nobuffer": it
        # throws away what is looked at, and with it the first key frame.
        told |= {"probesize": "32", **_TRANSPORT[options.rtsp_transport]}
    elif scheme.live:
        # two frames tell the rate: with FFmpeg's 20 an opening takes a second longer at 20 frames/s
        told["fpsprobesize"] = "2"
    if "tls" in scheme.protocols and not options.tls_insecure:
        authorities = options.ca_file or authorities_file()
        if authorities is None and scheme.tls:
            raise SourceError(
                "this system has no list of authorities that certificates are checked by: install "
                "ca-certificates, or name a file as ca_file"
            )
        told["tls_verify"] = "1"
        if authorities is not None:
            told["ca_file"] = authorities
    return told


def open_network(where: str, *, label: str, options: SourceOptions, more: Mapping[str, str]) -> Any:
    """The opened av.container.InputContainer of a network address; ``more``: options of FFmpeg.

    Raises what av.open does, and SourceError. A playlist (HLS) over TLS is fetched by HttpClient:
    FFmpeg checks the certificate of the playlist's own server, but of none that it names.
    """
    import av

    told = {**more, **ffmpeg_options(where, options)}
    extra: dict[str, Any] = {"format": "hls"} if options.playlist else {}
    if options.playlist and split_scheme(where)[0] == "https" and not options.tls_insecure:
        extra["io_open"] = _Fetcher(label, options)
        told |= {"http_persistent": "0", "http_multiple": "0"}  # these look behind io_open
    timeout = (options.open_timeout_s, options.read_timeout_s)
    try:
        return av.open(where, options=told, timeout=timeout, metadata_errors="replace", **extra)
    except av.error.ProtocolNotFoundError:
        name = split_scheme(where)[0]
        raise SourceError(
            f"cannot open {label}: PyAV's FFmpeg was built without {name}: build PyAV with one "
            "that has it, or receive it by GStreamer (gst:PIPELINE)"
        ) from None
    except av.error.FFmpegError:
        fault = certificate_fault(where, options)
        if fault is None:
            raise
        raise SourceError(f"cannot open {label}: {fault}") from None


def certificate_fault(where: str, options: SourceOptions) -> str | None:
    """What is wrong with the certificate at the address's port; None: nothing, or no TLS.

    FFmpeg does not tell why it trusts somebody not.
    """
    parts, scheme = urlsplit(where), SCHEMES[split_scheme(where)[0]]
    if not scheme.tls or options.tls_insecure:
        return None
    context, host = client_context(options.ca_file), parts.hostname or ""
    try:
        plain = socket.create_connection((host, parts.port or scheme.port), timeout=1.0)
        with plain, context.wrap_socket(plain, server_hostname=host):
            return None
    except ssl.SSLCertVerificationError as error:
        return untrusted(error)
    except OSError:
        return None


def is_playlist(where: str, kind: str = "") -> bool:
    """Whether its name or content type says HLS."""
    return "mpegurl" in kind or urlsplit(where).path.lower().endswith((".m3u8", ".m3u"))


class _Fetcher:
    """Opens what a playlist names, for FFmpeg: over https only, each server verified."""

    def __init__(self, label: str, options: SourceOptions) -> None:
        self._label, self._options = f"what {label} names", options

    def __call__(self, url: str, _flags: int, asked: dict[str, str]) -> io.RawIOBase:
        if split_scheme(url)[0] != "https":
            raise SourceError("a playlist over https names an address that is not https")
        client = HttpClient(url, label=self._label, options=self._options)
        start, end = int(asked.get("offset", 0)), int(asked.get("end_offset", 0))
        headers = {"Range": f"bytes={start}-{end - 1 if end else ''}"} if start or end else {}
        answer = client.get(self._options.read_timeout_s, headers)
        client.limit(math.inf)
        return _Body(client, answer, self._options.read_timeout_s)


class _Body(io.RawIOBase):
    """An answer's body; a part of it that takes longer than ``limit_s`` is an OSError."""

    def __init__(self, client: HttpClient, answer: Any, limit_s: float) -> None:
        self._client, self._answer, self._limit_s = client, answer, limit_s

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; b"" at the end."""
        self._client.limit(time.monotonic() + self._limit_s)
        data: bytes = self._answer.read1(size)
        return data

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
        super().close()
