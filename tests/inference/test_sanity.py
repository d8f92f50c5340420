"""A network that gives NaN is told at once and ends the run when it goes on."""

import logging

import numpy as np
import pytest

from app.core.errors import ModelError
from app.inference.postprocess import MOST_IN_A_ROW, Sanity

GOOD = [np.ones((1, 6, 10), np.float32), np.array([3])]
BAD = [np.ones((1, 6, 10), np.float32), np.array([1.0, np.nan], np.float32)]


def test_the_first_nan_is_told_with_the_cure(caplog):
    sanity = Sanity("net")
    for _ in range(5):
        sanity.check(BAD)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "net gives NaN" in record.message and "--precision fp32" in record.message


def test_numbers_in_between_forgive(caplog):
    sanity = Sanity("net")
    for _ in range(3):
        for _ in range(MOST_IN_A_ROW - 1):
            sanity.check(BAD)
        sanity.check(GOOD)


def test_a_row_of_them_ends_the_run():
    sanity = Sanity("net")
    with pytest.raises(ModelError, match=f"{MOST_IN_A_ROW} frames in a row"):
        for _ in range(MOST_IN_A_ROW):
            sanity.check(BAD)


def test_infinity_is_a_number():
    sanity = Sanity("net")
    with np.errstate(over="ignore"):
        for _ in range(MOST_IN_A_ROW):
            sanity.check([np.array([np.inf, 3e38], np.float32)])
