"""JSON lines: the text of one frame, written in whole lines to a file, pipe or stdout."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..core.detections import Result, label_of
from ..core.errors import ReaderGone, SinkError, exhausted
from ..core.frame import SourceInfo
from ..core.masks import ObjectMask, pack_runs


def wall_offset_ns() -> int:
    """Unix time − monotonic time at this moment."""
    return time.time_ns() - time.monotonic_ns()


class ResultEncoder:
    """Formats results; one thread. Fields are only ever added.

    ``wall_offset_ns`` is asked for each line, as the wall clock of a device without a battery jumps
    when it first hears from the network.
    """

    def __init__(self, *, wall_offset_ns: Callable[[], int] = wall_offset_ns) -> None:
        self._wall_offset_ns = wall_offset_ns
        self._source = '"source": ""'
        self._labels: list[str] = []
        self._second, self._second_text = -1, ""

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Take what is the same in all lines."""
        self._source = f'"source": {quoted(source.uri)}'
        if source.name:
            self._source += f', "name": {quoted(source.name)}'
        self._labels = [quoted(label) for label in labels]

    def __call__(self, result: Result) -> str:
        """The frame's JSON object, without an end of line."""
        frame = result.frame
        media = "null" if frame.media_ns is None else str(round(frame.media_ns / 1e6, 3))
        width, height = frame.wh_px
        hidden = f', "hidden": {json.dumps(result.hidden)}' if result.hidden else ""
        lease = "" if result.lease is None else f', "lease": {result.lease}'
        names = ""  # of keypoints, once a line
        if result.detections.point_names:
            names = f', "keypoint_names": {quoted(result.detections.point_names)}'
        return (
            f'{{{self._source}, "frame": {frame.index}, "media_ms": {media}, '
            f'"time": "{self.time(frame.captured_ns)}", '
            f'"age_ms": {round(result.age_ns / 1e6, 2)}, "size": [{width}, {height}], '
            f'"detections": [{self._detections(result)}]{names}{hidden}{lease}}}'
        )

    def time(self, captured_ns: int) -> str:
        """When the frame was captured: UTC, ISO 8601, milliseconds."""
        second, ms = divmod((captured_ns + self._wall_offset_ns()) // 1_000_000, 1000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{ms:03}Z"

    def _detections(self, result: Result) -> str:
        detections, zones = result.detections, result.zones
        boxes = detections.xyxy.tolist()  # Python floats: NumPy's own are slow to format
        ids, scores = detections.class_ids.tolist(), detections.scores.tolist()
        texts = [
            f'{{"label": {self._label(class_id)}, "class_id": {class_id}, '
            f'"score": {round(score, 4)}, '
            f'"box": [{round(x0, 2)}, {round(y0, 2)}, {round(x1, 2)}, {round(y1, 2)}]}}'
            for class_id, score, (x0, y0, x1, y1) in zip(ids, scores, boxes, strict=True)
        ]
        if not detections.bare:
            _add_more(texts, result)
        if detections.track_ids is not None:
            for i, track_id in enumerate(detections.track_ids.tolist()):
                if track_id >= 0:
                    texts[i] = f'{texts[i][:-1]}, "track_id": {track_id}}}'
        for i, names in enumerate(zones):
            if names:
                texts[i] = f'{texts[i][:-1]}, "zones": [{", ".join(map(quoted, names))}]}}'
        return ", ".join(texts)

    def _label(self, class_id: int) -> str:
        if 0 <= class_id < len(self._labels):
            return self._labels[class_id]
        return quoted(label_of((), class_id))


def _add_more(texts: list[str], result: Result) -> None:
    """What a detection has beside its box, to the text of each."""
    detections, wh_px = result.detections, result.frame.wh_px
    for name, places in (("keypoints", detections.keypoints), ("polygon", detections.polygons)):
        for i, points in enumerate([] if places is None else places.tolist()):
            pairs = ", ".join(f"[{round(x, 2)}, {round(y, 2)}]" for x, y in points)
            texts[i] = f'{texts[i][:-1]}, "{name}": [{pairs}]}}'
    if detections.keypoint_scores is not None:
        for i, sure in enumerate(detections.keypoint_scores.tolist()):
            told = ", ".join(str(round(score, 3)) for score in sure)
            texts[i] = f'{texts[i][:-1]}, "keypoint_scores": [{told}]}}'
    if detections.masks is not None:
        for i, mask in enumerate(detections.masks):
            texts[i] = f'{texts[i][:-1]}, "segmentation": {_segmentation(mask, wh_px)}}}'


def _segmentation(mask: ObjectMask, wh_px: tuple[int, int]) -> str:
    """As COCO has it: lists x, y, x, y … of outlines, or the run lengths of the whole frame."""
    if mask.outlined:
        flat = ([round(v, 1) for v in each.ravel().tolist()] for each in mask.outlines)
        return f"[{', '.join(map(str, flat))}]"
    width, height = wh_px
    # no character of COCO's needs to be escaped but one
    counts = pack_runs(mask.runs(wh_px)).replace("\\", "\\\\")
    return f'{{"size": [{height}, {width}], "counts": "{counts}"}}'


def quoted(value: object) -> str:
    """JSON in readable UTF-8; escaped where a file name is no valid Unicode."""
    quoted = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        quoted.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return quoted


_FULL = (errno.ENOSPC, errno.EDQUOT)


def open_output(path: Path, *, truncate: bool, overwrite: bool = True) -> io.FileIO:
    """Open for writing, unbuffered, made where missing; raises SinkError with the cure.

    A regular file is this run's until it is closed: no other run writes to it. Unless
    ``overwrite``, it must be new or empty.
    """
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        out = io.FileIO(os.open(path, flags, 0o666), "wb")
        status = os.fstat(out.fileno())
        if stat.S_ISREG(status.st_mode):
            _lock(out, path)
            if status.st_size and not overwrite:
                out.close()
                raise SinkError(exists(path))
            if truncate:
                os.ftruncate(out.fileno(), 0)
    except OSError as error:
        raise unwritable(f"cannot write {path}", error, path) from error
    return out


def _lock(out: io.FileIO, path: Path) -> None:
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        out.close()
        raise SinkError(
            f"cannot write {path}: another run writes to it; name another file"
        ) from error
    except OSError:  # a network disk without locks
        pass


def exists(path: Path) -> str:
    """What is said of a file that is not replaced."""
    return (
        f"{path} exists, and nothing is replaced unasked; name another file, or add --overwrite "
        "(overwrite = true)"
    )


def holds_something(path: Path) -> bool:
    """Whether it is a regular file with something in it, which a run would replace."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def cure(error: OSError, path: Path | None = None) -> str:
    """What went wrong and what to do, as the second half of a message. No path: stdout."""
    folder = path.parent if path is not None else Path()
    if error.errno in _FULL:
        return "the disk is full (or your quota is); free some space or write to another disk"
    if error.errno == errno.EFBIG:
        return "the file has reached the size limit; raise it (ulimit -f, or the file system's)"
    if error.errno == errno.ENOENT and path is not None:
        return f"the directory {folder} does not exist; create it or name another file"
    if error.errno == errno.ENOTDIR and path is not None:
        return f"{folder} is not a directory; name another file"
    if error.errno == errno.EISDIR and path is not None:
        return f"it is a directory; name a file in it, such as {path / 'kestrel.out'}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission; choose a directory that you may write to, not {folder.absolute()}"
    if error.errno == errno.EROFS:
        return "the file system is mounted read-only; write to another one"
    if none_left := exhausted(error):
        return str(none_left)
    return f"{error.strerror or error}; check the disk and the path, or name another file"


def unwritable(what: str, error: OSError, path: Path | None = None, end: str = "") -> SinkError:
    """The error that says ``what`` failed, why, the cure, and ``end``. No path: stdout."""
    return SinkError(f"{what}: {cure(error, path)}{end}", disk_full=error.errno in _FULL)


STDOUT = "-"


class LinesFile:
    """``target`` is a path (replaced if it exists and ``overwrite``) or ``-``. One thread.

    Each line is one write past all buffers: a reader sees it at once, a crash loses none, and for
    a few hundred bytes a frame that costs less than keeping a buffer fresh would. Opened as often
    as it has users, and closed with the last of them. ``append``: what is there stays.
    """

    def __init__(self, target: str, *, overwrite: bool = True, append: bool = False) -> None:
        self._path = None if target == STDOUT else Path(target)
        self._overwrite, self._append = overwrite or append, append
        self._out: io.FileIO | None = None
        self._users = 0

    def open(self) -> None:
        """Raises SinkError with the cure."""
        if self._out is None:
            self._out = (
                _open_stdout()
                if self._path is None
                else open_output(self._path, truncate=not self._append, overwrite=self._overwrite)
            )
            if self._append and self._out.seekable():
                self._out.seek(0, os.SEEK_END)
            self._append = self._overwrite = True  # of this run, whose sources may be exchanged
        self._users += 1

    def write(self, text: str) -> None:
        """One line; raises SinkError when the disk is full, ReaderGone when nobody reads."""
        if self._out is None:
            return
        line = f"{text}\n".encode()
        written = 0
        try:
            while written < len(line):
                n = self._out.write(line[written:])
                if n is None:  # somebody made the pipe or terminal non-blocking: wait for room
                    select.select([], [self._out], [], 1.0)
                else:
                    written += n
        except BrokenPipeError:
            self._leave()
            raise ReaderGone(f"nobody reads {self._name} any more") from None
        except OSError as error:
            _cut(self._out, written)
            self._leave()
            what, end = f"cannot write JSON lines to {self._name}", "; the lines before are whole"
            raise unwritable(what, error, self._path, end) from error

    def close(self) -> None:
        self._users -= 1
        if self._out is not None and self._users <= 0:
            out, self._out = self._out, None
            try:
                out.close()
            except OSError as error:
                raise unwritable(f"cannot finish {self._name}", error, self._path) from error

    @property
    def _name(self) -> str:
        return "standard output" if self._path is None else str(self._path)

    def _leave(self) -> None:
        """Let go after a fault, so that the interpreter's own flush at exit does not fail again."""
        if self._out is not None and self._path is None:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._out.fileno())
                os.close(nowhere)
        self._users = 0
        with suppress(SinkError):
            self.close()


