"""Small servers on this machine that act as the cameras and streams of the tests."""

from __future__ import annotations

import base64
import contextlib
import http.server
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clip_maker import FPS, picture


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Accepts connections and never answers. Gives its port."""
    held: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                held.append(server.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for connection in held:
            connection.close()


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def http_server(jpegs: list[bytes], clip: Path, *, then: str = "loop") -> Iterator[int]:
    """``/live`` streams JPEGs as cameras do, ``/clip.mp4`` is a file. Gives the port.

    ``then``: after the last JPEG "loop", "close" the connection, or go "silent".
    """
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                self.stream() if self.path == "/live" else self.file()

        def file(self) -> None:
            data = clip.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for jpeg in itertools.cycle(jpegs) if then == "loop" else jpegs:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                if stop.wait(1 / FPS):
                    return
            if then == "silent":
                stop.wait(30)

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        stop.set()
        server.shutdown()
        thread.join(5)
        server.server_close()


class RtspServer:
    """Just enough of RTSP (RFC 2326) to play H.264 (RFC 6184) to one client, over its TCP.

    ``show``: the picture of each of ``distinct`` frames, which are repeated. ``epoch_s``: when
    frame 0 was, so that several show the same at once; a client then begins with the next key
    frame.
    """

    def __init__(
        self,
        *,
        user_password: str = "",
        frames: int = 100_000,
        show: Callable = picture,
        distinct: int = 40,
        epoch_s: float | None = None,
        port: int = 0,
    ) -> None:
        av = pytest.importorskip("av")
        self._epoch_s = epoch_s
        height, width = show(0).shape[:2]
        self._credentials = base64.b64encode(user_password.encode()).decode()
        self._frames = frames
        codec = av.CodecContext.create("libx264", "w")
        codec.width, codec.height = width, height
        codec.pix_fmt, codec.framerate = "yuv420p", FPS
        codec.options = {"tune": "zerolatency", "g": "10"}
        self._access_units = []
        for index in range(distinct):
            frame = av.VideoFrame.from_ndarray(show(index), format="bgr24")
            self._access_units += [bytes(packet) for packet in codec.encode(frame)]
        self._stop = threading.Event()
        self._server = socket.create_server(("127.0.0.1", port))
        self.port = self._server.getsockname()[1]
        self.transports: list[str] = []  # asked for by clients
        self.saw_teardown = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> RtspServer:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._stop.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                connection.settimeout(0.1)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        waiting, playing, sent = b"", False, 0
        with connection, contextlib.suppress(ConnectionError):
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    data = connection.recv(4096)
                    if not data:
                        return
                    waiting += data
                while b"\r\n\r\n" in waiting:
                    request, _, waiting = waiting.partition(b"\r\n\r\n")
                    verb = self._answer(connection, request.decode("latin-1"))
                    playing = playing or verb == "PLAY"
                    if playing:
                        connection.settimeout(1 / FPS if self._epoch_s is None else 0.002)
                if playing and self._epoch_s is not None:
                    now = int((time.monotonic() - self._epoch_s) * FPS)
                    if not sent:
                        sent = -(-now // 10) * 10
                    if now < sent:
                        continue
                if playing:
                    if sent == self._frames:
                        return
                    # a client that left may have said so before: what it sent is still to be read
                    with contextlib.suppress(ConnectionError):
                        self._send_frame(connection, sent)
                    sent += 1

    def _answer(self, connection: socket.socket, request: str) -> str:
        """What was asked for; "" if it was refused."""
        # RTCP reports may stand, in binary, right before it: any byte, also a space or a line's end
        start = re.search(r"(OPTIONS|DESCRIBE|SETUP|PLAY|TEARDOWN|GET_PARAMETER) rtsp:", request)
        verb = start[1] if start else ""
        lines = request[start.start() if start else 0 :].split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        status, extra, body = "200 OK", "", ""
        allowed = headers.get("Authorization", "") == f"Basic {self._credentials}"
        if verb == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif self._credentials and not allowed:
            status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n'
        elif verb == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=framerate:{FPS}\r\n"
                "a=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
            )
            extra = "Content-Type: application/sdp\r\n"
        elif verb == "SETUP":
            self.transports.append(headers.get("Transport", ""))
            extra = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        elif verb == "PLAY":
            extra = "Session: 1\r\nRange: npt=0.000-\r\n"
        elif verb == "TEARDOWN":
            self.saw_teardown.set()
        head = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('CSeq', '0')}\r\n{extra}"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return verb if status == "200 OK" else ""

    def _send_frame(self, connection: socket.socket, number: int) -> None:
        unit = self._access_units[number % len(self._access_units)]
        nals = [n.rstrip(b"\0") for n in unit.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")]
        packets: list[bytes] = []
        for nal in filter(None, nals):
            if len(nal) <= 1200:
                packets.append(nal)
                continue
            pieces = [nal[i : i + 1200] for i in range(1, len(nal), 1200)]
            for i, piece in enumerate(pieces):
                flags = 0x80 * (i == 0) | 0x40 * (i == len(pieces) - 1)
                packets.append(bytes([nal[0] & 0x60 | 28, flags | nal[0] & 0x1F]) + piece)
        for i, payload in enumerate(packets):
            self._sequence = (getattr(self, "_sequence", 0) + 1) & 0xFFFF
            marker = 0x80 * (i == len(packets) - 1)
            stamp = number * 90_000 // FPS & 0xFFFFFFFF
            rtp = struct.pack(">BBHII", 0x80, marker | 96, self._sequence, stamp, 7) + payload
            connection.sendall(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)


def wait_until(condition, limit_s: float = 5.0) -> bool:
    """True as soon as the condition holds, False when it does not within the limit."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.02)
    return False


class RawServer:
    """Answers each request by ``answer(head, send)``, bytes as they are; True keeps the connection.

    ``requests``: the heads, as texts. ``context``: it speaks TLS; ``refused`` counts handshakes
    that clients broke off. ``connections``: how many there were.
    """

    def __init__(
        self, answer: Callable[[str, Callable[[bytes], None]], bool | None], *, context=None
    ) -> None:
        self._answer, self._context = answer, context
        self.requests: list[str] = []
        self.refused = self.connections = 0
        self.stop = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> RawServer:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info) -> None:
        self.stop.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                connection.settimeout(10)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self._context is not None:
                try:
                    connection = self._context.wrap_socket(connection, server_side=True)
                except OSError:
                    self.refused += 1
                    return
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        waiting = b""
        while not self.stop.is_set():
            while b"\r\n\r\n" not in waiting:
                data = connection.recv(4096)
                if not data:
                    return
                waiting += data
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            self.requests.append(head.decode("latin-1"))
            if not self._answer(self.requests[-1], connection.sendall):
                return


def body(data: bytes, kind: str, *more: str, status: str = "200 OK") -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(data)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + data
