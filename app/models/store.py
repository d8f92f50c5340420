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

from ..core.errors import ConfigError, ModelError
from ..core.package import COMMAND
from .cache import write_whole
from .engine_file import draft_engine, is_engine
from .importer import draft_model
from .manifest import SHELF_DIR, SHIPPED_DIR, Model, ModelSpec, parse_toml, read_manifest

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
    if fault := sha256_fault(model.spec, model.weights):
        raise ModelError(
            f"weights {model.weights} are not those of the manifest: {fault}. "
            f"`{COMMAND} models fetch {model.ref}` replaces them; if they are yours, "
            f"`{COMMAND} models add {model.weights} --name NAME` gives them a manifest"
        )
    return model
