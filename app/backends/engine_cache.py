"""Where is a TensorRT engine kept, so that the minutes of its building are spent once a device?"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.cache import cache_dir

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
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(".part", prefix, dir=self.folder.parent))
        except OSError as fault:
            log.warning("the engine cannot be kept in %s: %s", self.folder.parent, fault.strerror)
        # for the other slots of this process, at least
        self._borrowed = tempfile.TemporaryDirectory()
        self.folder = Path(self._borrowed.name) / self.folder.name
        return Path(tempfile.mkdtemp(".part", prefix, dir=self.folder.parent))

    def _keep(self, part: Path) -> None:
        try:
            (part / KEY_FILE).write_text(self._key + "\n")
            part.chmod(0o755)  # mkdtemp's are for their maker alone; a cache may be shipped
            part.rename(self.folder)
        except OSError as fault:
            if not self.built:  # else another process was quicker, with the same
                log.warning("the engine cannot be kept in %s: %s", self.folder, fault.strerror)
