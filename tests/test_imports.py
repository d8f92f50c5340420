"""Who may import whom, as one table. A new file in a known room needs no change here."""

from __future__ import annotations

import ast
from pathlib import Path

APP = Path(__file__).parents[1] / "app"
BASE = {"core", "pipeline", "config"}
MODELS, ENGINES = {"models"}, {"inference", "cuda"}
LEAVES = MODELS | ENGINES | {"sources", "sinks", "ops", "analytics"}
ROOMS: dict[str, set[str]] = {
    "core": set(),
    "pipeline": {"core"},
    "options": {"core"},
    "toml_file": {"core", "options"},
    "config": {"core", "pipeline", "options", "toml_file"},
    "models": BASE,
    "inference": BASE | MODELS,
    "cuda": BASE | MODELS | {"inference"},
    "sources": BASE,
    "sinks": BASE,
    "analytics": {"core", "config"},
    "ops": BASE,
    "fleet": BASE | {"analytics", "models", "ops", "sinks"},
    "session": BASE | {"ops"},
    "gui": {"core", "session", "ops"},
    "runtime": BASE | LEAVES | {"session", "gui", "fleet"},
    "archive": BASE | LEAVES | {"runtime"},
    "commands": BASE | LEAVES | {"session", "gui", "runtime", "fleet", "archive"},
    "api": BASE | LEAVES | {"runtime"},
    "__main__": {"commands"},
    "__init__": {"api", "core"},
}
HOMES = {  # of other people's libraries
    **{"PyQt5": {"gui"}, "pyqtgraph": {"gui"}, "pynvml": {"ops"}},
    **{"onnxruntime": MODELS, "openvino": {"inference"}, "onnx": MODELS | {"cuda"}},
    **{"pycuda": {"cuda"}, "tensorrt": ENGINES, "torch": set(), "pycocotools": {"commands"}},
    **{"av": {"sinks", "sources"}, "aiohttp": {"sinks"}, "prometheus_client": {"sinks"}},
    **{"paho": {"sinks"}, "lap": {"analytics"}, "psutil": {"session", "commands"}},
    **{"tomlkit": {"session"}, "nats": {"fleet", "commands"}, "nacl": {"fleet"}},
    **{"ray": {"archive"}, "pyarrow": {"archive"}},
}


def test_every_file_imports_only_what_its_room_may() -> None:
    wrong = []
    for path in APP.rglob("*.py"):
        parts = path.relative_to(APP).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = parts[: len(parts) - node.level]
                named = (node.module or "").split(".") if node.module else ["__init__"]
                room = (*base, *named)[0]
                if room not in ROOMS[parts[0]] | {parts[0], "__init__"}:
                    wrong.append(f"{path.relative_to(APP)} imports {room}")
            elif isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                if parts[0] not in HOMES.get(module.split(".")[0], {parts[0]}):
                    wrong.append(f"{path.relative_to(APP)} imports {module}")
    assert not wrong
