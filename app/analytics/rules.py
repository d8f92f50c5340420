"""Rules: which events call for an action, at what time of day, and how often.

A rule with ``min_s`` for "appear" or "enter" waits: it fires once the object has been in view or in
the zone for so long, and not at all where it has gone or left before.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

from ..core.errors import ConfigError
from .events import Event, EventType
from .tables import one_of

_ENDS = {"appear": ("gone",), "enter": ("leave", "gone")}  # of what a rule with min_s waits for
_LASTING = ("appear", "gone", "enter", "leave", "dwell")
_IN_ZONES = ("enter", "leave", "dwell", "count")
_DIRECTIONS = {"cross": ("in", "out"), "count": ("up", "down")}
_MOST_WAITING = 1024  # tracks for which a rule waits


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One ``[[rule]]``: the events it is about and what is to be done."""

    name: str
    when: str
    then: tuple[str, ...]
    zone: str | None = None  # None: any
    line: str | None = None
    labels: tuple[str, ...] = ()  # none named: all
    direction: str | None = None
    min_s: float = 0.0
    between: str | None = None  # "22:00-06:00", local time, may go over midnight
    cooldown_s: float = 0.0


class Fired(NamedTuple):
    """A rule that an event set off; the event's ``duration_s`` is how long it waited, if it did."""

    rule: Rule
    event: Event


def check_rules(
    rules: Sequence[Rule],
    *,
    zones: Iterable[str],
    lines: Iterable[str],
    labels: Iterable[str],
    actions: Iterable[str] | None,
) -> None:
    """Raise ConfigError for a rule that can never fire or that names what is not there.

    ``actions`` are those that ``then`` may name; None: any.
    """
    zones, lines, labels = list(zones), list(lines), list(labels)
    names: set[str] = set()
    for number, rule in enumerate(rules, 1):
        where = f"[[rule]] {rule.name or number}"
        if not rule.name or rule.name in names:
            raise ConfigError(f"name in {where} is empty or there twice; give each its own")
        names.add(rule.name)
        one_of(rule.when, get_args(EventType), f"when in {where}")
        if rule.zone is not None:
            one_of(rule.zone, zones, f"zone in {where}")
            if rule.when not in _IN_ZONES:
                raise ConfigError(f"{where} has a zone; that goes with when {_named(_IN_ZONES)}")
        if rule.line is not None:
            one_of(rule.line, lines, f"line in {where}")
            if rule.when != "cross":
                raise ConfigError(f'{where} has a line; that goes with when = "cross"')
        if rule.direction is not None:
            if rule.when not in _DIRECTIONS:
                raise ConfigError(
                    f"{where} has a direction; that goes with when {_named(_DIRECTIONS)}"
                )
            one_of(rule.direction, _DIRECTIONS[rule.when], f"direction in {where}")
        for label in rule.labels:
            one_of(label, labels, f"labels in {where}")
        if not rule.then:
            raise ConfigError(f"then in {where} is empty; name what is to be done")
        for action in rule.then if actions is not None else ():
            one_of(action, actions or (), f"then in {where}")
        if not 0 <= rule.min_s <= 86_400 or not 0 <= rule.cooldown_s <= 86_400:
            raise ConfigError(f"min_s and cooldown_s in {where} must be 0 to 86400")
        if rule.min_s and rule.when not in _LASTING:
            raise ConfigError(f"{where} has min_s; that goes with when {_named(_LASTING)}")
        if rule.between is not None:
            _hours(rule.between, where)


class RuleBook:
    """Tells which rules fire, for one source. ``tz`` is what ``between`` is meant in."""

    def __init__(self, rules: Sequence[Rule], tz: datetime.tzinfo) -> None:
        self._rules = list(rules)
        self._hours = [r.between and _hours(r.between, r.name) for r in rules]
        self._tz = tz
        self._last_ns: dict[str, int] = {}
        self._waiting: dict[tuple[int, int | None, str | None], tuple[int, Event]] = {}
        self.counts = {"waiting_over": 0}

    def update(self, events: Sequence[Event], *, time_ns: int, wall_ns: int) -> list[Fired]:
        """What fires at this frame. ``time_ns``: of capture; ``wall_ns``: since 1970."""
        fired: list[Fired] = []
        for event in events:
            for key in [k for k in self._waiting if self._over(k, event)]:
                del self._waiting[key]
            for number, rule in enumerate(self._rules):
                if not _meant(rule, event):
                    continue
                if not rule.min_s:
                    self._fire(number, event, time_ns, wall_ns, fired)
                elif rule.when not in _ENDS:
                    if (event.duration_s or 0) >= rule.min_s:
                        self._fire(number, event, time_ns, wall_ns, fired)
                elif len(self._waiting) < _MOST_WAITING:
                    self._waiting[number, event.track_id, event.zone] = time_ns, event
                else:
                    self.counts["waiting_over"] += 1
        for key, (since_ns, event) in list(self._waiting.items()):
            lasted_s = (time_ns - since_ns) / 1e9
            if lasted_s >= self._rules[key[0]].min_s:
                del self._waiting[key]
                self._fire(key[0], replace(event, duration_s=lasted_s), time_ns, wall_ns, fired)
        return fired

    def restart(self) -> None:
        """Times begin anew: nothing waits, nothing cools down."""
        self._waiting.clear()
        self._last_ns.clear()

    def _over(self, key: tuple[int, int | None, str | None], event: Event) -> bool:
        number, track_id, zone = key
        ends = event.type in _ENDS[self._rules[number].when]
        return ends and event.track_id == track_id and event.zone in (None, zone)

    def _fire(
        self, number: int, event: Event, time_ns: int, wall_ns: int, fired: list[Fired]
    ) -> None:
        rule, hours = self._rules[number], self._hours[number]
        if hours:
            local = datetime.datetime.fromtimestamp(wall_ns // 1_000_000_000, self._tz)
            minute = local.hour * 60 + local.minute
            first, last = hours
            inside = first <= minute < last if first < last else not last <= minute < first
            if not inside:
                return
        last_ns = self._last_ns.get(rule.name)
        if last_ns is not None and time_ns - last_ns < rule.cooldown_s * 1e9:
            return
        self._last_ns[rule.name] = time_ns
        fired.append(Fired(rule, event))


def _meant(rule: Rule, event: Event) -> bool:
    return (
        event.type == rule.when
        and rule.zone in (None, event.zone)
        and rule.line in (None, event.line)
        and rule.direction in (None, event.direction)
        and (not rule.labels or event.label in rule.labels)
    )


def _hours(text: str, where: str) -> tuple[int, int]:
    """Minutes of the day from and to."""
    match = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text)
    parts = [int(part) for part in match.groups()] if match else [99] * 4
    first, last = parts[0] * 60 + parts[1], parts[2] * 60 + parts[3]
    if max(parts[1], parts[3]) > 59 or max(first, last) > 24 * 60 or first == last:
        raise ConfigError(f'between in {where} is {text!r}; write for example "22:00-06:00"')
    return first, last


def _named(values: Iterable[str]) -> str:
    return " or ".join(f'"{value}"' for value in values)
