"""The time column of a user's file, and the mistakes that its numbers hide.

In: a `Column`. Out: its times as int64, and the first and last of them in words.

Whole numbers stay as they are; seconds with fractions become microseconds, and so do dates and times (nanoseconds where
they have any). What numbers mean is told by their size: from 10^8 on (March 1973 in seconds; 10^11 in milliseconds, and
so on to nanoseconds) they are dates, smaller ones are counters, which start anywhere. Numbers that are spread widely,
such as the milliseconds since a start, are counters as well; but not where nearly all are dates in one unit, and the
others are dates in another one or a missing value's 0 or -1, with nothing between.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import numpy as np
import polars as pl

from lea_core.common.errors import LeaError
from lea_core.data.datasets.columns import POINT_ZERO, Column, short, ticks

MICROSECONDS = 10**6
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
FIRST_DATE = 10**8  # seconds since 1970; smaller numbers count something else
MIXED = 100  # a date so many times larger or smaller than the usual one is in another unit, or is a missing one
FEW = 0.1  # the largest share of numbers in another unit, or of missing ones, among dates that are spread widely
GAP = 5  # mean distances; counters that are spread evenly from 0 on leave such a gap above 0 in one of 150 files
SPREAD = 1.7  # the most between the quartiles of dates: 2001 and 2023; those of an even count from 0 are 3 apart
FIRST_YEAR = 1902  # -(2**31) seconds, the least that 32 bits hold, are a day of 1901


def read_times(column: Column) -> tuple[pl.Series, str]:
    """Return times as int64, and words for the first and last.

    Raises `LeaError` naming the first row that holds no time, a time in another unit than most, a missing time (0 among
    dates), or one before FIRST_YEAR or after next year; and on floats so large that they mix up whole numbers.
    """
    values = _of_text(column) if column.values.dtype == pl.String else column.values
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        return _dates(column, values)
    if not values.dtype.is_numeric():
        raise LeaError(f"{column.where} holds {short(values.dtype)}, not numbers or times: convert the column")
    if values.dtype.is_decimal():
        floats = values.cast(pl.Float64)
        values = values.cast(pl.Int64, strict=False) if (floats == floats.floor()).all() else floats
    if values.dtype.is_float():
        column.refuse(~values.is_finite(), "holds {}, which is no time")
        Column(values, column.where).refuse_inexact()
        values = values.cast(pl.Float64)  # float32 has no room for microseconds
    fractions = values.dtype.is_float() and (values != values.floor()).any()
    whole = ((values * MICROSECONDS).round() if fractions else values).cast(pl.Int64, strict=False)
    column.refuse(whole.is_null(), "holds {}, which is no time")
    numbers = values if fractions else whole
    usual = usual_date(column, numbers)
    if usual is None:
        ends = numbers.to_numpy().min(), numbers.to_numpy().max()
        return whole, f"counters from {ends[0]} to {ends[1]}, not dates"
    unit = [name for name, per_second in UNITS.items() if usual >= FIRST_DATE * per_second][-1]
    return whole, f"{_first_and_last(column, numbers, UNITS[unit], unit)} ({unit} since 1970)"


def usual_date(column: Column, numbers: pl.Series, per_second: int = 1) -> float | None:
    """Return a usual size of numbers that are dates, None where they are counters.

    numbers: those of `column`, of `per_second` or more to a second. Raises `LeaError` where one is of another magnitude
    than the dates, naming the first and a row of theirs.
    """
    sizes = numbers.cast(pl.Float64).abs()
    usual = sizes.filter(sizes >= FIRST_DATE * per_second).quantile(0.5, "nearest")
    if usual is None:
        return None
    other = (sizes <= usual / MIXED) | (sizes >= usual * MIXED)
    near = sizes.filter(~other)
    low, high = near.quantile(0.25, "nearest"), near.quantile(0.75, "nearest")
    spread = low is None or high is None or high > SPREAD * low
    if spread:
        other = _strays(sizes.to_numpy())
    row = (~other).arg_true()[0]
    what = f"holds {{}}, but row {row + 1} {column.show(row)}: a missing value, or another unit"
    column.refuse(other, what, "mend the file: one unit throughout, and no row without a time")
    return None if spread else usual


def _strays(sizes: np.ndarray) -> pl.Series:
    """Which of widely spread sizes are in another unit than nearly all, which are dates, or missing; else none of them.

    Counters from 0 on may lie in the range of dates as well, nearly all. But they have smaller ones between it and 0.
    """
    end = _years()[1]
    units = [(sizes >= FIRST_DATE * unit) & (sizes < end * unit) for unit in UNITS.values()]
    usual = max(units, key=np.count_nonzero)
    dates, other = sizes[usual], ~usual
    mixed = 0 < other.sum() <= FEW * len(sizes) and (np.any(units, axis=0) | (sizes <= 1)).all()
    if mixed and (sizes < dates.min()).any():
        mixed = len(dates) * dates.min() >= GAP * dates.max()
    return pl.Series(other & mixed)


def _years() -> tuple[int, int]:
    """Seconds since 1970 of the first moment of FIRST_YEAR, and of the first one after next year."""
    first, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (FIRST_YEAR, datetime.now(UTC).year + 2))
    return int(first.timestamp()), int(end.timestamp())


def _dates(column: Column, values: pl.Series) -> tuple[pl.Series, str]:
    """Dates, or dates and times of any unit and zone; checked before they are converted, which could overflow."""
    numbers, per_second = ticks(values)
    usual_date(column, numbers, per_second)
    words = _first_and_last(column, numbers, per_second)
    if per_second <= MICROSECONDS:
        return numbers * (MICROSECONDS // per_second), words
    return numbers if (numbers % 1000 != 0).any() else numbers // 1000, words


def _first_and_last(column: Column, numbers: pl.Series, per_second: int, unit: str | None = None) -> str:
    """Say the first and last day. Raises `LeaError` where one is no time of an interaction."""
    first, end = _years()
    bad = (numbers < first * per_second) | (numbers >= end * per_second)
    if bad.any():
        year = _calendar(numbers.filter(bad)[0], per_second, "Y")
        read = f" in {unit} since 1970" if unit else ""
        mend = "mend the file" + ("; counters must start near 0" if unit else "")
        years = f"{FIRST_YEAR} to {_calendar(end - 1, 1, 'Y')}"
        column.refuse(bad, f"holds {{}},{read} the year {year}, not one of {years}", mend)
    times = numbers.to_numpy()
    return f"from {_calendar(times.min(), per_second, 'D')} to {_calendar(times.max(), per_second, 'D')}"


def _calendar(number: float, per_second: int, part: Literal["Y", "D"]) -> str:
    """The year or the day of a time; the calendar of NumPy has no last year, Python's has."""
    return str(np.datetime64(int(number // per_second), "s").astype(f"datetime64[{part}]"))


def _of_text(column: Column) -> pl.Series:
    """Numbers or dates that are written as text."""
    values = column.values
    numbers = values.cast(pl.Float64, strict=False)
    if numbers.null_count() < len(numbers):
        column.refuse(numbers.is_null(), "holds {}, not a number as the other rows do")
        # Not by way of floats, which would round large numbers.
        whole = values.str.replace(POINT_ZERO, "").cast(pl.Int64, strict=False)
        return numbers if whole.null_count() else whole
    try:
        times = values.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.PolarsError:  # it recognises no format at all
        times = pl.repeat(None, len(numbers), dtype=pl.Datetime("us"), eager=True)
    column.refuse(times.is_null(), "holds {}, not a number or a date and time")
    return times
