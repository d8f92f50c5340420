"""A decoder in its own process gives the same frames, and can die without harm."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_maker import FRAMES
from stream_servers import wait_until

from app.core.errors import SourceEnded, SourceError
from app.sources.base import SourceOptions
from app.sources.frame_ipc import SLOTS, Channel, Closed, SlotReader, SlotWriter
from app.sources.uri import make_source


def isolated(path, **options):
    return make_source(str(path), realtime=False, isolate=True, options=SourceOptions(**options))


def read_to_fault(source):
    with pytest.raises(SourceError) as caught:
        for _ in range(1000):
            source.read(0.2)
    return str(caught.value)


def gone(pid):
    """Ended; a zombie whose parent is somebody else counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def at_rest(pid):
    """No thread of it has anything to do: it waits for somebody else."""
    states = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state.rpartition(")")[2].split()[0] == "S" for state in states)


def test_frames_are_the_same_bit_for_bit(clip, read_all):
    inside, outside = read_all(make_source(str(clip), realtime=False)), read_all(isolated(clip))
    assert len(inside) == len(outside) == FRAMES
    for a, b in zip(inside, outside, strict=True):
        assert (a.index, a.media_ns) == (b.index, b.media_ns)
        assert np.array_equal(a.pixels, b.pixels) and b.pixels.flags.c_contiguous


def test_same_description_but_for_the_process(clip):
    infos = []
    for isolate in (False, True):
        source = make_source(str(clip), realtime=False, isolate=isolate)
        infos.append(source.open())
        source.close()
    assert infos[0].uri == infos[1].uri == str(clip)
    assert infos[0].wh_px == infos[1].wh_px
    assert infos[1].detail == infos[0].detail + ", in its own process"


def test_frames_of_growing_and_shrinking_size(tmp_path, read_all):
    sizes = [(8, 8), (8, 8), (90, 50), (20, 10), (400, 300), (401, 300), (8, 8), (500, 500)]
    for i, (width, height) in enumerate(sizes):
        rng = np.random.default_rng(i)
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 255, (height, width, 3), np.uint8))
    inside = read_all(make_source(str(tmp_path), realtime=False))
    outside = read_all(isolated(tmp_path))
    assert [f.wh_px for f in outside] == sizes
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(inside, outside, strict=True))


def test_slow_reader_of_a_recording_loses_nothing(clip):
    source = isolated(clip)
    source.open()
    indices = []
    with pytest.raises(SourceEnded):
        while True:
            indices.append(source.read(5.0).index)
            if len(indices) in (1, 20):
                time.sleep(0.3)
    source.close()
    assert indices == list(range(FRAMES))


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_decoder_that_dies_is_a_source_error(clip, number):
    source = isolated(clip)
    source.open()
    assert source.read(5.0) is not None
    os.kill(source.pid, number)
    message = read_to_fault(source)
    assert f"the decoder of {clip} died ({number.name})" in message and "broken" in message
    source.close()


def test_frames_sent_before_the_death_are_delivered(clip):
    source = isolated(clip)
    source.open()
    assert source.read(5.0).index == 0
    assert wait_until(lambda: at_rest(source.pid), 60)  # its slots are full, and it waits
    os.kill(source.pid, signal.SIGABRT)
    assert [source.read(5.0).index for _ in range(SLOTS)] == [1, 2, 3, 4]
    assert "died" in read_to_fault(source)
    source.close()


def test_decoder_that_hangs_is_a_source_error_in_time(clip):
    source = isolated(clip, read_timeout_s=0.5)
    source.open()
    pid = source.pid
    os.kill(pid, signal.SIGSTOP)
    started_s = time.monotonic()
    assert "no frame from" in read_to_fault(source)
    assert time.monotonic() - started_s < 30
    source.close()
    assert gone(pid)


def test_read_returns_within_its_timeout(clip):
    source = isolated(clip)
    source.open()
    os.kill(source.pid, signal.SIGSTOP)
    while source.read(0.05) is not None:
        pass
    started_s = time.monotonic()
    assert source.read(0.1) is None
    assert 0.05 < time.monotonic() - started_s < 10
    source.close()


