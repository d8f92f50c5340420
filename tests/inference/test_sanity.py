"""A network that gives NaN is told at once and ends the run when it goes on."""

import logging

import numpy as np
import pytest

from app.core.errors import ModelError
from app.inference.postprocess import MOST_IN_A_ROW, NanGuard

GOOD = [np.ones((1, 6, 10), np.float32), np.array([3])]
BAD = [np.ones((1, 6, 10), np.float32), np.array([1.0, np.nan], np.float32)]


def test_the_first_nan_is_told_with_the_cure(caplog):
    nan_guard = NanGuard("net")
    for _ in range(5):
        nan_guard.check(BAD)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "net gives NaN" in record.message and "--precision fp32" in record.message


def test_numbers_in_between_forgive(caplog):
    nan_guard = NanGuard("net")
    for _ in range(3):
        for _ in range(MOST_IN_A_ROW - 1):
            nan_guard.check(BAD)
        nan_guard.check(GOOD)


def test_a_row_of_them_ends_the_run():
    nan_guard = NanGuard("net")
    with pytest.raises(ModelError, match=f"{MOST_IN_A_ROW} frames in a row"):
        for _ in range(MOST_IN_A_ROW):
            nan_guard.check(BAD)


def test_infinity_is_a_number():
    nan_guard = NanGuard("net")
    with np.errstate(over="ignore"):
        for _ in range(MOST_IN_A_ROW):
            nan_guard.check([np.array([np.inf, 3e38], np.float32)])
