"""Which photographs are there to measure on, and what is in them? A set in COCO format."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from app.errors import ConfigError
from app.frame import Frame


def _file_name(name: object) -> str:
    """Raises ValueError for what is the name of no file."""
    if not isinstance(name, str) or not 0 < len(os.fsencode(name)) < 256 or "\0" in name:
        raise ValueError(f"file_name is {str(name)[:40]!r}")
    return name


@dataclass
class LabelledSet:
    """COCO annotations and where their pictures lie."""

    content: Mapping[str, Any]
    folder: Path
    parts: Mapping[str, Sequence[int]]  # image ids

    @classmethod
    def read(cls, path: Path, parts: Mapping[str, Sequence[str]]) -> LabelledSet:
        """Raises ConfigError naming what is wrong."""
        file = path / "val.json" if path.is_dir() else path
        try:
            content = json.loads(file.read_text("utf-8"))
            images = content["images"]
            _ = [(a["image_id"], a["category_id"], a["bbox"]) for a in content["annotations"]]
            _ = [(c["id"], c["name"]) for c in content["categories"]]
            ids = [(i["id"], _file_name(i["file_name"])) for i in images]
        except OSError as error:
            raise ConfigError(f"--data: cannot read {file}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"--data: {file} is no COCO annotation file with images, annotations and "
                f"categories: {error!r}"
            ) from error
        if not ids:
            raise ConfigError(f"--data: {file} lists no images")
        chosen: dict[str, list[int]] = {"all": [i for i, _ in ids]}
        for name, sources in parts.items():
            chosen[name] = [i["id"] for i in images if i.get("source") in sources]
            if not chosen[name]:
                raise ConfigError(f"--part {name}: no image of {file} is of {', '.join(sources)}")
        return cls(content, file.parent, chosen)

    @property
    def categories(self) -> dict[str, int]:
        """Category ids by label."""
        return {str(c["name"]): int(c["id"]) for c in self.content["categories"]}

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """(image id, Frame), picture after picture."""
        for index, image in enumerate(self.content["images"]):
            name = image["file_name"]
            path = next(
                (p for p in (self.folder / "images" / name, self.folder / name) if p.is_file()),
                None,
            )
            pixels = None if path is None else cv2.imread(str(path), cv2.IMREAD_COLOR)
            if pixels is None:
                what = "is missing" if path is None else "is no picture"
                raise ConfigError(f"--data: {self.folder / 'images' / name} {what}")
            yield image["id"], Frame(np.asarray(pixels, np.uint8), index, 0)
