#!/usr/bin/env python3
"""A camera to try with: serves a clip, or a moving test picture, by RTSP on this machine.

    python3 scripts/serve_rtsp.py --port 8554 [CLIP.mp4]      then: --source rtsp://127.0.0.1:8554/x

Runs in the system's Python, on GStreamer's RTSP server:
sudo apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly}
"""

from __future__ import annotations

import argparse
import sys

PICTURE = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=20/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=20 bitrate=500 ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1"
)
CLIP = 'filesrc location="{}" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", help="H.264 in MP4 (default: a moving ball, live)")
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--address", default="127.0.0.1", help="where to listen")
    parser.add_argument("--private", action="store_true", help="a stream for each reader")
    args = parser.parse_args()
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer(address=args.address, service=str(args.port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {CLIP.format(args.clip) if args.clip else PICTURE} )")
    # shared, a reader that is cut off would hold up all others
    factory.set_shared(not args.private)
    server.get_mount_points().add_factory("/x", factory)
    if not server.attach(None):
        sys.stderr.write(f"cannot listen on port {args.port}: is another server there?\n")
        return 1
    print(f"rtsp://{args.address}:{args.port}/x", flush=True)
    GLib.MainLoop().run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
