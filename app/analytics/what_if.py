"""Which events another configuration would have told: two lists of events, compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from ..core.errors import ConfigError

Row = Mapping[str, Any]  # an event as its JSON object; of a rule that fired, with "rule"

TOLERANCE_S = 1.0  # the same event may come so much earlier or later
SHIFT_S = 0.05  # less is no difference: a frame
OF_SOURCE = ("source_lost", "source_back", "ended")  # of what no configuration is the cause
SHOWN = ("label", "direction", "count", "duration_s", "speed_kmh")
_WHERE = ("name", "type", "zone", "line", "rule")


class EventChange(NamedTuple):
    """What another configuration makes of an event; ``how`` says what is different.

    ``later_s``: by so much its time is later than before; below 0: earlier.
    """

    kind: Literal["new", "gone", "different"]
    row: Row
    how: str = ""
    later_s: float = 0.0


class Comparison(NamedTuple):
    """``changes`` in the order of their times; ``same``: how many events are as they were."""

    changes: list[EventChange]
    same: int


def compare(before: Iterable[Row], after: Iterable[Row]) -> Comparison:
    """Pairs events that mean the same at nearly the same time; ids of tracks play no part.

    Times are those in the recordings where all have them, else the wall clock's. Raises ConfigError
    where the two cannot be compared.
    """
    olds = [row for row in before if row.get("type") not in OF_SOURCE]
    news = [row for row in after if row.get("type") not in OF_SOURCE]
    time_s = _clock(olds, news)
    pairs: list[tuple[Row, Row]] = []
    for keys in ((*_WHERE, "direction", "label"), _WHERE):
        found, olds, news = _pair(olds, news, keys, time_s)
        pairs += found
    changes = [EventChange("gone", row) for row in olds] + [EventChange("new", row) for row in news]
    same = 0
    for old, row in pairs:
        later_s = time_s(row) - time_s(old)
        if how := _difference(old, row, later_s):
            changes.append(EventChange("different", row, how, later_s))
        else:
            same += 1
    changes.sort(key=lambda change: time_s(change.row))
    return Comparison(changes, same)


def _clock(olds: Sequence[Row], news: Sequence[Row]) -> Callable[[Row], float]:
    rows = [*olds, *news]
    if all(isinstance(row.get("media_ms"), int | float) for row in rows):
        return lambda row: float(row["media_ms"]) / 1e3

    def wall_s(row: Row) -> float:
        return datetime.fromisoformat(str(row["time"]).replace("Z", "+00:00")).timestamp()

    try:
        if olds and news and (wall_s(olds[0]) < 1e8) != (wall_s(news[0]) < 1e8):
            raise ConfigError(
                "the events of before have times of the wall clock, a recording has not; compare "
                "by --trace, or with the --events of a replay of the same recording"
            )
        for row in rows:
            wall_s(row)
    except (KeyError, ValueError) as fault:
        raise ConfigError(f"an event has no time that can be read ({fault})") from fault
    return wall_s


def _pair(
    olds: Sequence[Row], news: Sequence[Row], keys: Sequence[str], time_s: Callable[[Row], float]
) -> tuple[list[tuple[Row, Row]], list[Row], list[Row]]:
    """The pairs that agree in ``keys``, nearest times first, and what is left of both."""
    groups: dict[tuple[str, ...], tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((olds, news)):
        for row in rows:
            groups[tuple(str(row.get(key)) for key in keys)][side].append(row)
    pairs, left = [], (list[Row](), list[Row]())
    for group in groups.values():
        old, new = (sorted(rows, key=time_s) for rows in group)
        first, near = 0, []
        for i, row in enumerate(old):
            while first < len(new) and time_s(new[first]) < time_s(row) - TOLERANCE_S:
                first += 1
            for k in range(first, len(new)):
                apart_s = abs(time_s(new[k]) - time_s(row))
                if time_s(new[k]) > time_s(row) + TOLERANCE_S:
                    break
                near.append((apart_s, i, k))
        free = set(range(len(old))), set(range(len(new)))
        for _, i, k in sorted(near):
            if i in free[0] and k in free[1]:
                free[0].discard(i)
                free[1].discard(k)
                pairs.append((old[i], new[k]))
        left[0].extend(old[i] for i in sorted(free[0]))
        left[1].extend(new[k] for k in sorted(free[1]))
    return pairs, *left


def _difference(old: Row, new: Row, later_s: float) -> str:
    told = []
    if abs(later_s) > SHIFT_S:
        told.append(f"{abs(later_s):.2f} s {'later' if later_s > 0 else 'earlier'}")
    for key in SHOWN:
        a, b = old.get(key), new.get(key)
        if isinstance(a, float) and isinstance(b, float) and abs(a - b) <= SHIFT_S:
            continue
        if a != b:
            told.append(f"{key} {b} instead of {a}")
    return ", ".join(told)
