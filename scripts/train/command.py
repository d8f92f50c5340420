"""How does a command of training end? A fault of the user's is one line and exit code 2."""

from __future__ import annotations

from collections.abc import Callable


def guarded(main: Callable[[], None]) -> int:
    try:
        main()
    except ValueError as fault:
        print(f"error: {fault}")
        return 2
    return 0
