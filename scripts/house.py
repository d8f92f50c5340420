"""Facts about the structure of app/: files, lines, import circles, doubled class names.

    python scripts/house.py [ROOT]

Imports inside a function do not count as part of a circle: they run later.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

LONGEST = 8


def main(root: Path) -> int:
    """Print the facts of the package below ``root``; 1 if there is a circle or a doubled name."""
    files = sorted(root.rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {path: text.count("\n") for path, text in texts.items()}
    names = {_module(path, root): path for path in files}
    imports = {name: _imported(trees[path], name, names) for name, path in names.items()}
    circles = _circles(imports)
    doubled = _doubled(trees, root)
    print(f"{len(files)} files, {sum(lines.values())} lines")
    for circle in circles:
        print(f"circle: {' -> '.join(circle)}")
    for name, places in sorted(doubled.items()):
        print(f"doubled: {name} in {', '.join(places)}")
    print(f"{len(circles)} circles, {len(doubled)} doubled class names")
    for path in sorted(files, key=lambda path: -lines[path])[:LONGEST]:
        print(f"{lines[path]:6} {path.relative_to(root)}")
    return 1 if circles or doubled else 0


def _module(path: Path, root: Path) -> tuple[str, ...]:
    parts = path.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _imported(
    tree: ast.Module, here: tuple[str, ...], names: dict[tuple[str, ...], Path]
) -> set[tuple[str, ...]]:
    """Modules of the package that the module ``here`` imports when it is itself imported."""
    package = here if names[here].name == "__init__.py" else here[:-1]
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base += tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                full = (*base, alias.name)
                found.add(full if full in names else base)
    return found - {here, ()}


def _circles(imports: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[list[str]]:
    """One circle for each module from which a walk along the imports comes back."""
    circles, done = [], set()
    for start in imports:
        stack = [(start, [start])]
        seen: set[tuple[str, ...]] = set()
        while stack:
            here, path = stack.pop()
            for there in imports.get(here, ()):
                if there == start and frozenset(path) not in done:
                    done.add(frozenset(path))
                    circles.append([".".join(name) for name in [*path, start]])
                elif there not in seen:
                    seen.add(there)
                    stack.append((there, [*path, there]))
    return circles


def _doubled(trees: dict[Path, ast.Module], root: Path) -> dict[str, list[str]]:
    places = defaultdict(list)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(root)))
    return {name: files for name, files in places.items() if len(files) > 1}


if __name__ == "__main__":
    default = Path(__file__).resolve().parents[1] / "app"
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
