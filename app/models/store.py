"""The model shelf on disk: lookup, default, and verified fetching."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..core.errors import ConfigError, ModelError
from ..core.package import COMMAND
from .adapt import plain, read_form
from .cache import write_whole
from .engine_file import draft_engine, is_engine
from .importer import draft_model, prove
from .manifest import SHELF_DIR, SHIPPED_DIR, Model, ModelSpec, parse_toml, read_manifest
from .onnx_session import open_session

log = logging.getLogger(__name__)


_LINE = re.compile(r"^default\s*=.*\n", re.MULTILINE)


def make_default(model: Model, *, shelf_dir: Path = SHELF_DIR) -> None:
    """Set ``default = true`` in the model's manifest and in no other of the shelf.

    Raises ConfigError when the model is not on this shelf or a manifest cannot be written.
    """
    if model.manifest is None or model.manifest.resolve().parent != shelf_dir.resolve():
        raise ConfigError(
            f"{model.weights} is not on the shelf {shelf_dir}: `{COMMAND} models add` it first"
        )
    for path in sorted(shelf_dir.glob("*.toml")):
        chosen = path.resolve() == model.manifest.resolve()
        try:
            text = path.read_text("utf-8")
            new = _LINE.sub("", text)
            if chosen:  # top-level keys come before the first table
                new = re.sub(r"^\[", "default = true\n\n[", new, count=1, flags=re.MULTILINE)
                new = re.sub(r"\n\n(default = true\n)", r"\n\1", new)
            if new != text:
                if parse_toml(new).get("default", False) is not chosen:
                    raise ModelError(f"manifest {path}: write `default = true` above its tables")
                write_whole(path, new.encode())
        except OSError as fault:
            raise ConfigError(f"cannot write {path}: {fault.strerror}") from fault


MIRROR_ENV = "KESTREL_MODEL_MIRROR"
_TIMEOUT_S = 20.0
_CHUNK = 1 << 16
_ATTEMPTS = 5  # each must bring something, or it was the last


def fetch_weights(model: Model) -> None:
    """Put the weights beside the manifest, unless they are there and right already.

    A broken download is kept as FILE.part and resumed. Two processes take turns. Where the manifest
    has nothing to compare with, what comes first is trusted if its outputs for a picture are those
    that the manifest says; its sha256 is written beside it, for all later. ModelError names the
    cure.
    """
    spec, part = model.spec, model.weights.with_name(model.spec.file + ".part")
    with _turn(model.weights.parent):
        if model.weights.is_file() and weights_fault(model) is None:
            return
        mirrored = mirror_file(spec)
        if mirrored is not None:
            _copy(mirrored, part)
        else:
            _resume(model, part)
        known = checksum(model)
        try:
            fault = weights_fault(model, part)
            if known is None:
                prove(spec, part)
        except ModelError as refused:
            fault = str(refused)
        if fault:
            part.unlink()
            where = known.written if known else model.manifest
            raise ModelError(
                f"{mirrored or spec.url} is not what the manifest of {spec.name} describes: "
                f"{fault}. A proxy's page or a changed file? Put the right {spec.file} into "
                f"{model.weights.parent}, or correct {where}"
            )
        with _writing(part):
            if known is None:
                digest = digest_of(part, "sha256")
                write_whole(_noted(model), f"{digest}  {spec.file}\n".encode())
                log.warning(
                    "model %s: nobody has published its checksum; what came first is trusted, and "
                    "compared with from now on (%s)",
                    spec.name,
                    _noted(model).name,
                )
            part.replace(model.weights)


def mirror_file(spec: ModelSpec) -> Path | None:
    """Where KESTREL_MODEL_MIRROR, if set, should hold the weights."""
    mirror = os.environ.get(MIRROR_ENV)
    return Path(mirror).expanduser() / spec.file if mirror else None


class Checksum(NamedTuple):
    """What the weights are compared with, and where it is ``written``."""

    kind: str
    value: str
    written: str


def _noted(model: Model) -> Path:
    """Where the sha256 of weights lies that were trusted on first use, as sha256sum writes it."""
    return model.weights.with_name(model.weights.name + ".sha256")


def checksum(model: Model) -> Checksum | None:
    """The manifest's checksum, or that of what was fetched first; None before that."""
    for kind in ("sha256", "git_blob"):
        if value := getattr(model.spec, kind):
            return Checksum(kind, value, f"`{kind}` in {model.manifest}")
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if found := re.match(r"[0-9a-f]{64}\b", _noted(model).read_text("ascii")):
            return Checksum("sha256", found[0], f"{_noted(model)} (remove it)")
    return None


