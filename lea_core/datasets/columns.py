"""One column of a user's file and its conversions; each names the first row that it cannot convert.

In: a polars column. Out: the column as text, numbers or times without nulls, or a `LeaError` in one line. Text that
comes again and again (ids, events, splits) becomes an Enum of polars: as codes, a log of ten million rows takes a
third of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from lea_core.errors import LeaError

MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Column:
    """The values of a column without nulls, and what messages call it."""

    values: pl.Series
    where: str

    def refuse(self, bad: pl.Series, what: str) -> None:
        """Raise `LeaError` where `bad`, one bool per row, is true anywhere; {} in `what` is the first such value."""
        rows = bad.arg_true()
        if len(rows):
            more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
            value = what.format(repr(self.values[rows[0]]))
            raise LeaError(f"{self.where}, row {rows[0] + 1}{more}: {value}: mend the file")

    def text(self) -> pl.Series:
        """Any kind of plain value as text."""
        if self.values.dtype.is_nested() or self.values.dtype == pl.Binary:
            raise LeaError(f"{self.where} holds {self.values.dtype}, not text or numbers: convert the column")
        return self.values.cast(pl.String)

    def ids(self) -> pl.Series:
        """Ids as text; an empty text is no id."""
        values = self.text()
        self.refuse(values == "", "is empty")
        return values

    def floats(self) -> pl.Series:
        """Numbers, or text of numbers, as float32."""
        return self._numbers(pl.Float32, "a number")

    def integers(self) -> pl.Series:
        """Whole numbers, or text of whole numbers, as int64."""
        numbers = self._numbers(pl.Int64, "a whole number")
        if self.values.dtype != pl.String:
            self.refuse(self.values != numbers, "holds {}, not a whole number")
        return numbers

    def times(self) -> pl.Series:
        """Return times as int64: whole numbers as they are, seconds with fractions and dates as microseconds."""
        values = self.values
        if values.dtype == pl.String:
            values = self._times_of_text()
        if values.dtype.is_decimal():
            values = values.cast(pl.Float64)
        if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
            return values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None))).dt.epoch("us")
        if not values.dtype.is_numeric():
            raise LeaError(f"{self.where} holds {values.dtype}, not numbers or times: convert the column")
        if values.dtype.is_float() and (values != values.floor()).any():
            values = (values * MICROSECONDS).round()
        whole = values.cast(pl.Int64, strict=False)
        self.refuse(whole.is_null(), "holds {}, which is no time")
        return whole

    def _times_of_text(self) -> pl.Series:
        numbers = self.values.cast(pl.Float64, strict=False)
        if numbers.null_count() < len(numbers):
            self.refuse(numbers.is_null(), "holds {}, not a number as the other rows do")
            whole = self.values.cast(pl.Int64, strict=False)  # not by way of floats, which would round large numbers
            return numbers if whole.null_count() else whole
        try:
            times = self.values.str.to_datetime(time_unit="us", strict=False)
        except pl.exceptions.PolarsError:  # it recognises no format at all
            times = pl.repeat(None, len(numbers), dtype=pl.Datetime("us"), eager=True)
        self.refuse(times.is_null(), "holds {}, not a number or a date and time")
        return times

    def _numbers(self, dtype: type[pl.DataType], wanted: str) -> pl.Series:
        if not (self.values.dtype.is_numeric() or self.values.dtype == pl.String):
            raise LeaError(f"{self.where} holds {self.values.dtype}, not {wanted}s: convert the column")
        numbers = self.values.cast(dtype, strict=False)
        self.refuse(numbers.is_null() | numbers.is_nan(), f"holds {{}}, not {wanted}")
        return numbers


def coded(values: pl.Series) -> pl.Series:
    """Text as an Enum of its distinct values in byte order: the same values and order, in four bytes a row or fewer."""
    return values if isinstance(values.dtype, pl.Enum) else values.cast(pl.Enum(values.unique().sort()))


def codes(values: pl.Series) -> np.ndarray:
    """(N,) each value's place, from 0, in the byte order of the Enum's categories, or of the text's distinct values."""
    numbers: np.ndarray = coded(values).to_physical().to_numpy()
    return numbers


def take(frame: pl.DataFrame, name: str, source: str, key: str) -> Column:
    """Return column `name` of `source`, which params.yaml calls `dataset.columns.<key>`.

    Raises `LeaError` where it is missing or has nulls (NaN counts as one).
    """
    if name not in frame.columns:
        has = ", ".join(frame.columns)
        raise LeaError(f"{source}: column {name!r} is missing: mend dataset.columns.{key}; the file has {has}")
    values = frame[name]
    values = values.fill_nan(None) if values.dtype.is_float() else values
    column = Column(values, f"{source}: column {name!r}")
    column.refuse(values.is_null(), "is empty")
    return column
