"""Events are kept whole through crashes, full disks and retention, and found again quickly."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import app.sinks.store as store_module
import app.sinks.store_files as files_module
import app.sinks.store_schema as schema
from app.config import StoreOptions, make_config
from app.core.errors import ConfigError, SinkError
from app.core.states import SourceStatus
from app.core.stats import Meter, OutputMeter
from app.sinks.store import EventStore, age_classes
from app.sinks.store_read import EventQuery, StoreReader
from tests.sinks.kit import CAMERA, LABELS, ROOT, event, result
from tests.sinks.mqtt.broker import until

NOON_MS = 1_769_860_804_500  # of the kit's events


def made(folder: Path, **options) -> EventStore:
    meter = options.pop("meter", OutputMeter("store"))
    more = {key: options.pop(key) for key in ("status", "stats", "waits") if key in options}
    folders = {"snapshot": folder / "snapshots", "clip": folder / "clips"}
    store = EventStore(StoreOptions(path=str(folder), **options), meter, folders=folders, **more)
    store.start()
    return store


def told(store: EventStore, *events) -> None:
    sink = store.sink("", "x")
    sink.open(CAMERA, LABELS)
    sink.emit(replace(result(), events=events))


def kept(folder: Path, **query) -> list[dict]:
    return StoreReader(folder).page(EventQuery(**query)).events


def test_what_is_told_is_found_with_its_object_and_counts(tmp_path: Path) -> None:
    store = made(tmp_path)
    first = event("appear", 7, score=0.5)
    enter = event("enter", 7, zone="door", score=0.9)
    told(store, first, enter, event("cross", 8, line="gate", direction="in"), event("gone", 7))
    store.stop()
    assert [each["type"] for each in kept(tmp_path)] == ["gone", "cross", "enter", "appear"]
    assert [each["id"] for each in kept(tmp_path, zone="door")] == [enter.id]
    (of_seven,) = [e for e in kept(tmp_path, objects=True) if e["track_id"] == 7]
    assert of_seven["id"] == first.id and of_seven["zones"] == ["door"]
    whole = StoreReader(tmp_path).event(enter.id)
    assert whole is not None and whole["object"]["score"] == 0.9
    assert [each["type"] for each in whole["object"]["events"]] == ["appear", "enter", "gone"]
    counts = StoreReader(tmp_path).counts(NOON_MS - 60_000, NOON_MS + 60_000)
    ways = {(row["kind"], row["shape"], row["way"]): row["count"] for row in counts}
    assert ways["zone", "door", "enter"] == 1 and ways["line", "gate", "in"] == 1


def test_pages_follow_one_another_without_gaps_or_doubles(tmp_path: Path) -> None:
    store, events = made(tmp_path, waits=True), [event("appear", i) for i in range(25)]
    told(store, *events)
    store.stop()
    reader, query, found = StoreReader(tmp_path), EventQuery(limit=10), []
    while True:
        page = reader.page(query)
        found += [each["id"] for each in page.events]
        if page.next is None:
            break
        query = replace(query, after=page.next)
    assert found == [each.id for each in reversed(events)]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"text": "PERS door"}, 1),
        ({"text": "%"}, 0),
        ({"text": "%", "zone": "door"}, 0),
        ({"text": "%", "line": "gate"}, 0),
        ({"label": "dog"}, 1),
        ({"camera": "camera:0"}, 3),
        ({"since_ms": NOON_MS, "until_ms": NOON_MS + 1}, 3),
        ({"until_ms": NOON_MS}, 0),
        ({"seen": True}, 0),
    ],
)
def test_filters(tmp_path: Path, query: dict, count: int) -> None:
    store = made(tmp_path)
    told(store, event("enter", zone="door"), event("appear", 2, label="dog"), event("source_lost"))
    store.stop()
    assert len(kept(tmp_path, **query)) == count


def test_a_recording_that_is_replayed_again_is_kept_once(tmp_path: Path) -> None:
    events = [event("appear"), event("enter", zone="door")]
    for _ in range(2):
        store = made(tmp_path)
        told(store, *events)
        store.stop()
    assert len(kept(tmp_path)) == 2
    counts = StoreReader(tmp_path).counts(NOON_MS - 60_000, NOON_MS + 60_000)
    assert [row["count"] for row in counts] == [1, 1]


def test_two_runs_do_not_write_one_store(tmp_path: Path) -> None:
    store = made(tmp_path)
    with pytest.raises(SinkError, match="another run"):
        made(tmp_path)
    store.stop()
    made(tmp_path).stop()


def test_what_was_written_outlives_kill(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.sinks.test_store import made, told\n"
        "from tests.sinks.kit import event\n"
        "store = made(Path(sys.argv[1]), waits=True)\n"
        "while True: told(store, *[event('appear', i) for i in range(50)])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    try:
        until(lambda: (tmp_path / schema.FILE).exists() and len(_try_kept(tmp_path)) > 60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    before = len(kept(tmp_path, limit=None))
    with sqlite3.connect(tmp_path / schema.FILE) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = made(tmp_path)
    told(store, replace(event("gone"), id="Z" * 26))
    store.stop()
    assert len(kept(tmp_path, limit=None)) == before + 1


def _try_kept(folder: Path) -> list[dict]:
    try:
        return kept(folder, limit=100)
    except SinkError:  # it is being made
        return []


@pytest.mark.parametrize("waits", [False, True])
def test_a_full_disk_costs_events_and_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr(store_module, "RETRY_S", 0.2)
    monkeypatch.setattr(store_module, "CAPACITY", 50)
    meter = OutputMeter("store")
    store = made(tmp_path, meter=meter, waits=waits)
    told(store, event("appear"))
    until(lambda: meter.figures().delivered == 1)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        largest = max(path.stat().st_size for path in tmp_path.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, old[1]))
        until(lambda: told(store, *[event("enter", zone="door")] * 5) or meter.trouble)
        began_s = time.monotonic()
        told(store, *[event("enter", 5, zone="door") for _ in range(2000)])
        assert time.monotonic() - began_s < 5
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    until(lambda: not meter.trouble)
    told(store, event("gone", 9))
    store.stop()
    figures = meter.figures()
    assert figures.dropped["disk"] > 0 and set(figures.dropped) <= {"disk", "queue full"}
    assert kept(tmp_path, type="gone") and kept(tmp_path, type="appear")
    # each object has one first event, also where its first writing failed
    assert len([e for e in kept(tmp_path, objects=True, limit=None) if e["track_id"] == 5]) == 1


def test_retention_by_age_label_and_size_takes_files_with_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {name: tmp_path / "snapshots" / f"{name}.jpg" for name in ("a", "b", "c")}
    store = made(tmp_path, keep_hours=1, keep_labels=["person=100"])
    told(
        store,
        event("appear", 1, label="dog", snapshot="a.jpg"),
        event("appear", 2, snapshot="b.jpg"),
    )
    store.stop()
    for path in names.values():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1_000_000)
    with sqlite3.connect(tmp_path / schema.FILE) as database:
        database.execute("UPDATE events SET stored_ms = stored_ms - 7200000")
    store = made(tmp_path, keep_hours=1, keep_labels=["person=100"])
    told(store, event("appear", 3, label="dog", snapshot="c.jpg"))
    store.stop()
    assert [each["label"] for each in kept(tmp_path)] == ["dog", "person"]
    assert not names["a"].exists() and names["b"].exists() and names["c"].exists()
    monkeypatch.setattr(files_module, "ENFORCE_S", 0.0)
    store = made(tmp_path, budget_mb=0.2)
    until(lambda: not kept(tmp_path))
    store.stop()
    assert not names["b"].exists() and not names["c"].exists()


def test_other_limits_hold_at_once(tmp_path: Path) -> None:
    store, picture = made(tmp_path), tmp_path / "snapshots" / "a.jpg"
    picture.parent.mkdir()
    picture.write_bytes(bytes(1_000_000))
    told(store, event("appear", 1, snapshot="a.jpg"))
    until(lambda: bool(kept(tmp_path)))
    store.keep(StoreOptions(path=str(tmp_path), budget_mb=0.2))
    until(lambda: not kept(tmp_path))
    store.stop()
    assert not picture.exists()


def test_a_file_stays_while_another_event_names_it(tmp_path: Path) -> None:
    store = made(tmp_path)
    appear, gone = event("appear", snapshot="a.jpg", clip="c.mp4"), event("gone", clip="c.mp4")
    told(store, appear, gone)
    files = [tmp_path / "snapshots/a.jpg", tmp_path / "clips/c.mp4", tmp_path / "clips/c.json"]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert store.change(appear.id, seen=True, whole=True).result(10) == 2
    assert all(each["seen"] for each in kept(tmp_path))
    assert store.change(appear.id, seen=None, whole=False).result(10) == 1
    assert [path.exists() for path in files] == [False, True, True]
    assert store.change(gone.id, seen=None, whole=True).result(10) == 1
    assert not any(path.exists() for path in files) and not kept(tmp_path)
    assert store.change("none", seen=None, whole=True).result(10) == 0
    store.stop()


def test_a_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "precious.jpg").touch()
    store = made(tmp_path / "s")
    out = event("appear", snapshot="../../precious.jpg")
    told(store, out)
    assert store.change(out.id, seen=None, whole=True).result(10) == 1
    store.stop()
    assert (tmp_path / "precious.jpg").exists()


def test_an_older_store_is_brought_up_to_date_and_a_newer_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made(tmp_path)
    told(store, event("appear"))
    store.stop()
    known = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", (*known, "CREATE TABLE later(x);"))
    with pytest.raises(SinkError, match="--store once"):
        kept(tmp_path)
    made(tmp_path).stop()
    assert len(kept(tmp_path)) == 1
    monkeypatch.setattr(schema, "MIGRATIONS", known)
    for use in (made, kept):
        with pytest.raises(SinkError, match=r"newer|update"):
            use(tmp_path)


def test_a_damaged_store_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / schema.FILE).write_bytes(b"no database at all" * 100)
    store = made(tmp_path)
    told(store, event("appear"))
    store.stop()
    assert len(kept(tmp_path)) == 1 and list(tmp_path.glob("*.damaged-*"))


def test_a_report_tells_availability_gaps_and_ages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TICK_S", "ALIVE_S"):
        monkeypatch.setattr(store_module, name, 0.05)
    meter, status = Meter(), SourceStatus("live", time.time())
    store = made(tmp_path, status=lambda name: status, stats=meter.counts)
    sink = store.sink("", "x")
    sink.open(CAMERA, LABELS)
    for age_ms in range(1, 101):
        meter.captured(1)
        sink.emit(replace(result(), age_ns=age_ms * 1_000_000))
    meter.dropped("stale")
    meter.noticed("freezes")
    states = StoreReader(tmp_path)
    until(lambda: [c.camera for c in states.report(0, 1 << 50)] == ["camera:0"])
    status = SourceStatus("reconnecting", time.time(), "no route")
    until(lambda: any(gap["cause"] == "no route" for gap in states.report(0, 1 << 50)[0].gaps))
    store.stop()
    (day,) = states.report(0, 1 << 50)
    assert day.availability is not None and 0 < day.availability < 1
    assert day.captured == 100 and day.dropped == {"stale": 1} and day.happened == {"freezes": 1}
    for percent, value in day.age_ms.items():
        assert value == pytest.approx(int(percent[1:]), rel=0.05)


def test_a_killed_run_was_there_until_its_last_sign_of_life(tmp_path: Path) -> None:
    made(tmp_path).stop()
    begun_ms = round(time.time() - 3600) * 1000
    with sqlite3.connect(tmp_path / schema.FILE) as database:
        database.execute("INSERT INTO states VALUES('yard', ?, 'live', '')", (begun_ms,))
        alive = str(begun_ms + 60_000)
        database.execute("INSERT OR REPLACE INTO meta VALUES('alive_ms', ?)", (alive,))
    made(tmp_path, status=lambda name: SourceStatus(), stats=Meter().counts).stop()
    day = StoreReader(tmp_path).report(0, begun_ms + 120_000)[0]
    assert (day.watched_s, day.availability) == (60.0, 1.0)
    assert [(gap["from_ms"], gap["state"]) for gap in day.gaps] == [(begun_ms + 60_000, "off")]


def test_classes_of_ages_hold_what_is_in_them() -> None:
    assert age_classes([1_000_000, 1_000_001]) == {0: 1, 1: 1}
    assert not age_classes([])


def test_snapshots_and_clips_go_below_the_store_unless_named(tmp_path: Path) -> None:
    config = make_config({"store": "s", "store.keep_hours": 2, "store.keep_labels": ["dog=5"]})
    assert (config.events.snapshots, config.clips.path) == ("s/snapshots", "s/clips")
    assert config.events.snapshots_hours == config.clips.keep_hours == 5 and config.tracks
    config = make_config({"store": "s", "clips": "mine"})
    assert config.clips.path == "mine" and config.clips.keep_hours == 168
    with pytest.raises(ConfigError, match="LABEL=HOURS"):
        make_config({"store": "s", "store.keep_labels": ["dog"]})
    assert json.dumps(config.store.hours_of()) == "{}"


def test_an_event_under_an_older_lease_is_refused(tmp_path: Path) -> None:
    """Whoever had the camera before tells nothing more, also to a store that was opened anew."""
    meter = OutputMeter("store")
    store = made(tmp_path, meter=meter)
    told(store, *(event("appear", track, lease=lease) for track, lease in enumerate((5, 9, 5))))
    store.stop()
    store = made(tmp_path, meter=meter)
    told(store, event("appear", 7, lease=8), event("appear", 8, lease=9))
    store.stop()
    assert sorted(each["lease"] for each in kept(tmp_path)) == [5, 9, 9]
    assert meter.figures().dropped == {"older lease": 2}
