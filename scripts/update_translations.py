#!/usr/bin/env python3
"""Brings the window's catalogues (app/gui/translations/*.ts) up to the texts of app/gui/texts.py.

New texts are added without a translation, those that are gone are removed. Open the files with Qt
Linguist or an editor; ``type="unfinished"`` marks what no speaker of the language has read yet.

    python -m scripts.update_translations
"""

from __future__ import annotations

import sys
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from app.gui import texts
from app.gui.languages import CONTEXT, FOLDER

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="{language}" sourcelanguage="en">
<extra-origin>{origin}</extra-origin>
<context>
<name>{context}</name>
"""
MACHINE = "machine translation; unfinished: not read by a speaker yet"


def update(language: str) -> int:
    """Rewrite one catalogue; returns how many texts lack a translation."""
    path = FOLDER / f"kestrel_{language}.ts"
    known: dict[str, tuple[str, str]] = {}
    origin = MACHINE
    if path.is_file():
        root = ElementTree.parse(path).getroot()
        origin = root.findtext("extra-origin", MACHINE)
        for each in root.iter("message"):
            made = each.find("translation")
            if made is not None:
                known[each.findtext("source", "")] = made.text or "", made.get("type", "")
    lines = [HEAD.format(language=language, origin=origin, context=CONTEXT)]
    missing = 0
    for source in texts.english():
        told, kind = known.get(source, ("", "unfinished"))
        missing += not told
        mark = f' type="{kind}"' if kind else ""
        lines.append(
            f"<message><source>{escape(source)}</source>\n"
            f"<translation{mark}>{escape(told)}</translation></message>\n"
        )
    path.write_text("".join([*lines, "</context>\n</TS>\n"]), "utf-8")
    return missing


def main() -> int:
    """All catalogues; 1 while one lacks a text."""
    missing = 0
    for path in sorted(FOLDER.glob("kestrel_*.ts")):
        count = update(path.stem.removeprefix("kestrel_"))
        print(f"{path.name}: {count} texts without a translation")
        missing += count
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
