"""Cameras over HTTP: streams of pictures, pictures that are asked for, and the rest by FFmpeg."""

from __future__ import annotations

import http.client
import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceEnded, SourceError
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource
from .base import SourceOptions
from .diagnose import no_frame
from .ffmpeg import FfmpegSource
from .http_client import HttpClient
from .packets import TakesPackets
from .picture import decode, eight_bits
from .pictures import MOST_BYTES, PictureCutter
from .protocols import is_playlist

log = logging.getLogger(__name__)

_AT_ONCE = 1 << 18  # bytes read from a stream
_SNIFF_BYTES = 2048
_ANIMATED = ("image/gif", "image/apng")  # recordings
_PAGES = ("text/html", "application/xhtml+xml")
# A part's boundary and headers, then a picture; or a picture at once.
_LOOKS_LIKE_PICTURES = re.compile(
    rb"[\x09\x0a\x0d\x20-\x7e]*?(?:\xff\xd8\xff|\x89PNG\r\n|RIFF....WEBP)", re.DOTALL
)
_LOOKS_LIKE_TEXT = re.compile(rb"[\x09\x0a\x0d\x20-\x7e]*(?:\xff\xd8?)?\Z")


class HttpSource:
    """What an http:// or https:// address gives, found by what the server says and sends.

    ``multipart/x-mixed-replace`` and JPEG after JPEG: a live stream of pictures. ``image/…``: a
    picture that is asked for every ``poll_s``, live too. Everything else goes to FFmpeg, by URL.
    Pictures are upright as their EXIF says, may differ in size, and come as (H, W, 3) BGR. Of those
    that arrive together the last is taken; the others count in the index. Damaged ones and those
    above ``max_megapixels`` are passed over.
    """

    def __init__(
        self,
        uri: str,
        *,
        label: str,
        options: SourceOptions,
        packets: TakesPackets | None = None,
    ) -> None:
        self._packets = packets  # takes those of a video
        self._uri, self._label, self._options = uri, label, options
        self._other: FrameSource | None = None  # FFmpeg, where it plays
        self._client: HttpClient | None = None
        self._answer: Any = None  # whose body is the stream; None: pictures are asked for
        self._cutter = PictureCutter()
        self._waiting: list[bytes] = []
        self._first: NDArray[np.uint8] | None = None
        self._fault = self._logged = ""
        self._index = 0
        self._came_ns = 0
        self._asked_s = self._heard_s = 0.0
        self._ended = False

    def open(self) -> SourceInfo:
        """Connect, look at what comes, and decode the first; raises SourceError with the cure."""
        began_s = self._heard_s = time.monotonic()
        if self._options.playlist or is_playlist(self._uri):
            return self._by_ffmpeg(self._uri, playlist=True)
        limit_s = self._options.open_timeout_s
        self._client = HttpClient(self._uri, label=self._label, options=self._options)
        self._asked_s = time.monotonic()
        answer = self._client.get(limit_s)
        deadline_s = began_s + limit_s
        self._client.limit(deadline_s)
        kind = answer.headers.get_content_type() if answer.headers.get("Content-Type") else ""
        try:
            how = self._examine(answer, kind)
            if how == "other":
                url = self._client.url
                self._client.close()
                return self._by_ffmpeg(url, playlist=is_playlist(url, kind))
            if how == "asked":
                self._take_body(answer)
            else:
                self._answer = answer
            self._first = self._next(deadline_s)
        except TimeoutError:
            why = f": {self._fault}" if self._fault else ""
            raise SourceError(
                f"{self._label} gave no picture for {limit_s:g} s{why}; check that the device "
                "streams, or raise the open timeout"
            ) from None
        height_px, width_px = self._first.shape[:2]
        told, fps = "pictures over HTTP", None
        if self._answer is None:
            poll_s = self._options.poll_s
            told, fps = f"a picture over HTTP, asked for every {poll_s:g} s", 1 / poll_s
        return SourceInfo(self._label, True, (width_px, height_px), fps, detail=told)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame. A stream is waited for until ``read_timeout_s``."""
        if self._other is not None:
            return self._other.read(timeout_s)
        if self._ended:
            raise SourceEnded
        limit_s = self._options.read_timeout_s
        pixels, self._first = self._first, None
        if pixels is None:
            if self._answer is None and self._slept(timeout_s) > timeout_s:
                return None
            try:
                pixels = self._next(self._heard_s + max(limit_s, self._options.poll_s))
            except TimeoutError:
                told = no_frame(self._label, limit_s)
                raise SourceError(f"{told} ({self._fault})") if self._fault else told from None
        self._heard_s = time.monotonic()
        self._index += 1
        return Frame(pixels, self._index - 1, self._came_ns)

    def close(self) -> None:
        """Close the connection."""
        self._ended = True
        if self._other is not None:
            self._other.close()
        if self._client is not None:
            self._client.close()

    def _by_ffmpeg(self, url: str, *, playlist: bool) -> SourceInfo:
        options = replace(self._options, playlist=playlist)
        self._other = FfmpegSource(
            url, label=self._label, remote=True, options=options, packets=self._packets
        )
        return self._other.open()

    def _examine(self, answer: Any, kind: str) -> str:
        """How its pictures come: "streamed", "asked" for, or "other" than as pictures."""
        if kind.startswith("multipart/"):
            return "streamed"
        if kind.startswith("image/"):
            return "other" if kind in _ANIMATED else "asked"
        if kind in _PAGES:
            raise SourceError(
                f"cannot open {self._label}: the server answers, but gives no video there, only a "
                "web page: check the path, the user name and the password"
            )
        head = b""
        while len(head) < _SNIFF_BYTES and _LOOKS_LIKE_TEXT.match(head):
            if not (more := answer.read1(_SNIFF_BYTES)):
                break
            head += more
        if not _LOOKS_LIKE_PICTURES.match(head):
            return "other"
        self._waiting = self._feed(head)
        return "asked" if answer.length is not None else "streamed"

    def _next(self, deadline_s: float) -> NDArray[np.uint8]:
        """The next picture that can be shown; raises TimeoutError at the deadline."""
        while True:
            while not self._waiting:
                assert self._client is not None
                if time.monotonic() > deadline_s:
                    raise TimeoutError
                self._client.limit(deadline_s)
                if self._answer is not None:
                    self._stream()
                else:
                    self._ask(deadline_s)
            pixels = self._decode(self._waiting[-1])
            self._index += len(self._waiting) - 1
            self._waiting = []
            if pixels is not None:
                return pixels

    def _stream(self) -> None:
        try:
            data = self._answer.read1(_AT_ONCE)
        except (http.client.HTTPException, ConnectionError):
            data = b""
        if not data:
            raise SourceError(
                f"{self._label} ended after {self._index} frames: the other side closed the "
                "connection; check that the device still streams"
            )
        self._waiting = self._feed(data)

    def _ask(self, deadline_s: float) -> None:
        """Ask for the picture once more, unless that was just now."""
        assert self._client is not None
        if self._slept(deadline_s - time.monotonic()) > 0:  # the last one could not be shown
            return
        self._asked_s = time.monotonic()
        answer = self._client.get(max(0.01, deadline_s - time.monotonic()))
        self._client.limit(deadline_s)
        self._take_body(answer)

    def _slept(self, most_s: float) -> float:
        """Sleep until the picture may be asked for, or for ``most_s``; how long the former was."""
        wait_s = self._asked_s + self._options.poll_s - time.monotonic()
        time.sleep(max(0.0, min(wait_s, most_s)))
        return wait_s

    def _take_body(self, answer: Any) -> None:
        body_bytes = 0
        while data := answer.read1(_AT_ONCE):
            body_bytes += len(data)
            self._waiting += self._feed(data)
            if body_bytes > MOST_BYTES:
                raise SourceError(
                    f"{self._label}: a picture of more than {MOST_BYTES // 1_000_000} MB is refused"
                )
        answer.close()  # all of it was read: the connection is free for the next request
        if not self._waiting:
            self._note("what it sends is no whole JPEG, PNG or WebP picture")
            self._cutter = PictureCutter()

    def _feed(self, data: bytes) -> list[bytes]:
        damaged = self._cutter.damaged
        try:
            pictures = self._cutter.feed(data)
        except SourceError as error:
            raise SourceError(f"{self._label}: {error}; check the device") from None
        if pictures:
            self._came_ns = time.monotonic_ns()
        if self._cutter.damaged > damaged:
            self._note("its pictures are damaged or cut off")
        return pictures

    def _decode(self, data: bytes) -> NDArray[np.uint8] | None:
        """(H, W, 3) BGR; None for a picture that is refused or cannot be decoded."""
        try:
            pixels = eight_bits(*decode(data, Path("its picture"), self._options.max_megapixels))
        except SourceError as error:
            self._note(str(error))
            return None
        self._fault = ""
        return pixels

    def _note(self, fault: str) -> None:
        if self._logged != fault:  # not each time between two good ones
            log.warning("%s: %s; going on", self._label, fault)
        self._fault = self._logged = fault
