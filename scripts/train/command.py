"""What the commands of training share."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Of ``python -m NAME``."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def guarded(main: Callable[[], None]) -> int:
    """Run it; the exit code: a fault of the user's is one line and 2."""
    try:
        main()
    except ValueError as fault:
        print(f"error: {fault}")
        return 2
    return 0
