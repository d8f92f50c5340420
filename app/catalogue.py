"""What is there to choose from? Immutable values, for pickers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing to choose: what it is called, and what choosing it means."""

    title: str
    value: str  # a source's URI, a model's or engine's name
    detail: str = ""
    more: tuple[Offer, ...] = ()  # finer choices of the same thing, such as a camera's formats


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that this machine offers."""

    cameras: tuple[Offer, ...] = ()
    models: tuple[Offer, ...] = ()
    engines: tuple[Offer, ...] = ()