def test_fault_of_the_source_keeps_its_text(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(SourceError, match=r"a\.mp4 is empty"):
        isolated(tmp_path / "a.mp4").open()


def test_close_leaves_no_process_and_no_descriptor(clip):
    def once(take):
        source = isolated(clip)
        source.open()
        pid = source.pid
        for _ in range(take):
            source.read(5.0)
        source.close()
        assert not Path(f"/proc/{pid}").exists()  # nor a zombie
        source.close()

    once(1)
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    once(0)
    once(3)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_stopped_decoder_does_not_hold_up_the_close(clip):
    source = isolated(clip)
    source.open()
    pid = source.pid
    os.kill(pid, signal.SIGSTOP)
    source.close()
    assert gone(pid)


def test_ctrl_c_and_a_supervisors_stop_leave_the_decoder_to_its_parent(clip):
    source = isolated(clip)
    source.open()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(source.pid, number)
    for i in range(10):
        assert source.read(5.0).index == i
    source.close()


@pytest.mark.parametrize("stopped", [False, True])
def test_decoder_dies_with_its_parent(clip, stopped):
    program = (
        "import os, signal, sys, time\n"
        "from app.sources.uri import make_source\n"
        f"source = make_source({str(clip)!r}, realtime=False, isolate=True)\n"
        "source.open()\n"
        f"{'os.kill(source.pid, signal.SIGSTOP)' if stopped else ''}\n"
        "print(source.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    assert wait_until(lambda: gone(pid))


def test_works_from_any_folder_even_one_with_its_own_app(clip, tmp_path, monkeypatch, read_all):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/__init__.py").write_text("raise SystemExit('the wrong app')")
    monkeypatch.chdir(tmp_path)
    assert len(read_all(isolated(clip), limit=2)) == 2


def test_channel_tells_time_outs_from_a_closed_end():
    ours, theirs = (Channel(s) for s in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    assert ours.receive(0.01) is None
    theirs.send({"kind": "x", "text": "ä\n"})
    assert ours.receive(1.0) == {"kind": "x", "text": "ä\n"}
    theirs.close()
    with pytest.raises(Closed):
        ours.receive(1.0)
    with pytest.raises(Closed):
        ours.send({})
    ours.close()


def test_slots_in_use_are_never_written_again():
    fd = os.memfd_create("test")
    writer, reader = SlotWriter(fd), SlotReader(fd)
    frames = [np.full((4, 4, 3), i, np.uint8) for i in range(SLOTS)]
    offsets = [writer.put(frame.data) for frame in frames]
    assert writer.put(frames[0].data) is None
    large = writer.put(np.full((90, 90, 3), 99, np.uint8).data)  # the layout grows meanwhile
    for frame, offset in zip(frames, offsets, strict=True):
        out = np.empty_like(frame)
        reader.copy_to(out, offset)
        assert np.array_equal(out, frame)
        writer.give_back(offset)
    out = np.empty((90, 90, 3), np.uint8)
    reader.copy_to(out, large)
    assert (out == 99).all()
    assert large not in [writer.put(frames[0].data) for _ in range(SLOTS - 1)]
    assert writer.put(frames[0].data) is None
    reader.close()
    os.close(fd)


@pytest.mark.parametrize(
    ("where", "name", "number"),
    [
        (socket, "socketpair", errno.EMFILE),
        (os, "memfd_create", errno.EMFILE),
        (subprocess, "Popen", errno.ENOMEM),
    ],
)
def test_decoder_that_cannot_be_started_is_told_and_leaks_nothing(
    clip, monkeypatch, where, name, number
):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    before = len(list(Path("/proc/self/fd").iterdir()))
    source = isolated(clip)
    monkeypatch.setattr(where, name, refuse)
    with pytest.raises(SourceError, match=rf"cannot start the decoder of .*{os.strerror(number)}"):
        source.open()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    source.close()
