"""``events``: list, show and export what a store holds; ``report``: how its cameras did."""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import cv2

from ..core.errors import ConfigError, SinkError
from ..core.text import printable
from ..sinks.snapshots import box_of
from ..sinks.store_read import MOST, CameraDay, EventQuery, StoreReader

COLUMNS = (
    *("id", "time", "type", "source", "name", "track_id", "label", "zone", "line", "direction"),
    *("duration_s", "score", "box", "count", "cause", "snapshot", "clip", "seen"),
)


def register(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of ``events``."""
    kinds = parser.add_subparsers(dest="events_command", metavar="COMMAND", required=True)
    text = "events, newest first"
    listed = kinds.add_parser("list", usage="%(prog)s --store DIR [OPTIONS]", help=text)
    _add_filters(listed, limit=50)
    form = listed.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", dest="as_json", help="a JSON line an event")
    form.add_argument("--csv", action="store_true", dest="as_csv", help="for a spreadsheet")
    listed.set_defaults(func=_list)

    shown = kinds.add_parser("show", usage="%(prog)s ID --store DIR", help="all of one event")
    shown.add_argument("id", metavar="ID", help="as `events list` shows it")
    _add_store(shown)
    shown.set_defaults(func=_show)

    text = "events as JSON lines or CSV, or snapshots with labels to train with"
    export = kinds.add_parser(
        "export", usage="%(prog)s OUT --store DIR --format FORMAT [OPTIONS]", help=text
    )
    export.add_argument("out", type=Path, metavar="OUT", help="a new file, or for pictures folder")
    choices = ("json", "csv", "coco", "yolo")
    export.add_argument("--format", choices=choices, required=True, help="of the export")
    _add_filters(export, limit=None)
    export.set_defaults(func=_export)


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``report`` takes."""
    _add_store(parser)
    parser.add_argument("--day", metavar="YYYY-MM-DD", help="of this machine's time zone; today")
    parser.add_argument("--json", action="store_true", dest="as_json", help="for machines")


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="of a run")


def _add_filters(parser: argparse.ArgumentParser, *, limit: int | None) -> None:
    _add_store(parser)
    for name, text in (
        ("source", "name of a source, or its URI where a run had one"),
        ("label", "person, dog, …"),
        ("zone", "name of a zone"),
        ("line", "name of a line"),
        ("type", "appear, gone, enter, leave, dwell, cross, count, source_lost, …"),
    ):
        parser.add_argument(f"--{name}", help=text)
    moment = "2026-01-31, 2026-01-31T12:00 (this machine's time zone), or 30m, 24h, 7d ago"
    parser.add_argument("--since", type=moment_of, metavar="TIME", help=moment)
    parser.add_argument("--until", type=moment_of, metavar="TIME", help="the same; exclusive")
    known = "all" if limit is None else str(limit)
    parser.add_argument(
        "--limit", type=int, default=limit, metavar="N", help=f"events at most (default: {known})"
    )


def moment_of(text: str) -> int:
    """Milliseconds since 1970 of ``--since`` and ``--until``."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]
        return round((time.time() - seconds) * 1e3)
    try:
        return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e3)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write 2026-01-31, 2026-01-31T12:00 or 24h"
        ) from None


def _found(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The events that the filters let through, newest first, read page by page."""
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit is {args.limit}; it must be 1 or more")
    reader, left = StoreReader(args.store), args.limit
    query = EventQuery(
        camera=args.source,
        label=args.label,
        zone=args.zone,
        line=args.line,
        type=args.type,
        since_ms=args.since,
        until_ms=args.until,
    )
    reader.page(replace(query, limit=1))  # faults are told before there is half an answer

    def events() -> Iterator[dict[str, Any]]:
        nonlocal query, left
        while left is None or left > 0:
            page = reader.page(replace(query, limit=MOST if left is None else min(left, MOST)))
            yield from page.events
            left = None if left is None else left - len(page.events)
            if page.next is None:
                return
            query = replace(query, after=page.next)

    return events()


