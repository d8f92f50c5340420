"""docs/configuration.md from app/config.py: ``python -m scripts.make_config_docs``.

``page`` gives its text; a test compares it with the committed file.
"""

from __future__ import annotations

from pathlib import Path

from app.config import SETTINGS, TABLES, Setting

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """\
# Configuration

<!-- Made by `python -m scripts.make_config_docs` from app/config.py; change that, not this. -->

Every setting is a key of a TOML file (`--config FILE`) and a flag; a flag overrides the file. A
setting that is given nowhere has its default; where that is empty, it is chosen by what is there,
and the log says what was chosen. `--check` says whether a configuration is sound and runs nothing.
Unknown keys, wrong types and values out of range are refused (exit code 2), with the nearest known
name.

Keys marked ↻ are taken up by a running service on `SIGHUP` (`systemctl reload`); others need a
restart, which the log then says.

```toml
source = "rtsp://camera.local/stream"
score = 0.4

[http]
address = "127.0.0.1:8080"
jpeg_quality = 70
```

The first key of a table may stand for the table: `http = "8080"`, as its flag `--http 8080` does.
A yes-or-no key has two flags, `--wait` and `--no-wait`. A list in the file is its flag repeated,
numbers are joined by commas (`--devices 0,1`).
"""
KINDS = {
    **{"str": "text", "int": "whole number", "float": "number", "bool": "true, false"},
    **{"list[str]": "list of texts", "tuple[str, ...]": "list of texts"},
    "tuple[int, ...]": "list of whole numbers",
    "tuple[Table, ...]": "tables `[[…]]`, see [outputs](outputs.md#tracks-zones-lines-and-rules)",
}


def page() -> str:
    """The whole page."""
    parts = [HEAD, "\n## Top level\n\n", _table(""), "\n"]
    for name, kind in TABLES.items():
        parts += [f"\n## `[{name}]`\n\n{kind.__doc__}\n\n", _table(name), "\n"]
    return "".join(parts)


def _table(name: str) -> str:
    rows = ["| key | flag of | values | default | what |", "| --- | --- | --- | --- | --- |"]
    return "\n".join(rows + [_row(each) for each in SETTINGS if each.table == name])


def _row(setting: Setting) -> str:
    key = setting.key
    flag = f"`{setting.flag}` {', '.join(key.commands)}" if key.commands else ""
    helps = [key.help, *(f"{command}: {text}" for command, text in key.helps.items())]
    cells = (
        f"`{setting.name}`{' ↻' * key.reload}",
        flag,
        _values(setting),
        _default(setting.default),
        "; ".join(helps),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(setting: Setting) -> str:
    key = setting.key
    if key.choices:
        return ", ".join(f"`{each}`" for each in key.choices)
    kind = KINDS[setting.kind]
    return kind if key.limits is None else f"{kind}, {key.limits[0]:,.15g} to {key.limits[1]:,.15g}"


def _default(value: object) -> str:
    if value is None or value in ((), []):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
