"""Which model is the default? Writing it down: one manifest of a shelf says ``default = true``."""

from __future__ import annotations

import re
from pathlib import Path

from app.errors import ConfigError, ModelError
from app.shelf.manifest import SHELF_DIR, Model, parse_toml

_LINE = re.compile(r"^default\s*=.*\n", re.MULTILINE)


def make_default(model: Model, *, shelf_dir: Path = SHELF_DIR) -> None:
    """Set ``default = true`` in the model's manifest and in no other of the shelf.

    Raises ConfigError when the model is not on this shelf or a manifest cannot be written.
    """
    if model.manifest is None or model.manifest.resolve().parent != shelf_dir.resolve():
        raise ConfigError(
            f"{model.weights} is not on the shelf {shelf_dir}: `python -m app models add` it first"
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
                part = path.with_name(path.name + ".part")
                part.write_text(new, "utf-8")
                part.replace(path)
        except OSError as fault:
            raise ConfigError(f"cannot write {path}: {fault.strerror}") from fault