def _list(args: argparse.Namespace) -> int:
    events = _found(args)
    if args.as_json:
        _write_json(events, sys.stdout)
    elif args.as_csv:
        _write_csv(events, sys.stdout)
    else:
        for event in events:
            print(_line(event))
    return 0


def _line(event: Mapping[str, Any]) -> str:
    """ "2026-01-31 12:00:04  01KG…  garden  person enter door  track 7"."""
    at = datetime.fromisoformat(event["time"].replace("Z", "+00:00")).astimezone()
    what = [event.get(key, "") for key in ("label", "type", "zone", "line", "direction")]
    track = f"track {event['track_id']}" if "track_id" in event else event.get("cause", "")
    said = " ".join(printable(str(word)) for word in what if word)
    camera = printable(str(event.get("name") or event["source"]))
    return f"{at:%Y-%m-%d %H:%M:%S}  {event['id']}  {camera}  {said}  {printable(str(track))}"


def _write_json(events: Iterator[dict[str, Any]], out: TextIO) -> None:
    for event in events:
        out.write(json.dumps(event, ensure_ascii=False) + "\n")


def _write_csv(events: Iterator[dict[str, Any]], out: TextIO) -> None:
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for event in events:
        # a name that begins like a formula must not be one in a spreadsheet
        row = {
            key: f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" else value
            for key, value in event.items()
        }
        box = " ".join(map(str, event["box"])) if "box" in event else None
        writer.writerow({**row, "box": box})


def _show(args: argparse.Namespace) -> int:
    reader = StoreReader(args.store)
    event = reader.event(args.id)
    if event is None:
        raise ConfigError(f"the store {args.store} has no event {args.id}; see `events list`")
    files = {kind: str(path) for kind, path in reader.files_of(event).items()}
    print(json.dumps({**event, "files": files}, indent=1, ensure_ascii=False))
    return 0


def _export(args: argparse.Namespace) -> int:
    out: Path = args.out
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"{out} holds something already; name a new one")
    try:
        if args.format in ("json", "csv"):
            write = _write_json if args.format == "json" else _write_csv
            with out.open("w", encoding="utf-8", newline="") as file:
                write(_found(args), file)
        else:
            export_pictures(
                StoreReader(args.store), _found(args), out, as_coco=args.format == "coco"
            )
    except OSError as error:
        raise SinkError(f"cannot write {out}: {error.strerror or error}") from error
    return 0


def export_pictures(
    reader: StoreReader, events: Iterator[dict[str, Any]], out: Path, *, as_coco: bool
) -> None:
    """Each object's snapshot with its box: COCO's annotations.json, or YOLO's labels and data.yaml.

    A picture is a crop around one object, and only that object is labelled in it.
    """
    taken: dict[str, dict[str, Any]] = {}
    without = 0
    for event in events:
        name = event.get("snapshot")
        if name is None or "label" not in event or name in taken:
            continue
        path = reader.files_of(event).get("snapshot")
        box = None if path is None else box_of(path.read_bytes())
        picture = None if path is None or box is None else cv2.imread(str(path))
        if path is None or picture is None:
            without += 1
            continue
        stem = name.removesuffix(".jpg").replace("/", "_")
        wh = (picture.shape[1], picture.shape[0])
        taken[name] = {"event": event, "path": path, "box": box, "wh": wh, "stem": stem}
    if not taken:
        raise ConfigError(
            "no event that fits has a snapshot with its box; a run with --store makes them"
        )
    (out / "images").mkdir(parents=True)
    labels = sorted({each["event"]["label"] for each in taken.values()})
    for each in taken.values():
        shutil.copyfile(each["path"], out / "images" / f"{each['stem']}.jpg")
    (_write_coco if as_coco else _write_yolo)(list(taken.values()), labels, out)
    left = f"; {without} events without one left out" if without else ""
    print(f"{len(taken)} pictures of {len(labels)} labels in {out}{left}")


