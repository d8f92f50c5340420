"""Which model does a name or a path mean, and is it ready to run?"""

from __future__ import annotations

import difflib
import logging
from pathlib import Path

from app.errors import ModelError
from app.shelf.draft import draft_spec
from app.shelf.fetch import fetch_weights, mirror_file, sha256_fault
from app.shelf.manifest import SHELF_DIR, Model, read_manifest

_OTHER_FORMATS = (".pt", ".pth", ".engine", ".tflite", ".pb", ".xml", ".param", ".caffemodel")

log = logging.getLogger(__name__)


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
        "your own: `python -m app models add FILE.onnx --labels person,dog`"
    )


def list_models(*, shelf_dir: Path = SHELF_DIR) -> list[Model]:
    """All manifests of the shelf, by name. One that is broken is told in the log and left out."""
    models = []
    for path in sorted(shelf_dir.glob("*.toml")):
        try:
            models.append(read_manifest(path))
        except ModelError as fault:
            log.warning("left out: %s", fault)
    return models


def locate(name_or_path: str, *, shelf_dir: Path = SHELF_DIR) -> Model:
    """The model as described, its weights neither fetched nor verified. Raises ModelError."""
    path = Path(name_or_path).expanduser()
    match path.suffix.lower():
        case ".toml":
            return read_manifest(path)
        case ".onnx":
            return _from_onnx(path, shelf_dir)
        case suffix if suffix in _OTHER_FORMATS:
            raise ModelError(
                f"{name_or_path} is no ONNX file: export it first, "
                "for example `yolo export model=best.pt format=onnx`"
            )
    manifest = shelf_dir / f"{name_or_path}.toml"
    if "/" in name_or_path or not manifest.is_file():
        raise _unknown(name_or_path, shelf_dir)
    return read_manifest(manifest)


def _from_onnx(path: Path, shelf_dir: Path) -> Model:
    manifest = path.with_suffix(".toml")
    if manifest.is_file():
        model = read_manifest(manifest)
        if model.weights.name != path.name:
            raise ModelError(
                f"manifest {manifest}: `file` is {model.spec.file!r}, not {path.name!r}"
            )
        return model
    if not path.is_file():
        on_shelf = (shelf_dir / manifest.name).is_file()
        hint = f"the shelf has it as `--model {path.stem}`" if on_shelf else "check the path"
        raise ModelError(f"{path} is not there: {hint}")
    spec = draft_spec(path)
    log.info(
        "%s: recognised as %s at %dx%d, %s, classes: %d; `models add` would put it on the shelf",
        path,
        spec.family,
        *spec.input.size_wh,
        spec.input.channels,
        len(spec.labels),
    )
    return Model(spec, path, None)


def _unknown(name: str, shelf_dir: Path) -> ModelError:
    there = sorted(p.stem for p in shelf_dir.glob("*.toml"))
    close = difflib.get_close_matches(name, there, n=2)
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return ModelError(
        f"no model {name!r} on the shelf {shelf_dir}. {meant}There are: "
        f"{', '.join(there) or 'none'}. To add one: `python -m app models add FILE.onnx`"
    )


def _ready(model: Model) -> Model:
    if not model.weights.is_file():
        origin = mirror_file(model.spec) or model.spec.url
        log.info(
            "model %s: weights are missing, fetching them from %s (to do so beforehand: "
            "`python -m app models fetch %s`)",
            model.spec.name,
            origin,
            model.ref,
        )
        fetch_weights(model)
    if fault := sha256_fault(model.spec, model.weights):
        raise ModelError(
            f"weights {model.weights} are not those of the manifest: {fault}. "
            f"`python -m app models fetch {model.ref}` replaces them; if they are yours, "
            f"`python -m app models add {model.weights} --name NAME` gives them a manifest"
        )
    return model
