"""Decoding by hardware, once it has shown the processor's own pictures; else the processor goes on.

A decoder that is asked for gets the same packets as the processor's for a while, on a thread of its
own. Its first pictures must be the same, and come in time: one without its kernel module takes
packets and never gives a picture, and others do not return. Then it takes over, in mid-stream.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, process_time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceEnded, SourceError
from ..core.frame import SourceInfo, bgr_pixels
from ..core.interfaces import FrameSource
from .base import load_av, load_cv2

log = logging.getLogger(__name__)


class Way(NamedTuple):
    """How FFmpeg is told: a device for its own decoder, or a decoder by the end of its name."""

    device: str | None
    decoder: str | None
    nodes: str  # below /dev, of which there is one where the hardware is


WAYS = {
    "vaapi": Way("vaapi", None, "dri/renderD*"),
    "nvdec": Way("cuda", None, "nvidia[0-9]*"),
    "qsv": Way(None, "_qsv", "dri/renderD*"),
    "v4l2m2m": Way(None, "_v4l2m2m", "video*"),
}
JETSON = "nvv4l2"  # through GStreamer
HOWS = ("auto", "cpu", *WAYS, JETSON)
PROVED = 12  # pictures that are compared
SMALL_WH = (160, 90)
SAME_MEAN, SAME_MOST = 2.0, 40.0  # of 255, of a small picture's values
DEADLINE_S = 3.0  # for all of its answers together, and for its first picture after the processor's
SILENT = 64  # packets without a picture
WORTH = 0.8  # of the processor's time; "auto" leaves dearer ones


class Unfit(Exception):
    """Why a decoder is not used."""


def small(picture: Any) -> NDArray[np.float32]:
    """An av.VideoFrame in any format, as (h, w, 3) of RGB."""
    width, height = SMALL_WH
    scaled = picture.reformat(width=width, height=height, format="rgb24")
    return np.asarray(scaled.to_ndarray(), np.float32)


def check_same(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    """Raise Unfit for pictures that differ by more than rounding."""
    difference = np.abs(one - other)
    mean, most = float(difference.mean()), float(difference.max())
    if mean > SAME_MEAN or most > SAME_MOST:
        raise Unfit(f"its picture differs from the processor's by {mean:.0f} to {most:.0f} of 255")


def open_hardware(codec: Any, name: str) -> Any:
    """A codec context like ``codec``; raises Unfit, or what FFmpeg says."""
    av, way = load_av(), WAYS[name]
    if way.device is None:
        made = av.CodecContext.create(f"{codec.codec.name}{way.decoder}", "r")
    else:
        if way.device not in av.codec.hwaccel.hwdevices_available():
            raise Unfit(f"PyAV's FFmpeg was built without {way.device}")
        accel = av.codec.hwaccel.HWAccel(way.device, allow_software_fallback=False)
        made = av.CodecContext.create(codec.codec.name, "r", hwaccel=accel)
        if not made.is_hwaccel:  # PyAV says nothing, and would decode on the processor
            raise Unfit(f"{way.device} does not decode {codec.codec.name}")
    made.extradata, made.options = codec.extradata, dict(codec.options)
    made.width, made.height = codec.width, codec.height
    return made


class Contender:
    """One decoder on a thread of its own, as long as nobody knows whether it returns."""

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self.name = name
        self.waiting: dict[int, Any] = {}  # its pictures, by time, that are not compared yet
        self.seen = self.same = 0
        self.cpu_s, self.left_s = 0.0, DEADLINE_S
        self._to: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._from: queue.SimpleQueue[tuple[Any, float] | BaseException] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=f"decoder {name}", daemon=True).start()
        try:
            self.codec: Any = self._do(make)
        except Unfit:
            self.end()
            raise

    def feed(self, packet: Any) -> None:
        """Decode it; raises Unfit."""
        for picture in self._do(lambda: self.codec.decode(packet)):
            self.seen += 1
            self.waiting[picture.pts if picture.pts is not None else -self.seen] = picture

    def compare(self, picture: Any) -> None:
        """With the processor's, if it has given that one; raises Unfit."""
        own = self.waiting.pop(picture.pts, None)
        if own is not None:
            if getattr(own, "rotation", 0) != getattr(picture, "rotation", 0):
                raise Unfit("it does not say how the picture is turned")
            check_same(small(own), small(picture))
            self.same += 1

    def end(self) -> None:
        """The thread ends; the decoder is the caller's."""
        self._to.put(None)

    def _do(self, what: Callable[[], Any]) -> Any:
        began_s = monotonic()
        self._to.put(what)
        try:
            answer = self._from.get(timeout=max(0.001, self.left_s))
        except queue.Empty:
            raise Unfit(f"it did not answer within {DEADLINE_S:g} s") from None
        self.left_s -= monotonic() - began_s
        if isinstance(answer, Unfit):
            raise answer
        if isinstance(answer, Exception):
            raise Unfit(getattr(answer, "strerror", None) or str(answer)) from answer
        assert isinstance(answer, tuple)
        if self.seen:  # before its first picture it starts
            self.cpu_s += answer[1]
        return answer[0]

    def _run(self) -> None:
        while (what := self._to.get()) is not None:
            began_s = process_time()
            try:
                self._from.put((what(), process_time() - began_s))
            except Exception as error:
                self._from.put(error)


