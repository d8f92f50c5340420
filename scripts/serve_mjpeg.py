#!/usr/bin/env python3
"""A camera to try with: serves a clip as MJPEG by HTTP, as network cameras do, again and again.

python scripts/serve_mjpeg.py --port 8080 [CLIP]      then: --source http://127.0.0.1:8080/live
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import itertools
import time
from pathlib import Path

import cv2

SAMPLE = Path(__file__).parents[1] / "app/sources/sample.mp4"
FRAMES = 200  # of the clip's start, encoded once


def jpegs(clip: Path) -> list[bytes]:
    """The clip's first frames, compressed."""
    capture = cv2.VideoCapture(str(clip))
    frames: list[bytes] = []
    while len(frames) < FRAMES:
        ok, pixels = capture.read()
        if not ok:
            break
        frames.append(cv2.imencode(".jpg", pixels)[1].tobytes())
    capture.release()
    if not frames:
        raise SystemExit(f"{clip} has no frame that can be read")
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--fps", type=float, default=20)
    args = parser.parse_args()
    frames = jpegs(args.clip)

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for jpeg in itertools.cycle(frames):
                    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(b"--frame\r\n" + head.encode() + jpeg + b"\r\n")
                    time.sleep(1 / args.fps)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Camera)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{args.port}/live", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
