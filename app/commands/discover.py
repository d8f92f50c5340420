"""``discover``: the cameras here and on the network, as sources that ``--source`` takes.

V4L2 devices with their formats, CSI sensors where GStreamer's element for them is there, and ONVIF
cameras by multicast or at given hosts. Nothing is opened and no picture is taken.
"""

from __future__ import annotations

import argparse
import fcntl
import getpass
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, SourceError
from ..sources.base import stable_name
from ..sources.camera import Ioctl, list_cameras
from ..sources.gstreamer import JETSON, LIBCAMERA, elements_here
from ..sources.onvif import MULTICAST, Device, OnvifLogin, discover
from . import columns
from .doctor.devices import mode_lines

PASSWORD = "KESTREL_CAMERA_PASSWORD"
MOST_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `discover` takes."""
    parser.add_argument("--json", action="store_true", help="for machines")
    add = parser.add_argument
    add("--no-network", action="store_true", help="only cameras of this machine")
    text = "ask this camera alone, where multicast does not reach it (repeatable)"
    add("--host", action="append", default=[], metavar="HOST[:PORT]", help=text)
    text = f"of the ONVIF cameras; the password is in ${PASSWORD}, or is asked for"
    add("--user", metavar="NAME", help=text)
    add("--timeout", type=float, default=3.0, metavar="S", help="of each of two steps (default: 3)")


def run_discover(
    args: argparse.Namespace,
    *,
    dev: Path = Path("/dev"),
    ioctl: Ioctl = fcntl.ioctl,
    group: tuple[str, int] = MULTICAST,
) -> int:
    """Look, and print the table or JSON. Finding nothing is no error."""
    if not 0 < args.timeout <= MOST_S:
        raise ConfigError(f"--timeout must be above 0 and at most {MOST_S:g} s, is {args.timeout}")
    if args.no_network and (args.host or args.user):
        raise ConfigError("--no-network leaves --host and --user without a meaning: leave one out")
    for host in args.host:
        if not host or set(host) & set("/?#@ "):
            raise ConfigError("--host is a host name or address with an optional :PORT")
    login = OnvifLogin(args.user, _password()) if args.user else None
    here = [*_v4l2(dev, ioctl), *_csi()]
    network: list[Device] = []
    if not args.no_network:
        network = discover(timeout_s=args.timeout, login=login, hosts=args.host, group=group)
    if args.json:
        print(
            json.dumps({"cameras": here, "network": [asdict(each) for each in network]}, indent=1)
        )
        return 0
    print("\n".join(_table(here, network, asked=not args.no_network)))
    return 0


def _password() -> str:
    if PASSWORD in os.environ:
        return os.environ[PASSWORD]
    if not sys.stdin.isatty():
        raise ConfigError(f"--user needs a password: put it into the variable {PASSWORD}")
    return getpass.getpass("Password of the cameras: ")


def _v4l2(dev: Path, ioctl: Ioctl) -> list[dict[str, Any]]:
    found = []
    for camera in list_cameras(dev, ioctl):
        link, path = stable_name(camera.number, dev), dev / f"video{camera.number}"
        usable = os.access(path, os.R_OK | os.W_OK)
        found.append(
            {
                **{"kind": "v4l2", "uri": f"camera:{link}" if link else camera.uri},
                **{"device": str(path), "name": camera.name, "usable": usable},
                "modes": [{**asdict(mode), "query": mode.query} for mode in camera.modes],
                "formats": [line.strip() for line in mode_lines(camera.modes)],
            }
        )
    return found


def _csi() -> list[dict[str, Any]]:
    try:
        elements = elements_here((JETSON, LIBCAMERA))
    except SourceError:  # no GStreamer
        return []
    name = next((each for each in (JETSON, LIBCAMERA) if elements[each]), None)
    if name is None:
        return []
    return [{"kind": "csi", "uri": "csi:0", "name": f"if a sensor is connected ({name})"}]


def _table(here: list[dict[str, Any]], network: list[Device], *, asked: bool) -> list[str]:
    """Lines for people; the sources first, then what could not be told."""
    rows, notes = [], []
    for camera in here:
        formats = camera.get("formats", [])
        rows.append((camera["uri"], camera["name"], formats[0] if formats else ""))
        rows += [("", "", each) for each in formats[1:]]
        if not camera.get("usable", True):
            notes.append(
                f"{camera['device']}: no permission; sudo usermod -aG video $USER, and log in again"
            )
    for device in network:
        for stream in device.streams:
            size = f" {stream.wh_px[0]}x{stream.wh_px[1]}" if stream.wh_px else ""
            rate = f"@{stream.fps:g}" if stream.fps else ""
            name = " ".join(filter(None, (device.name, stream.profile)))
            rows.append((stream.uri, name, f"{stream.encoding}{size}{rate}"))
        if device.fault:
            notes.append(f"{device.address} {device.name}: {device.fault}")
    if any(device.streams for device in network):
        notes.append(
            "a camera that asks for a login takes it in the address: rtsp://USER:PASSWORD@…, which "
            "belongs in a configuration file"
        )
    lines = columns(("source", "name", "formats"), rows) if rows else ["no camera found"]
    if asked and not network:
        notes.append(
            "no ONVIF camera answered: they are asked by multicast, which stays in this network; "
            "--host ADDRESS asks one directly"
        )
    return [*lines, *notes]