def weights_fault(model: Model, path: Path | None = None) -> str | None:
    """How ``path``, by default the model's weights, differs from what it should be.

    None if it does not, or if there is nothing to compare with.
    """
    path, known = path or model.weights, checksum(model)
    if known is None:
        return None
    seen = digest_of(path, known.kind)
    if seen == known.value:
        return None
    with path.open("rb") as file:
        pointer = file.read(24).startswith(b"version https://git-lfs")
    what = " (it is a Git LFS pointer, not the file)" if pointer else ""
    return f"its {known.kind} is {seen}, not {known.value}{what}"


def digest_of(path: Path, kind: str) -> str:
    """The file's checksum, "sha256" or "git_blob", in hexadecimal. Raises ModelError.

    A Git blob's id is the SHA-1 of "blob SIZE", a zero byte and the file.
    """
    try:
        with path.open("rb") as file:
            if kind == "sha256":
                digest = hashlib.sha256()
            else:
                digest = hashlib.sha1(usedforsecurity=False)
                digest.update(b"blob %d\0" % os.fstat(file.fileno()).st_size)
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as fault:
        raise ModelError(f"cannot read {path}: {fault.strerror}; make it readable") from fault
    return digest.hexdigest()


def weights_state(model: Model, *, verify: bool = False) -> str:
    """In a word or a few: "here", with ``verify`` "ready" or "damaged", or whence they come."""
    if model.weights.is_file():
        try:
            return ("damaged" if weights_fault(model) else "ready") if verify else "here"
        except ModelError:
            return "unreadable"
    mirrored = mirror_file(model.spec)
    if mirrored is not None:
        return "in the mirror" if mirrored.is_file() else "missing"
    return "to be fetched" if model.spec.url else "missing"


def weights_bytes(model: Model) -> int | None:
    """The size of the weights: their file's, else as the manifest says; None: unknown."""
    with contextlib.suppress(OSError):
        return model.weights.stat().st_size
    return model.spec.size_bytes


_MEMORY_PER_BYTE = 4  # of a file: a run took 3.7 and 4.4 bytes for each of 109 and 13 MB


def why_not_here(model: Model) -> str | None:
    """Why this machine cannot run the model; None if nothing speaks against it."""
    size = weights_bytes(model) or 0
    if weights_state(model) == "missing":
        return f"{mirror_file(model.spec) or model.weights} is missing"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size * _MEMORY_PER_BYTE > memory:
        return f"needs about {size * _MEMORY_PER_BYTE / 1e6:.0f} MB of memory"
    folder = next(each for each in model.weights.resolve().parents if each.is_dir())
    if not model.weights.is_file() and size > shutil.disk_usage(folder).free:
        return f"{size / 1e6:.0f} MB do not fit onto the disk of {folder}"
    return None


def _resume(model: Model, part: Path) -> None:
    if part.is_file() and checksum(model) is None:
        part.unlink()  # nothing would tell whether its start is the right one
    resumed = part.is_file()
    if resumed and weights_fault(model, part) is None:
        return  # complete; only the rename was missing
    _download(model, part)
    if resumed and weights_fault(model, part) is not None:
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
        f"`{COMMAND} models fetch {model.ref}` goes on from there"
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
        shown_s = 0.0
        with _writing(part), part.open("ab" if offset else "wb") as out:
            while True:
                try:
                    chunk = reply.read1(_CHUNK)
                except (OSError, HTTPException):
                    return False
                if not chunk:
                    _on_terminal("\x1b[K")
                    return total is None or out.tell() >= total
                out.write(chunk)
                if time.monotonic() - shown_s > 0.1:
                    shown_s = time.monotonic()
                    share = f" of {total / 1e6:.1f}" if total else ""
                    _on_terminal(f"{model.spec.file}: {out.tell() / 1e6:.1f}{share} MB ")


