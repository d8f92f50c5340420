"""Engines that take minutes to build: kept in a cache, told while they are built, and the precision
they compute in. For TensorRT, by its own bindings and through ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from ..config import Precision
from ..core.building import build_here
from ..core.errors import ConfigError
from ..models.cache import cache_dir
from ..models.manifest import ModelSpec

log = logging.getLogger(__name__)

KEY_FILE = "key.json"


class EngineCache:
    """A folder for what ``key`` describes: model, versions, device, precision, sizes.

    The folder comes into being whole or not at all: an engine is built into another one, which is
    renamed when it is done.
    """

    def __init__(self, name: str, key: Mapping[str, object]) -> None:
        self._key = json.dumps(key, indent=1, sort_keys=True)
        digest = hashlib.sha256(self._key.encode()).hexdigest()[:16]
        self.folder = cache_dir("engines") / f"{name}-{digest}"
        self._borrowed: tempfile.TemporaryDirectory[str] | None = None

    @property
    def built(self) -> bool:
        """Whether there is an engine to load."""
        return (self.folder / KEY_FILE).is_file()

    def forget(self) -> None:
        """Remove what does not load."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def building(self) -> Iterator[Path]:
        """A folder to build in; kept when the block ends well, removed when it does not."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            part = self._part()
        except OSError as fault:
            log.warning("the engine cannot be kept in %s: %s", self.folder.parent, fault.strerror)
            # for the other slots of this process, at least
            self._borrowed = tempfile.TemporaryDirectory()
            self.folder = Path(self._borrowed.name) / self.folder.name
            part = self._part()
        try:
            yield part
            self._keep(part)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def close(self) -> None:
        """Remove what could be kept for this process only."""
        if self._borrowed is not None:
            self._borrowed.cleanup()

    def _part(self) -> Path:
        prefix = f"{self.folder.name}.{os.getpid()}."
        return Path(tempfile.mkdtemp(".part", prefix, dir=self.folder.parent))

    def _keep(self, part: Path) -> None:
        try:
            (part / KEY_FILE).write_text(self._key + "\n")
            part.chmod(0o755)  # mkdtemp's are for their maker alone; a cache may be shipped
            part.rename(self.folder)
        except OSError as fault:
            if not self.built:  # else another process was quicker, with the same
                log.warning("the engine cannot be kept in %s: %s", self.folder, fault.strerror)


def engine_key(
    content: bytes,
    spec: ModelSpec,
    *,
    device: str,
    capability: tuple[int, int],
    precision: Precision,
    frames: int = 1,
    **versions: object,
) -> dict[str, object]:
    """The key of an engine of the model whose file is ``content``, for EngineCache."""
    width, height = spec.input.size_wh
    return {
        "model_sha256": hashlib.sha256(content).hexdigest(),
        "device": device,
        "capability": list(capability),
        "precision": precision,
        "input": [frames, 3, height, width],
        **versions,
    }


STILL_S = 10.0  # between two lines that say that it is still building
LOOK_S = 0.5


@contextmanager
def telling(model: str, device: str, done: Callable[[], str] = str) -> Iterator[None]:
    """Say that an engine is being built, that it still is, and how long it took.

    ``done``: how much of it, in words, "" where nobody knows.
    """
    what, build = f"the TensorRT engine of {model} for {device}", build_here()
    log.info("building %s, some minutes the first time", what)
    start_s, over = monotonic(), threading.Event()

    def still() -> None:
        told_s = start_s
        while not over.wait(LOOK_S):
            now_s = monotonic()
            build.text = f"building {what}: {done()}{now_s - start_s:.0f} s"
            if now_s - told_s >= STILL_S:
                told_s = now_s
                log.info("still %s", build.text)

    build.text = f"building {what}"
    thread = threading.Thread(target=still, name="still-building", daemon=True)
    thread.start()
    try:
        yield
        log.info("built %s in %.0f s", what, monotonic() - start_s)
    finally:
        over.set()
        thread.join()
        build.text = ""


# stands in an ONNX file that says which tensors have 8 bits: the type of a node (field 4), of
# fourteen characters
QUANTISED = b"\x22\x0eQuantizeLinear"


def choose_precision(engine: str, precision: Precision, *, quantised: bool) -> Precision:
    """What TensorRT computes in; for ort-cuda "auto", as the file says, or "fp32": without TF32.

    Raises ConfigError where the engine or the model cannot.
    """
    if engine == "ort-cuda":
        if precision not in ("auto", "fp32"):
            raise ConfigError(
                f"precision {precision}: ort-cuda computes as the model's file says; `models "
                "quantize NAME --to fp16` makes one for it, or use --engine ort-tensorrt"
            )
        return precision
    if quantised:
        if precision not in ("auto", "int8"):
            raise ConfigError(f"the model is quantised to 8 bits, so precision {precision} is none")
        return "int8"
    if precision == "int8":
        raise ConfigError(
            "precision int8 needs a quantised model: `models quantize NAME --to int8 --for gpu "
            "--calibrate SOURCE` makes one"
        )
    return "fp16" if precision == "auto" else precision
