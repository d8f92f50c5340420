"""Which sources does a run with several have, and what are they called?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from app.credentials import mask_credentials
from app.errors import ConfigError

MOST = 64


class NamedSource(NamedTuple):
    """A source and its name in JSON lines, topics, metrics and folders."""

    name: str
    uri: str


def parse_sources(texts: Sequence[str]) -> tuple[NamedSource, ...]:
    """``NAME=URI`` or ``URI``, which is then called by its number, from 1.

    Raises ConfigError for a name that is there twice, and for too many sources.
    """
    if len(texts) > MOST:
        raise ConfigError(f"{len(texts)} sources are more than the {MOST} that one run takes")
    sources: list[NamedSource] = []
    for number, text in enumerate(texts, 1):
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_-]{0,31})=(.+)", text, flags=re.DOTALL)
        source = NamedSource(match[1], match[2]) if match else NamedSource(str(number), text)
        if any(source.name == other.name for other in sources):
            raise ConfigError(
                f"two sources are called {source.name!r}: {mask_credentials(source.uri)} is the "
                "second; write another NAME=URI"
            )
        sources.append(source)
    return tuple(sources)