class ChosenDecoder:
    """Decodes a stream's packets as its ``codec`` does, by ``how`` where that proves itself."""

    def __init__(self, codec: Any, how: str, *, label: str, dev: Path = Path("/dev")) -> None:
        self._cpu, self._how, self._label = codec, how, label
        self._hardware: Any = None
        self._name = ""
        self._last: int | None = None  # time of the picture given last
        self._given = self._silent = 0
        self._cpu_s, self._first_s = 0.0, 0.0
        self._unfit: list[str] = []
        self._trials: list[Contender] = []
        self._proved: list[Contender] = []
        for name in WAYS if how == "auto" else (how,):
            if how == "auto" and not any(dev.glob(WAYS[name].nodes)):
                self._unfit.append(f"{name}: there is no {dev}/{WAYS[name].nodes}")
                continue
            try:
                self._trials.append(Contender(name, lambda name=name: open_hardware(codec, name)))  # type: ignore[misc]
            except Unfit as error:
                self._unfit.append(f"{name}: {error}")
        if not self._trials:
            self._stay()

    @property
    def is_plain(self) -> bool:
        """Whether the processor decodes, and will go on to."""
        return self._hardware is None and not self._trials and not self._proved

    def decode(self, packet: Any = None) -> list[Any]:
        """See av.CodecContext."""
        if self._hardware is not None:
            return self._by_hardware(packet)
        if self.is_plain or packet is None:
            return list(self._cpu.decode(packet))
        for trial in tuple(self._trials):
            self._guard(trial, lambda trial=trial: trial.feed(packet))  # type: ignore[misc]
        began_s = process_time()
        pictures: list[Any] = list(self._cpu.decode(packet))
        if any(trial.seen for trial in self._trials):
            self._cpu_s += process_time() - began_s
        for picture in pictures:
            self._given += 1
            self._first_s = self._first_s or monotonic()
            self._last = picture.pts
            for trial in tuple(self._trials):
                self._guard(trial, lambda trial=trial, p=picture: trial.compare(p))  # type: ignore[misc]
        return pictures + self._judge()

    def flush_buffers(self) -> None:
        """See av.CodecContext."""
        self._last = None
        self._cpu.flush_buffers()
        for trial in (*self._trials, *self._proved):
            trial.waiting.clear()
            trial.codec.flush_buffers()
        if self._hardware is not None:
            self._hardware.flush_buffers()

    def _guard(self, trial: Contender, step: Callable[[], None]) -> None:
        try:
            step()
            late = self._given and monotonic() - self._first_s > DEADLINE_S
            if self._given - trial.seen > SILENT or (late and not trial.seen):
                raise Unfit(f"it gave {trial.seen} pictures where the processor gave {self._given}")
            if self._given - trial.same > PROVED + SILENT:
                raise Unfit("its pictures have other times")
        except Unfit as error:
            self._unfit.append(f"{trial.name}: {error}")
            self._trials.remove(trial)
            trial.end()

    def _judge(self) -> list[Any]:
        """Take the best, once all are judged; what it has given beyond the processor's pictures."""
        self._proved += [each for each in self._trials if each.same >= PROVED]
        self._trials = [each for each in self._trials if each.same < PROVED]
        if self._trials:
            return []
        best = min(self._proved, key=lambda each: each.cpu_s, default=None)
        for each in self._proved:
            each.end()
        self._proved.clear()
        if best is not None and self._how == "auto" and best.cpu_s > WORTH * self._cpu_s:
            self._unfit.append(f"{best.name}: it takes as much of the processor's time")
            best = None
        if best is None:
            self._stay()
            return []
        self._hardware, self._name = best.codec, best.name
        share = best.cpu_s / self._cpu_s if self._cpu_s else 0.0
        log.info(
            "%s: %s decodes from here on; %d pictures were the processor's, for %.2f of its time",
            *(self._label, self._name, best.same, share),
        )
        ahead = sorted(pts for pts in best.waiting if self._last is None or pts > self._last)
        self._last = ahead[-1] if ahead else self._last
        return [best.waiting[pts] for pts in ahead]

    def _by_hardware(self, packet: Any) -> list[Any]:
        if self._silent > SILENT and packet is not None and packet.is_keyframe:
            self._unfit = [f"{self._name}: it gave no picture for {self._silent} packets"]
            self._hardware = None
            self._stay()
            self._cpu.flush_buffers()
            return list(self._cpu.decode(packet))
        self._silent += 1
        pictures = list(self._hardware.decode(packet))
        if self._last is not None:
            pictures = [each for each in pictures if each.pts is None or each.pts > self._last]
        if pictures:
            self._silent, self._last = 0, None  # from here on they come in order
        return pictures

    def _stay(self) -> None:
        level = logging.INFO if self._how == "auto" else logging.WARNING
        log.log(level, "%s: the processor decodes; not %s", self._label, "; not ".join(self._unfit))