def _write_coco(taken: Sequence[Mapping[str, Any]], labels: Sequence[str], out: Path) -> None:
    images, annotations = [], []
    for number, each in enumerate(taken, 1):
        x0, y0, x1, y1 = each["box"]
        (width, height), event = each["wh"], each["event"]
        image = {"id": number, "file_name": f"{each['stem']}.jpg", "width": width, "height": height}
        images.append({**image, "date_captured": event["time"]})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": labels.index(event["label"]) + 1,
                "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                "area": round((x1 - x0) * (y1 - y0), 2),
                "iscrowd": 0,
            }
        )
    categories = [{"id": i, "name": label} for i, label in enumerate(labels, 1)]
    told = {"images": images, "annotations": annotations, "categories": categories}
    (out / "annotations.json").write_text(json.dumps(told), encoding="utf-8")


def _write_yolo(taken: Sequence[Mapping[str, Any]], labels: Sequence[str], out: Path) -> None:
    (out / "labels").mkdir()
    for each in taken:
        (x0, y0, x1, y1), (w, h) = each["box"], each["wh"]
        place = ((x0 + x1) / 2 / w, (y0 + y1) / 2 / h, (x1 - x0) / w, (y1 - y0) / h)
        line = " ".join(f"{value:.6f}" for value in place)
        number = labels.index(each["event"]["label"])
        (out / "labels" / f"{each['stem']}.txt").write_text(f"{number} {line}\n")
    names = "".join(f"  {i}: {json.dumps(label)}\n" for i, label in enumerate(labels))
    text = f"path: .\ntrain: images\nval: images\nnames:\n{names}"
    (out / "data.yaml").write_text(text, encoding="utf-8")


def run_report(args: argparse.Namespace) -> int:
    """Each camera's day: availability, gaps, drops, faults, ages."""
    try:
        day = datetime.strptime(args.day, "%Y-%m-%d") if args.day else datetime.now()
    except ValueError:
        raise ConfigError(f"--day is {args.day!r}; write it like 2026-01-31") from None
    begin = day.replace(hour=0, minute=0, second=0, microsecond=0)
    since, until = (round(each.timestamp() * 1e3) for each in (begin, begin + timedelta(days=1)))
    cameras = StoreReader(args.store).report(since, min(until, round(time.time() * 1e3)))
    if args.as_json:
        told = {"day": f"{begin:%Y-%m-%d}", "cameras": [asdict(each) for each in cameras]}
        print(json.dumps(told, indent=1))
        return 0
    print(f"{begin:%Y-%m-%d}" + ("" if cameras else ": no camera was watched"))
    for each in cameras:
        print("\n".join(_of_camera(each)))
    return 0


def _of_camera(day: CameraDay) -> Iterator[str]:
    yield f"\n{printable(day.camera)}"
    share = "–" if day.availability is None else f"{100 * day.availability:.2f} %"
    yield f"  available  {share} of {_hours(day.watched_s)} watched"
    yield f"  frames     {day.captured} captured, {day.processed} processed"
    yield f"  dropped    {_counted(day.dropped)}"
    yield f"  faults     {_counted(day.happened)}"
    ages = [f"{name} {value:.1f} ms" for name, value in day.age_ms.items() if value is not None]
    yield f"  age        {', '.join(ages) or '–'}"
    yield f"  events     {_counted(day.events)}"
    for number, gap in enumerate(day.gaps):
        head = "  gaps       " if not number else " " * 13
        at = datetime.fromtimestamp(gap["from_ms"] / 1e3)
        lasted = _hours((gap["until_ms"] - gap["from_ms"]) / 1e3)
        cause = "no run" if gap["state"] == "off" else f"{gap['state']} {gap['cause']}".strip()
        yield f"{head}{at:%H:%M:%S} for {lasted}: {printable(cause)}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {printable(name)}" for name, n in sorted(counts.items())) or "none"


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
