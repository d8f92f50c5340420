"""The flight recorder: bounded, readable after a crash, and a run that can be repeated from it."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from app.commands.cli import main
from app.core.detections import Detections, Result
from app.core.errors import ConfigError, SinkError, SourceEnded, SourceError, VerdictError
from app.core.frame import Frame
from app.ops import flight as recorder_module
from app.ops.flight import (
    KINDS,
    TOLD,
    FlightRecorder,
    RecordedDropsSource,
    Trace,
    TraceWriter,
    read_trace,
)
from app.pipeline.handoff import Handoff, Policy, is_stale
from scripts.trace_to_perfetto import chrome_trace
from tests.fakes import FakeSource

ROOT = Path(__file__).parents[2]
PIXELS = np.zeros((3, 4, 3), np.uint8)
MS = 1_000_000


def result(index: int, *boxes: Sequence[float]) -> Result:
    found = Detections(
        np.array([box[2:] for box in boxes], np.float32).reshape(-1, 4),
        np.array([box[1] for box in boxes], np.float32),
        np.array([box[0] for box in boxes], np.int32),
    )
    return Result(Frame(PIXELS, index, 0), found, 9 * MS, {"network": 5 * MS})


def recorder(tmp_path: Path, *, to_file: bool = True, **header: Any) -> FlightRecorder:
    path = tmp_path / "t.jsonl" if to_file else None
    return FlightRecorder(path, header, last_words=tmp_path / "cache" / "last.jsonl")


# --- the file ------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    events = [("put", 5, 0, 3), ("take", 6, 0), ("result", 9, 0, 4, {"network": 1}, [[0, 0.5]])]
    writer = TraceWriter(tmp_path / "t", {"source": "pattern:"})
    writer.write(events)
    writer.close()
    trace = read_trace(tmp_path / "t")
    assert trace.events == events and trace.header["source"] == "pattern:"


def test_a_ring_keeps_the_newest_in_two_files_of_bounded_size(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t", {}, segment_bytes=1000)
    for index in range(500):
        writer.write([("take", index, index)])
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t", "t.1"]
    assert all(path.stat().st_size < 1100 for path in tmp_path.iterdir())
    indices = [event[2] for event in read_trace(tmp_path / "t").events]
    assert indices == list(range(indices[0], 500)) and len(indices) > 50


def test_a_new_run_does_not_read_like_the_end_of_the_last(tmp_path: Path) -> None:
    (tmp_path / "t.1").write_text('{"trace":1}\n["take",1,1]\n')
    TraceWriter(tmp_path / "t", {}).close()
    assert read_trace(tmp_path / "t").events == []


def test_a_line_that_was_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('{"trace":1}\n["take",1,1]\n["take",2')
    assert read_trace(tmp_path / "t").events == [("take", 1, 1)]


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "[]", '{"trace":99}\n', '["take",1,1]\n'),
        *('{"trace":1}\nnonsense\n["take",1,1]\n', '{"trace":1}\n["jump",1,1]\n'),
        *(
            '{"trace":1}\n["put",1,1]\n',
            '{"trace":1}\n["put",1,1,"x"]\n',
            '{"trace":1}\n["take",1,{}]\n',
        ),
    ],
)
def test_what_is_no_trace_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(ConfigError, match="--trace"):
        read_trace(tmp_path / "t")


@settings(max_examples=200)
@given(data=st.binary(max_size=300), cut=st.integers(0, 400))
def test_no_file_however_broken_crashes_the_reader(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "t"
    sound = b'{"trace":1}\n["put",1,0,1]\n["take",2,0]\n["result",3,0,1,{},[]]\n'
    for text in (data, sound[:cut] + data, sound + data):
        path.write_bytes(text)
        with contextlib.suppress(ConfigError):
            chrome_trace(read_trace(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
ARGUMENTS = st.lists(JSON | st.integers(0, 9), max_size=5)


@settings(max_examples=300)
@given(
    kind=st.sampled_from([*KINDS, *TOLD, "none"]),
    rest=ARGUMENTS,
    header=st.dictionaries(st.just("max_age_ms"), JSON),
)
def test_no_event_however_odd_crashes_its_users(
    tmp_path_factory: pytest.TempPathFactory, kind: str, rest: list[Any], header: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("odd") / "t"
    events = [["put", 1, 0, 1], ["take", 2, 0], [kind, *rest]]
    path.write_text("\n".join(json.dumps(line) for line in [{"trace": 1, **header}, *events]))
    with contextlib.suppress(ConfigError, SourceError):
        trace = read_trace(path)
        chrome_trace(trace)
        replayed(RecordedDropsSource(FakeSource(20), trace))


def test_an_unwritable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot write --trace"), recorder(tmp_path / "none"):
        pass


# --- the recorder --------------------------------------------------------------------------------


def test_decisions_results_and_states_are_in_the_file_after_the_run(tmp_path: Path) -> None:
    flight = recorder(tmp_path, max_age_ms=5.0)
    states = iter(["building", "live"])
    seen = threading.Event()

    def state() -> str:
        try:
            return next(states)
        except StopIteration:
            seen.set()
            return "live"

    flight.watch(state)
    with flight:
        flight.note("put", 0, 77)
        flight.note("take", 0, 0)
        flight.note("kept", 0, 99)
        flight.emit(result(0, (3, 0.5, 1, 2, 3, 4)))
        assert seen.wait(20)
    trace = read_trace(tmp_path / "t.jsonl")
    by_kind = {event[0]: event for event in trace.events}
    assert by_kind["put"][3] == 77 and by_kind["kept"][1] == 99
    assert by_kind["result"][3:] == (9 * MS, {"network": 5 * MS}, [[3, 0.5, 1, 2, 3, 4]])
    assert [event[3] for event in trace.events if event[0] == "state"] == ["building", "live"]
    assert trace.header["max_age_ms"] == 5.0


def test_without_a_file_the_last_events_are_saved_when_a_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "KEPT", 10)
    flight = recorder(tmp_path, to_file=False)
    with flight:
        flight.error(SourceError("there is no camera"))  # no frame ever came: nothing to save
        for index in range(100):
            flight.note("put", index, 0)
    assert not list(tmp_path.iterdir())
    flight.error(SourceError("the camera is gone"))
    events = read_trace(tmp_path / "cache" / "last.jsonl").events
    assert len(events) == 10 and events[-1][3] == "the camera is gone" and events[0][2] == 91


def test_a_disk_that_fills_ends_the_trace_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: TraceWriter, events: Any) -> None:
        raise SinkError("cannot write --trace: No space left on device")

    flight = recorder(tmp_path)
    with flight:
        monkeypatch.setattr(TraceWriter, "write", full)
        flight.note("take", 0, 0)
    flight.note("take", 1, 0)
    assert "No space left on device" in caplog.text


# --- the same decisions --------------------------------------------------------------------------


def record(tmp_path: Path, seed: int, max_age_ms: float | None) -> tuple[Trace, list[int]]:
    """A live run with chance in it: frames that come, and are taken, whenever."""
    chance, now_ns, kept = random.Random(seed), 1000, []
    flight = FlightRecorder(
        tmp_path / f"t{seed}",
        {"max_age_ms": max_age_ms},
        last_words=tmp_path,
        clock_ns=lambda: now_ns,
    )
    max_age_ns = None if max_age_ms is None else int(max_age_ms * MS)
    with flight:
        handoff = Handoff(Policy.LATEST, on_drop=lambda reason: None, note=flight.note)
        index = 0
        for _ in range(300):
            now_ns += chance.randrange(8 * MS)
            if chance.random() < 0.6:
                index += chance.choice((1, 1, 1, 4))  # the source itself passes over some
                handoff.put(Frame(PIXELS, index, now_ns - chance.randrange(6 * MS)), 0)
            elif frame := handoff.take():
                now_ns += chance.randrange(6 * MS)
                stale = is_stale(frame.captured_ns, now_ns, max_age_ns)
                flight.note("stale" if stale else "kept", frame.index, now_ns)
                kept += [] if stale else [frame.index]
    return read_trace(tmp_path / f"t{seed}"), kept


def replayed(source: RecordedDropsSource) -> list[int]:
    source.open()
    frames = []
    while True:
        try:
            frame = source.read(1)
        except SourceEnded:
            source.close()
            return frames
        assert frame is not None
        frames.append(frame.index)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("max_age_ms", [None, 12.0])
def test_a_replay_keeps_the_very_frames_that_were_kept(
    tmp_path: Path, seed: int, max_age_ms: float | None
) -> None:
    trace, kept = record(tmp_path, seed, max_age_ms)
    source = RecordedDropsSource(FakeSource(2000), trace)
    assert replayed(source) == kept and len(kept) > 20
    assert source.verdict().startswith("decided as recorded")


def test_a_trace_whose_beginning_was_overwritten_is_repeated_from_there(tmp_path: Path) -> None:
    trace, kept = record(tmp_path, 1, 12.0)
    later = Trace(trace.header, trace.events[101:])
    source = RecordedDropsSource(FakeSource(2000), later)
    assert replayed(source) == kept[-len(replayed(RecordedDropsSource(FakeSource(2000), later))) :]
    source.verdict()


def test_another_decision_than_the_recorded_one_is_a_failed_verdict(tmp_path: Path) -> None:
    trace, _ = record(tmp_path, 2, 12.0)
    at = next(i for i, event in enumerate(trace.events) if event[0] == "kept")
    kind, time_ns, index = trace.events[at]
    trace.events[at] = (kind, time_ns + 100 * MS, index)
    source = RecordedDropsSource(FakeSource(2000), trace)
    replayed(source)
    with pytest.raises(VerdictError, match=f"frame {index} was kept, is stale"):
        source.verdict()


def test_another_age_limit_shows_what_would_have_been(tmp_path: Path) -> None:
    trace, kept = record(tmp_path, 3, 12.0)
    source = RecordedDropsSource(FakeSource(2000), trace, max_age_ms=6.0)
    assert set(replayed(source)) < set(kept)
    assert source.verdict().startswith("decided with another max_age_ms")


def test_a_clip_that_is_not_the_traces_is_told(tmp_path: Path) -> None:
    trace, _ = record(tmp_path, 4, None)
    with pytest.raises(SourceError, match="the trace has a frame"):
        replayed(RecordedDropsSource(FakeSource(10), trace))


# --- the application -----------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, Any]]:
    wanted = ("frame", "size", "detections")  # live, a frame has no place in a recording
    read = (json.loads(line) for line in path.read_text().splitlines())
    return [{name: line[name] for name in wanted} for line in read]


def test_a_live_run_that_dropped_is_repeated_frame_by_frame(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, trace = "pattern:?fps=2000&frames=1500&size=320x240", str(tmp_path / "t")
    common = ["--model", str(tiny_model), "--trace", trace]
    live, again = tmp_path / "live.jsonl", tmp_path / "again.jsonl"
    words = ["run", "--headless", "--source", source, *common, "--json", str(live)]
    assert main([*words, "--max-age-ms", "50"]) == 0
    with caplog.at_level("INFO"):
        words = ["replay", source, *common, "--json", str(again), "--expect", str(live)]
        assert main(words) == 0
    assert lines(again) == lines(live)
    assert "decided as recorded" in caplog.text

    out = tmp_path / "chrome.json"
    script = [sys.executable, "scripts/trace_to_perfetto.py", trace, str(out)]
    assert subprocess.run(script, cwd=ROOT, timeout=60).returncode == 0
    told = json.loads(out.read_text())["traceEvents"]
    spans = [event for event in told if event.get("cat") == "inference"]
    assert len([e for e in spans if e["ph"] == "b"]) == len(lines(live))
    for begin in (e for e in spans if e["ph"] == "b"):
        (end,) = (e for e in spans if e["ph"] == "e" and e["id"] == begin["id"])
        assert end["ts"] >= begin["ts"]
    assert sum(e["ph"] == "C" and e["name"] == "age" for e in told) == len(lines(live))
    assert subprocess.run([*script[:2], "none", "x"], cwd=ROOT, timeout=60).returncode == 2


def test_a_run_that_fails_leaves_its_last_events(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))
    words = ["run", "--headless", "--source", "pattern:?frames=50&fps=500", "--canary-s", "1"]

    def refuse(self: Any, detections: Any) -> None:
        from app.core.errors import DeviceError

        raise DeviceError("the GPU computes wrongly")

    monkeypatch.setattr("app.ops.selftest.GoldenFrameCheck.judge", refuse)
    assert main([*words, "--model", str(tiny_model)]) == 5
    events = read_trace(tmp_path / "cache" / "flight" / "last.jsonl").events
    assert events[-1][0] == "error" and "computes wrongly" in events[-1][3]


def test_the_trace_is_no_input_of_the_run_and_no_output_of_the_replay(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "t"
    trace.write_text('{"trace":1}\n')
    words = ["--model", str(tiny_model), "--trace", str(trace), "--json", str(trace)]
    assert main(["run", "--headless", "--source", "pattern:?frames=5", *words]) == 2
    assert main(["replay", "pattern:?frames=5", *words]) == 2
    assert trace.read_text() == '{"trace":1}\n'
    assert "would overwrite" in capsys.readouterr().err


def test_an_age_limit_without_a_trace_has_no_meaning_in_a_replay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["replay", "pattern:?frames=5", "--max-age-ms", "5"]) == 2
    assert "replay drops nothing" in capsys.readouterr().err
