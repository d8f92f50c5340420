"""Every relative link, anchor and path in the Markdown pages leads somewhere."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import ROOT, name_of, pages, prose

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
# a path of the project without a placeholder in it, as `app/NAME.py` has one
PATH = re.compile(r"(?:app|docs|kernels|models|scripts|tests)/[a-z0-9_./]*")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Of the headings, as GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), re.MULTILINE):
        text = LINK.sub(lambda link: link[0][1:].partition("]")[0], heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        names.add(f"{slug}-{count}" if count else slug)
    return frozenset(names)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.finditer(CODE.sub("", prose(page))):
        target = unquote(link["target"])
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        found = there.is_relative_to(ROOT) and there.exists()
        if not found or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_paths_exist(page: Path) -> None:
    told = {text for text in CODE.findall(prose(page)) if PATH.fullmatch(text)}
    assert not {path for path in told if not (ROOT / path).exists()}
