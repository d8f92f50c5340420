"""The sources that a configuration asks for, or the best one there is."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import NamedTuple

from ..config import Config, parse_sources
from ..core.interfaces import GPU_ENGINES, FrameSource
from ..pipeline.handoff import Policy
from ..sources.base import SourceOptions, first_camera
from ..sources.reconnect import Endurance
from ..sources.uri import make_source

log = logging.getLogger(__name__)


def choose_source(config: Config) -> str:
    """The URI asked for, or the first camera, or the bundled clip; one log line says which."""
    if config.source is not None:
        return config.source
    camera = first_camera()
    if camera is not None:
        log.info("source %s, the first camera (--source chooses another)", camera)
        return camera
    log.info("source sample:, the bundled clip, as there is no camera (--source chooses another)")
    return "sample:"


def source_options(config: Config) -> SourceOptions:
    """What the configuration says of all sources."""
    return SourceOptions(
        open_timeout_s=config.open_timeout_s,
        read_timeout_s=config.read_timeout_s,
        raw=config.engine in GPU_ENGINES,
        rtsp_transport=config.rtsp_transport,
        deinterlace=config.deinterlace,
        max_megapixels=config.max_megapixels,
    )


class NamedInput(NamedTuple):
    """A source, not opened yet, and its name among others."""

    name: str
    source: FrameSource


def make_inputs(config: Config, policy: Policy) -> list[NamedInput]:
    """All sources, at least one. Of several, one that is not there yet is waited for."""
    if not config.sources:
        return [NamedInput("", make_input(config, policy))]
    patient = replace(config, wait=config.wait or config.reconnect)
    return [
        NamedInput(each.name, make_input(replace(patient, source=each.uri, sources=()), policy))
        for each in parse_sources(config.sources)
    ]


def make_input(config: Config, policy: Policy) -> FrameSource:
    """The source, not opened yet; a live one comes back, unless the configuration forbids it."""
    return make_source(
        choose_source(config),
        realtime=policy is Policy.LATEST or config.realtime,
        isolate=config.isolate,
        options=source_options(config),
        endurance=endurance_of(config) if policy is Policy.LATEST else None,
    )


def endurance_of(config: Config) -> Endurance | None:
    """How long a live source may be silent, frozen or away; None: its first fault is its end."""
    if not config.reconnect:
        return None
    return Endurance(
        open_s=config.open_timeout_s + 2,  # its own time-out comes first, and says more
        stall_s=min(2.0, config.read_timeout_s / 2),
        silent_s=config.read_timeout_s,
        freeze_s=config.freeze_s or None,
        retry_s=config.retry_s,
        wait=config.wait,
    )
