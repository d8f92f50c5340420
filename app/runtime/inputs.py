"""The sources that a configuration asks for, or the best one there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..analytics.tables import one_of, read_table
from ..config import ClipOptions, Config, NamedSource, RecordOptions, parse_sources
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError
from ..core.interfaces import GPU_ENGINES, FrameSource
from ..core.packets import PacketFan
from ..core.stats import OutputMeter
from ..pipeline.handoff import Policy
from ..pipeline.privacy import FACE, Privacy, PrivateArea
from ..sources.base import SourceOptions, first_camera
from ..sources.reconnect import Endurance
from ..sources.substream import Substream, refuse_unrecordable
from ..sources.uri import is_recording, make_source

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


def source_options(config: Config, *, gated: bool = False) -> SourceOptions:
    """What the configuration says of all sources; ``gated``: only what moves, unless it says so."""
    if config.motion.on is not None:
        gated = config.motion.on
    gated = gated or config.motion.regions
    if gated:
        _check_pause(config)
    return SourceOptions(
        motion=config.motion if gated else None,
        still=tuple(
            (row.get("units") == "pixels", row["points"])
            for row in config.mask
            if row.get("exclude", True) and not row.get("labels") and "points" in row
        )
        if gated
        else (),
        open_timeout_s=config.open_timeout_s,
        read_timeout_s=config.read_timeout_s,
        raw=config.engine in GPU_ENGINES,
        rtsp_transport=config.rtsp_transport,
        deinterlace=config.deinterlace,
        max_megapixels=config.max_megapixels,
        ca_file=config.ca_file,
        tls_insecure=config.tls_insecure,
    )


def _check_pause(config: Config) -> None:
    """Raise ConfigError where a camera at rest would be told lost, or the run unhealthy."""
    # a look may just miss the frame that is due, and the next one is wake_s later
    pause_s = config.motion.floor_s + config.motion.wake_s
    limits = {"read_timeout_s": config.read_timeout_s}
    if config.http.address:
        limits["stale_s of [http]"] = config.http.stale_s
    for name, limit_s in limits.items():
        if pause_s >= limit_s:
            raise ConfigError(
                f"floor_s and wake_s of [motion] allow {pause_s:g} s without a frame, which is a "
                f"fault after {name}, {limit_s:g}: raise that, or lower them"
            )


class NamedInput(NamedTuple):
    """A source, not opened yet, and its name among others."""

    name: str
    source: FrameSource
    packets: PacketFan | None = None  # of its stream, for recordings that copy them


def make_inputs(
    config: Config, policy: Policy, *, only: Collection[str] | None = None
) -> list[NamedInput]:
    """All sources, at least one, or those of these names.

    Of several, one that is not there yet is waited for.
    """
    gated = policy is Policy.LATEST and config.unattended
    if gated and config.motion.on is None and not config.motion.regions and only is None:
        log.info("only frames in which something moves are inferred (--no-motion: all)")
    if not config.sources:
        fan = packets_for(config, policy)
        return [NamedInput("", make_input(config, policy, fan), fan)]
    patient = replace(config, wait=config.wait or config.reconnect)
    inputs = []
    for each in parse_sources(config.sources):
        if only is not None and each.name not in only:
            continue
        fan = packets_for(config, policy, each.name)
        own = config_of_source(patient, each)
        inputs.append(NamedInput(each.name, make_input(own, policy, fan), fan))
    return inputs


def config_of_source(config: Config, named: NamedSource) -> Config:
    masks = tuple(row for row in config.mask if row.get("source", named.name) == named.name)
    return replace(config, source=named.uri, sources=(), record_sources=(), mask=masks)


def packets_for(config: Config, policy: Policy, name: str = "") -> PacketFan | None:
    """Where a source is to give its packets, if an output of the configuration copies them.

    Nobody copies those of a source of which something is hidden.
    """
    outputs = (config.record, config.clips)
    wanted = any(each.path is not None and copies(each, policy) for each in outputs)
    if policy is Policy.LATEST and config.record_source(name) is not None:
        return None  # that of the substream is copied
    if wanted and privacy_of(config, name) is not None:
        log.info(
            "recordings%s are encoded anew, as [[privacy]] or blur_faces hides parts of them",
            f" of {name}" if name else "",
        )
        return None
    return PacketFan() if wanted else None


def make_substream(
    config: Config, policy: Policy, name: str, meter: Callable[[], OutputMeter]
) -> Substream | None:
    """What is recorded of the source with this name, where that is another stream of it.

    Raises ConfigError where its packets would not do.
    """
    uri = config.record_source(name)
    if uri is None or policy is not Policy.LATEST:
        return None
    outputs = [each for each in (config.record, config.clips) if each.path is not None]
    if any(each.burn_in for each in outputs):
        raise ConfigError("record_sources are copied as they are; leave burn_in out, or them")
    if privacy_of(config, name) is not None:
        raise ConfigError(
            "record_sources would show what [[privacy]] or blur_faces hides; leave one of them out"
        )
    if not (outputs or config.events.snapshots):
        log.warning("record_sources has no use without --record, --clips, --snapshots or --store")
        return None
    refuse_unrecordable(uri)
    looked_at = dict(parse_sources(config.sources)).get(name, config.source or "")
    endurance = replace(endurance_of(config) or Endurance(), freeze_s=None, black_s=None, wait=True)
    options = replace(source_options(config), motion=None, packets_only=True)
    return Substream(
        lambda taps: make_source(
            uri,
            realtime=True,
            isolate=config.isolate,
            options=options,
            endurance=endurance if config.reconnect else None,
            packets=taps,
        ),
        meter(),
        label=mask_credentials(uri),
        recorded=is_recording(uri) and bool(looked_at) and is_recording(looked_at),
        pictures=config.events.snapshots is not None,
    )


def privacy_of(config: Config, name: str = "") -> Privacy | None:
    """What is hidden of the source with this name, None where nothing is; raises ConfigError."""
    names = [each.name for each in parse_sources(config.sources)]
    areas = []
    for i, row in enumerate(config.privacy, 1):
        where = f"[[privacy]] {i}"
        if "source" in row:
            if not names:
                raise ConfigError(f"{where} names a source; leave that out, as one runs")
            one_of(row["source"], names, f"source in {where}")
        if row.get("source", name) == name:
            told = {key: value for key, value in row.items() if key != "source"}
            areas.append(read_table(PrivateArea, told, where))
    privacy = Privacy(areas, faces=config.blur_faces)
    return privacy if areas or config.blur_faces else None


def check_privacy(config: Config, labels: Sequence[str]) -> None:
    """Raise ConfigError for what would hide nothing with a model of these labels."""
    for name in [each.name for each in parse_sources(config.sources)] or [""]:
        privacy_of(config, name)
    if config.blur_faces and FACE not in labels:
        raise ConfigError(
            f"blur_faces needs a model with the label {FACE!r}, such as the default one; use that, "
            "or leave blur_faces out and hide areas by [[privacy]]"
        )


def copies(options: RecordOptions | ClipOptions, policy: Policy) -> bool:
    """Whether packets are copied where there are some; boxes are drawn into a replay's video."""
    return policy is Policy.LATEST if options.burn_in is None else not options.burn_in


def make_input(config: Config, policy: Policy, packets: PacketFan | None = None) -> FrameSource:
    """The source, not opened yet; a live one comes back, unless the configuration forbids it."""
    gated = policy is Policy.LATEST and config.unattended
    return make_source(
        choose_source(config),
        realtime=policy is Policy.LATEST or config.realtime,
        isolate=config.isolate,
        options=source_options(config, gated=gated),
        endurance=endurance_of(config) if policy is Policy.LATEST else None,
        packets=packets,
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