def _on_terminal(text: str) -> None:
    """Renew the line of progress; nothing where standard error is no terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}")
        sys.stderr.flush()


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two processes never write one .part."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
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
        f"`{COMMAND} models fetch {model.ref}`; without one, put {model.spec.file} into "
        f"{model.weights.parent} or into a folder named by {MIRROR_ENV}"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


_OTHER_FORMATS = (".pt", ".pth", ".tflite", ".pb", ".xml", ".param", ".caffemodel")


def find_model(name_or_path: str, *, shelf_dir: Path = SHELF_DIR) -> Model:
    """The model, its weights present and verified; fetched first if they are missing.

    Raises ModelError: unknown, unreadable, not to be fetched, or not what the manifest says.
    """
    return _ready(locate(name_or_path, shelf_dir=shelf_dir))


def default_model(*, shelf_dir: Path = SHELF_DIR) -> Model:
    """The model to run when none is named, ready as by find_model."""
    for model in list_models(shelf_dir=shelf_dir):
        if model.spec.default:
            return _ready(model)
    raise ModelError(
        f"no model of the shelf {shelf_dir} says `default = true`: name one with --model, or bring "
        f"your own: `{COMMAND} models add FILE.onnx --labels person,dog`"
    )


def list_models(*, shelf_dir: Path = SHELF_DIR) -> list[Model]:
    """All manifests of the shelf, by name. One that is broken is told in the log and left out.

    A default that the user has added takes the place of the shipped one.
    """
    models = []
    for _, path in sorted(_manifests(shelf_dir).items()):
        try:
            models.append(read_manifest(path))
        except ModelError as fault:
            log.warning("left out: %s", fault)
    own = [m for m in models if m.manifest is not None and m.manifest.parent == shelf_dir]
    if not any(model.spec.default for model in own):
        return models
    return [m if m in own else replace(m, spec=replace(m.spec, default=False)) for m in models]


def _manifests(shelf_dir: Path) -> dict[str, Path]:
    """By the model's name. Shipped ones belong to the user's shelf; one of his own hides them."""
    folders = (SHIPPED_DIR, shelf_dir) if shelf_dir == SHELF_DIR else (shelf_dir,)
    return {path.stem: path for folder in folders for path in folder.glob("*.toml")}


def locate(name_or_path: str, *, shelf_dir: Path = SHELF_DIR) -> Model:
    """The model as described, its weights neither fetched nor verified. Raises ModelError."""
    path = Path(name_or_path).expanduser()
    match path.suffix.lower():
        case ".toml":
            return read_manifest(path)
        case ".onnx" | ".engine" | ".plan":
            return _from_file(path, shelf_dir)
        case suffix if suffix in _OTHER_FORMATS:
            raise ModelError(
                f"{name_or_path} is no ONNX file: export it first, "
                "for example `yolo export model=best.pt format=onnx`"
            )
    manifest = _manifests(shelf_dir).get(name_or_path)
    if manifest is None:
        raise _unknown(name_or_path, shelf_dir)
    return read_manifest(manifest)


def _from_file(path: Path, shelf_dir: Path) -> Model:
    manifest = path.with_suffix(".toml")
    if manifest.is_file():
        model = read_manifest(manifest)
        if model.weights.name != path.name:
            raise ModelError(
                f"manifest {manifest}: `file` is {model.spec.file!r}, not {path.name!r}"
            )
        return model
    if not path.is_file():
        on_shelf = path.stem in _manifests(shelf_dir)
        hint = f"the shelf has it as `--model {path.stem}`" if on_shelf else "check the path"
        raise ModelError(f"{path} is not there: {hint}")
    model = draft_engine(path) if is_engine(path) else draft_model(path)
    spec = model.spec
    log.info(
        "%s: recognised as %s at %dx%d, %s, classes: %d; `models add` would put it on the shelf",
        path,
        f"{spec.family} ({spec.description})" if spec.description else spec.family,
        *spec.input.size_wh,
        spec.input.channels,
        len(spec.labels),
    )
    return model


def _unknown(name: str, shelf_dir: Path) -> ModelError:
    there = sorted(_manifests(shelf_dir))
    close = difflib.get_close_matches(name, there, n=2)
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return ModelError(
        f"no model {name!r} on the shelf {shelf_dir}. {meant}There are: "
        f"{', '.join(there) or 'none'}. To add one: `{COMMAND} models add FILE.onnx`"
    )


def _ready(model: Model) -> Model:
    if not model.weights.is_file():
        origin = mirror_file(model.spec) or model.spec.url
        log.info(
            "model %s: weights are missing, fetching them from %s (to do so beforehand: "
            "`%s models fetch %s`)",
            model.spec.name,
            origin,
            COMMAND,
            model.ref,
        )
        fetch_weights(model)
    if fault := weights_fault(model):
        raise ModelError(
            f"weights {model.weights} are not those of the manifest: {fault}. "
            f"`{COMMAND} models fetch {model.ref}` replaces them; if they are yours, "
            f"`{COMMAND} models add {model.weights} --name NAME` gives them a manifest"
        )
    return _tidied(model) if model.spec.tidy else model


def _tidied(model: Model) -> Model:
    """With a plain copy in the cache as its weights; as it is where that cannot be made here."""
    form = read_form(open_session(model.weights, optimise=False), model.weights)
    try:
        copy, _ = plain(model.weights, form, model.spec.input.size_wh)
    except ConfigError as fault:
        if not form.is_plain:
            raise
        log.warning("model %s is slower than it need be: %s", model.spec.name, fault)
        return model
    return replace(model, weights=copy)
