"""What of a changed configuration can be taken up while it runs?"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from app.config import Config

HOT = ("score", "iou", "max_age_ms")


@dataclass(frozen=True, slots=True)
class Reload:
    """``config`` is what runs from now on: the old one with what could be changed."""

    config: Config
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]

    def line(self) -> str:
        """For the log."""
        if not self.changed and not self.needs_restart:
            return "configuration read again: nothing has changed"
        told = []
        if self.changed:
            values = (f"{name} = {getattr(self.config, name)}" for name in self.changed)
            told.append(f"changed {', '.join(values)}")
        if self.needs_restart:
            told.append(f"after a restart only: {', '.join(self.needs_restart)}")
        return f"configuration read again: {'; '.join(told)}"


def plan_reload(old: Config, new: Config) -> Reload:
    """What is taken up, and what is not."""
    names = [f.name for f in fields(Config) if getattr(old, f.name) != getattr(new, f.name)]
    changed = tuple(name for name in names if name in HOT)
    config = replace(old, **{name: getattr(new, name) for name in changed})
    return Reload(config, changed, tuple(name for name in names if name not in HOT))
