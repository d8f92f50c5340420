"""What others write fits into one line of log and steers no terminal."""

from __future__ import annotations

import logging

from hypothesis import given, strategies as st

from app.core.text import LONGEST, MOST, ForeignFormatter, foreign


@given(st.text())
def test_any_text_becomes_one_short_printable_line(text: str) -> None:
    told = foreign(text)
    assert told.isprintable() and len(told) <= MOST
    assert told == foreign(told)


def test_credentials_are_masked_before_the_text_is_cut() -> None:
    told = foreign(f"{'a' * (MOST - 20)} http://user:HUNTER2HUNTER2HUNTER2@host/")
    assert "HUNTER" not in told


def test_a_record_is_one_line_and_a_traceback_is_printable() -> None:
    try:
        raise ValueError("one\n\x1b[2J\rkestrel: all is well")
    except ValueError as error:
        fault = (type(error), error, error.__traceback__)
    record = logging.LogRecord("k", logging.ERROR, "f", 1, "it says %s", ("a\nb\x1b[31m",), fault)
    first, *rest = ForeignFormatter("kestrel: %(message)s").format(record).split("\n")
    assert first == "kestrel: it says a b?[31m"
    assert rest[0].startswith("Traceback") and all(line.isprintable() for line in rest)
    record = logging.LogRecord("k", logging.ERROR, "f", 1, "x" * 100_000, None, None)
    assert len(ForeignFormatter("%(message)s").format(record)) <= LONGEST
