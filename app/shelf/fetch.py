"""How do weights come onto the shelf? From a mirror folder or by HTTP; verified, then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import ModelError
from app.model_spec import ModelSpec
from app.shelf.manifest import Model

if TYPE_CHECKING:
    from http.client import HTTPResponse

MIRROR_ENV = "KESTREL_MODEL_MIRROR"
_TIMEOUT_S = 20.0
_CHUNK = 1 << 16
_ATTEMPTS = 5  # each must bring something, or it was the last

log = logging.getLogger(__name__)


def fetch_weights(model: Model) -> None:
    """Put the weights beside the manifest, unless they are there and right already.

    A broken download is kept as FILE.part and resumed. Two processes take turns. ModelError names
    the cure.
    """
    spec, part = model.spec, model.weights.with_name(model.spec.file + ".part")
    with _turn(model.weights.parent):
        if model.weights.is_file() and sha256_fault(spec, model.weights) is None:
            return
        mirrored = mirror_file(spec)
        if mirrored is not None:
            _copy(mirrored, part)
        else:
            _resume(model, part)
        if fault := sha256_fault(spec, part):
            part.unlink()
            raise ModelError(
                f"{mirrored or spec.url} is not what the manifest of {spec.name} describes: "
                f"{fault}. A proxy's page or a changed file? Put the right {spec.file} into "
                f"{model.weights.parent}, or correct `sha256` in {model.manifest}"
            )
        with _writing(part):
            part.replace(model.weights)


def mirror_file(spec: ModelSpec) -> Path | None:
    """Where KESTREL_MODEL_MIRROR, if set, should hold the weights."""
    mirror = os.environ.get(MIRROR_ENV)
    return Path(mirror).expanduser() / spec.file if mirror else None


def sha256_fault(spec: ModelSpec, path: Path) -> str | None:
    """How the file differs from the manifest; None if it does not or none is given to compare."""
    if spec.sha256 is None:
        return None
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as fault:
        raise ModelError(f"cannot read {path}: {fault.strerror}; make it readable") from fault
    seen = digest.hexdigest()
    return None if seen == spec.sha256 else f"its sha256 is {seen}, not {spec.sha256}"


def _resume(model: Model, part: Path) -> None:
    if part.is_file() and model.spec.sha256 is None:
        part.unlink()  # nothing would tell whether its start is the right one
    resumed = part.is_file()
    if resumed and sha256_fault(model.spec, part) is None:
        return  # complete; only the rename was missing
    _download(model, part)
    if resumed and sha256_fault(model.spec, part) is not None:
        part.unlink()  # what lay there was the start of something else
        _download(model, part)


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise ModelError(
            f"{MIRROR_ENV} is set, and {source} is not there: put the file there, or unset "
            f"{MIRROR_ENV} to fetch from the network"
        )
    with _writing(part):
        shutil.copyfile(source, part)


def _download(model: Model, part: Path) -> None:
    url = model.spec.url
    if url is None:
        raise ModelError(
            f"weights {model.weights} are missing and {model.manifest} gives no `url`: "
            f"put the file there, or into a folder named by {MIRROR_ENV}"
        )
    if not url.startswith(("https://", "http://")):
        raise ModelError(f"manifest {model.manifest}: `url` is {url!r}; only http and https work")
    for _ in range(_ATTEMPTS):
        before = _size(part)
        if _get(model, url, part):
            return
        if _size(part) <= before:
            break
        log.info("model %s: connection lost after %d bytes, resuming", model.ref, _size(part))
    raise ModelError(
        f"{url} broke off after {_size(part)} bytes; they are kept: "
        f"`python -m app models fetch {model.ref}` goes on from there"
    )


def _get(model: Model, url: str, part: Path) -> bool:
    """Append to ``part`` what is missing. False if the connection broke on the way."""
    # here, as every start of a run would pay for them
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    offset = _size(part)
    headers = {"User-Agent": "kestrel", **({"Range": f"bytes={offset}-"} if offset else {})}
    try:
        reply = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_S)
    except HTTPError as fault:
        fault.close()
        if fault.code == 416 and offset:  # more here than there: not the same file
            part.unlink()
            return _get(model, url, part)
        raise _unreachable(model, url, f"the server answers {fault.code} {fault.reason}") from fault
    except (OSError, HTTPException, ValueError) as fault:
        reason = getattr(fault, "reason", fault)
        raise _unreachable(model, url, str(reason)) from fault
    with reply:
        if offset and not reply.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            if reply.status == 206:
                part.unlink()
                return _get(model, url, part)
            offset = 0  # the server sends everything
        length = reply.headers.get("Content-Length") or ""
        total = offset + int(length) if length.isdigit() else None
        with _writing(part), part.open("ab" if offset else "wb") as out:
            return _receive(reply, out, total, _Progress(model.spec.file, offset, total))


def _receive(reply: HTTPResponse, out: Any, total: int | None, progress: _Progress) -> bool:
    from http.client import HTTPException

    while True:
        try:
            chunk = reply.read1(_CHUNK)
        except (OSError, HTTPException):
            return False
        if not chunk:
            progress.end()
            return total is None or out.tell() >= total
        out.write(chunk)
        progress.show(out.tell())


class _Progress:
    """A line on the terminal, renewed ten times a second; nothing elsewhere."""

    def __init__(self, file: str, start: int, total: int | None) -> None:
        self._file, self._total, self._shown_s = file, total, 0.0
        self._live = sys.stderr.isatty()

    def show(self, done: int) -> None:
        if self._live and time.monotonic() - self._shown_s > 0.1:
            self._shown_s = time.monotonic()
            share = f" of {self._total / 1e6:.1f}" if self._total else ""
            sys.stderr.write(f"\r{self._file}: {done / 1e6:.1f}{share} MB ")
            sys.stderr.flush()

    def end(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two processes never write one .part."""
    with _writing(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process is fetching into %s: waiting for it", folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as fault:  # some network file systems know no locks
            log.debug("no lock on %s: %s", folder, fault)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise ModelError(
            f"cannot write {path}: {fault.strerror}; make room there and the folder writable, "
            "or copy the weights there yourself"
        ) from fault


def _unreachable(model: Model, url: str, why: str) -> ModelError:
    return ModelError(
        f"cannot fetch {model.spec.file} from {url}: {why}. With a network, try "
        f"`python -m app models fetch {model.ref}`; without one, put {model.spec.file} into "
        f"{model.weights.parent} or into a folder named by {MIRROR_ENV}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