def _open_stdout() -> io.FileIO:
    try:
        if sys.stdout is None:
            raise OSError("closed")
        sys.stdout.flush()
        return io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
    except (OSError, ValueError) as error:
        raise SinkError(
            f"cannot write JSON lines to standard output ({error}); name a file instead of -"
        ) from error


def _cut(out: io.FileIO, extra: int) -> None:
    """Take back the ``extra`` bytes of half a line, unless somebody has written behind them."""
    with suppress(OSError):
        status = os.fstat(out.fileno())
        end = os.lseek(out.fileno(), 0, os.SEEK_CUR)
        if extra and stat.S_ISREG(status.st_mode) and status.st_size == end:
            os.ftruncate(out.fileno(), end - extra)
            os.lseek(out.fileno(), end - extra, os.SEEK_SET)


class JsonLinesSink:
    """One line a frame to ``target``, a path or ``-``, or a file shared with other sources.

    ``wall_offset_ns``: see ResultEncoder.
    """

    def __init__(
        self, target: str | LinesFile, *, wall_offset_ns: Callable[[], int] = wall_offset_ns
    ) -> None:
        self._file = LinesFile(target) if isinstance(target, str) else target
        self._line = ResultEncoder(wall_offset_ns=wall_offset_ns)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self.update(source, labels)
        self._file.open()

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._line.open(source, labels)

    def emit(self, result: Result) -> None:
        self._file.write(self._line(result))

    def close(self) -> None:
        self._file.close()
