"""Network streams give frames, and tell in time when they give none."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import cv2
import pytest
from clip_maker import FRAMES, picture
from stream_servers import RtspServer, free_port, http_server, silent_server, wait_until

from app.core.errors import SourceEnded, SourceError
from app.core.frame import bgr_pixels
from app.sources.base import SourceOptions
from app.sources.reconnect import Endurance
from app.sources.uri import make_source

both = pytest.mark.parametrize("isolate", [False, True])


def make(uri, *, isolate=True, realtime=False, limit_s=2.0):
    options = SourceOptions(open_timeout_s=limit_s, read_timeout_s=limit_s)
    return make_source(uri, realtime=realtime, isolate=isolate, options=options)


def take(source, count):
    frames = []
    deadline_s = time.monotonic() + 60
    while len(frames) < count and time.monotonic() < deadline_s:
        frame = source.read(0.5)
        if frame is not None:
            frames.append(frame)
    return frames


def until_fault(source):
    """(frames, error, seconds from the last frame to the error)"""
    frames, last_s = 0, time.monotonic()
    with pytest.raises(SourceError) as caught:
        while time.monotonic() - last_s < 30:
            if source.read(0.2) is not None:
                frames, last_s = frames + 1, time.monotonic()
    return frames, str(caught.value), time.monotonic() - last_s


@pytest.fixture(scope="module")
def jpegs():
    return [cv2.imencode(".jpg", picture(i))[1].tobytes() for i in range(20)]


@both
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_refused_port_is_told_at_once(isolate, scheme):
    source = make(f"{scheme}://127.0.0.1:{free_port()}/x", isolate=isolate, limit_s=10)
    with pytest.raises(SourceError, match="connection refused"):
        source.open()
    source.close()


@both
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_server_that_never_answers_times_out(isolate, scheme, capfd):
    with silent_server() as port:
        source = make(f"{scheme}://127.0.0.1:{port}/x", isolate=isolate, limit_s=1.5)
        started_s = time.monotonic()
        with pytest.raises(SourceError, match=r"did not answer for 1\.5 s"):
            source.open()
        assert 1.3 < time.monotonic() - started_s < 30
        source.close()
    assert capfd.readouterr() == ("", "")


@both
def test_mjpeg_over_http_is_live(jpegs, clip, isolate):
    with http_server(jpegs, clip) as port:
        source = make(f"http://127.0.0.1:{port}/live", isolate=isolate)
        info = source.open()
        assert (info.live, info.wh_px, info.frame_count) == (True, (160, 120), None)
        frames = take(source, 10)
        source.close()
    assert len(frames) == 10
    assert all(f.media_ns is None and f.wh_px == (160, 120) for f in frames)
    assert all(b.index > a.index for a, b in itertools.pairwise(frames))
    assert all(b.captured_ns > a.captured_ns for a, b in itertools.pairwise(frames))


@both
def test_mp4_over_http_is_a_recording(jpegs, clip, isolate, read_all):
    local = read_all(make_source(str(clip), realtime=False))
    with http_server(jpegs, clip) as port:
        source = make(f"http://127.0.0.1:{port}/clip.mp4", isolate=isolate)
        frames = read_all(source)
    assert [(f.index, f.media_ns) for f in frames] == [(f.index, f.media_ns) for f in local]
    assert all((a.pixels == b.pixels).all() for a, b in zip(frames, local, strict=True))


@both
def test_stream_that_goes_silent_is_a_fault(jpegs, clip, isolate):
    with http_server(jpegs, clip, then="silent") as port:
        source = make(f"http://127.0.0.1:{port}/live", isolate=isolate, limit_s=1.5)
        source.open()
        frames, error, silence_s = until_fault(source)
        source.close()
    assert frames > 0 and "no frame from http://127.0.0.1" in error and "for 1.5 s" in error
    assert 1.0 < silence_s < 6


@both
def test_stream_that_closes_is_a_fault(jpegs, clip, isolate):
    with http_server(jpegs, clip, then="close") as port:
        source = make(f"http://127.0.0.1:{port}/live", isolate=isolate)
        source.open()
        frames, error, _ = until_fault(source)
        source.close()
    assert frames > 0 and "closed the connection" in error


def test_http_recording_is_paced_when_realtime(jpegs, clip):
    with http_server(jpegs, clip) as port:
        source = make(f"http://127.0.0.1:{port}/clip.mp4", realtime=True)
        assert source.open().live
        frames = take(source, 11)
        source.close()
    assert frames[-1].captured_ns - frames[0].captured_ns > 450_000_000


@both
def test_rtsp_gives_live_frames(isolate, capfd):
    with RtspServer() as server:
        source = make(f"rtsp://127.0.0.1:{server.port}/x", isolate=isolate, limit_s=8)
        info = source.open()
        assert (info.live, info.wh_px, info.frame_count) == (True, (160, 120), None)
        frames = take(source, 15)
        source.close()
        assert wait_until(server.saw_teardown.is_set)
    assert len(frames) == 15
    for frame in frames:
        flat = bgr_pixels(frame)[:, :72].reshape(-1).astype(float)
        assert flat.std() < 12  # the flat field of the picture: decoded, not noise
    assert capfd.readouterr() == ("", "")


def test_rtsp_password_is_used_and_seen_nowhere():
    with RtspServer(user_password="me:hush") as server:
        source = make(f"rtsp://me:hush@127.0.0.1:{server.port}/x", limit_s=8)
        info = source.open()
        assert info.uri == f"rtsp://***@127.0.0.1:{server.port}/x"
        assert "hush" not in Path(f"/proc/{source.pid}/cmdline").read_text()
        assert take(source, 2)
        source.close()


def test_rtsp_without_its_password_does_not_open():
    with RtspServer(user_password="me:hush") as server:
        source = make(f"rtsp://127.0.0.1:{server.port}/x", limit_s=5)
        with pytest.raises(SourceError, match="password"):
            source.open()


def test_rtsp_camera_that_goes_away_is_a_fault():
    with RtspServer(frames=20) as server:
        source = make(f"rtsp://127.0.0.1:{server.port}/x", limit_s=5)
        source.open()
        frames, error, _ = until_fault(source)
        source.close()
    assert frames > 0 and "ended after" in error


def test_slow_reader_of_a_live_stream_gets_new_frames(jpegs, clip):
    with http_server(jpegs, clip) as port:
        source = make(f"http://127.0.0.1:{port}/live", limit_s=10)
        source.open()
        (first,) = take(source, 1)
        time.sleep(1.5)  # some 30 frames pass, fewer under load
        again_ns = time.monotonic_ns()
        frames = take(source, 3)
        source.close()
    # The first may be as old as the slots are; nothing has queued up behind it.
    assert frames[-1].captured_ns > again_ns
    assert frames[-1].index > first.index + 3, "none was left out"


def test_end_of_a_recording_over_http_is_an_end(jpegs, clip):
    with http_server(jpegs, clip) as port:
        source = make(f"http://127.0.0.1:{port}/clip.mp4")
        source.open()
        with pytest.raises(SourceEnded):
            for _ in range(FRAMES + 1):
                assert source.read(5.0) is not None
        source.close()


@pytest.mark.parametrize(("transport", "asked"), [("auto", "TCP"), ("tcp", "TCP"), ("udp", "UDP")])
def test_rtsp_asks_for_the_transport_that_is_wanted(transport, asked):
    with RtspServer() as server:
        uri = f"rtsp://127.0.0.1:{server.port}/x?rtsp_transport={transport}"
        source = make(uri, isolate=False, limit_s=2)
        with contextlib.suppress(SourceError):  # this server has no UDP
            source.open()
        source.close()
    first = server.transports[0]
    assert ("TCP" in first) == (asked == "TCP")


def test_lost_stream_is_live_again_and_keeps_counting():
    with RtspServer(frames=30) as server:  # each opening gives 30 frames and then the other end
        source = make_source(
            f"rtsp://127.0.0.1:{server.port}/x",
            realtime=True,
            options=SourceOptions(open_timeout_s=5, read_timeout_s=5),
            endurance=Endurance(open_s=5, silent_s=5, freeze_s=None),
        )
        source.open()
        frames = take(source, 40)
        source.close()
    indices = [frame.index for frame in frames]
    assert len(frames) == 40 and indices == sorted(set(indices)) and len(server.transports) >= 2


def test_server_that_is_away_is_asked_cheaply_and_found_again(jpegs, clip, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kw: started.append(1) or popen(*args, **kw)
    )
    with http_server(jpegs, clip, then="close") as port:
        source = make_source(
            f"http://127.0.0.1:{port}/live",
            realtime=True,
            endurance=Endurance(retry_s=0.1, freeze_s=None),
        )
        source.open()
        assert take(source, 3)
    assert wait_until(lambda: source.read(0.05) or source._attempts >= 12, 30)
    assert len(started) <= 5  # the first, one that lost its server, and every fifth of the others
    source.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_decoder_that_is_killed_or_stopped_is_replaced(jpegs, clip, monkeypatch, number):
    started = []
    popen = subprocess.Popen

    def noted(*args, **kw):
        started.append(popen(*args, **kw))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with http_server(jpegs, clip) as port:
        source = make_source(
            f"http://127.0.0.1:{port}/live",
            realtime=True,
            options=SourceOptions(read_timeout_s=2),
            # the second decoder may take long to start, under load
            endurance=Endurance(stall_s=0.5, silent_s=60, freeze_s=None),
        )
        source.open()
        before = take(source, 3)
        os.kill(started[0].pid, number)
        assert wait_until(lambda: source.read(0.2) is None and source.state != "live", 60)
        after = take(source, 3)
        source.close()
    assert after[0].index > before[-1].index and len(started) >= 2
    assert all(child.poll() is not None for child in started)