def jetson_pipeline(where: str) -> str:
    """For an RTSP address or a file: GStreamer's, which ends in what ``gst:`` takes."""
    quoted = '"' + where.replace("\\", "\\\\").replace('"', '\\"') + '"'
    begin = "filesrc" if "://" not in where else "rtspsrc latency=100"
    decode = "parsebin ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=BGRx"
    return f"{begin} location={quoted} ! {decode}"


class Preferred:
    """``first``, if it opens and ``proof`` shows a picture as ``known`` does; else ``other``."""

    def __init__(
        self,
        first: FrameSource,
        other: FrameSource,
        *,
        label: str,
        proof: FrameSource,
        known: FrameSource,
    ) -> None:
        self._first, self._other, self._label = first, other, label
        self._proof, self._known = proof, known
        self._inner = first

    def open(self) -> SourceInfo:
        """See FrameSource."""
        try:
            self._prove()
            return self._first.open()
        except (SourceError, Unfit) as error:
            self._first.close()
            log.warning("%s: the processor decodes; not %s: %s", self._label, JETSON, error)
        self._inner = self._other
        return self._inner.open()

    def _prove(self) -> None:
        """The first picture that comes must be among the first of the known ones."""
        proof, known = self._proof, self._known
        try:
            proof.open()
            until_s = monotonic() + DEADLINE_S
            while (frame := proof.read(0.1)) is None:
                if monotonic() > until_s:
                    raise Unfit(f"it gave no picture within {DEADLINE_S:g} s")
            one = _small_bgr(bgr_pixels(frame))
            known.open()
            faults: list[Unfit] = []
            while len(faults) < 4 * PROVED and (shown := known.read(DEADLINE_S)) is not None:
                try:
                    return check_same(one, _small_bgr(bgr_pixels(shown)))
                except Unfit as fault:
                    faults.append(fault)
            raise faults[0] if faults else Unfit("nothing to compare with")
        except SourceEnded:
            raise Unfit("it gave no picture") from None
        finally:
            proof.close()
            known.close()

    def read(self, timeout_s: float) -> Any:
        """See FrameSource."""
        return self._inner.read(timeout_s)

    def close(self) -> None:
        """See FrameSource."""
        self._inner.close()


def _small_bgr(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    cv2 = load_cv2()
    return np.asarray(cv2.resize(pixels, SMALL_WH, interpolation=cv2.INTER_AREA), np.float32)
