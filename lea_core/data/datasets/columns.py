"""One column of a user's file and its conversions; each names the first row that it cannot convert.

In: a polars column. Out: the column as text or numbers without nulls (times.py: as times), or a `LeaError` in one line.
Whole numbers are the same however they are kept: the float 7.0, the decimal 7.00 and the integer 7 are the id "7". Text
that comes again and again (ids, events, splits) becomes an Enum of polars: as codes, a log of ten million rows takes a
third of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from lea_core.common.errors import LeaError

# From here on a float of the type skips whole numbers: two different ones are kept as the same.
EXACT_BELOW = {"Float16": 2**11, "Float32": 2**24, "Float64": 2**53}
POINT_ZERO = r"\.0+$"
DAY = 86_400
YEAR_1, YEAR_10000 = -62_135_596_800, 253_402_300_800  # in seconds since 1970: the dates that have a text


@dataclass(frozen=True)
class Column:
    """The values of a column without nulls, and what messages call it."""

    values: pl.Series
    where: str

    def refuse(self, bad: pl.Series, what: str, mend: str = "mend the file") -> None:
        """Raise `LeaError` where `bad`, one bool per row, is true anywhere; {} in `what` is the first such value."""
        rows = bad.arg_true()
        if len(rows):
            more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
            raise LeaError(f"{self.where}, row {rows[0] + 1}{more}: {what.format(self.show(rows[0]))}: {mend}")

    def show(self, row: int) -> str:
        """The value of a row as messages have it."""
        value = self.values[row]
        return short(repr(value.to_list() if isinstance(value, pl.Series) else value))

    def text(self) -> pl.Series:
        """Any kind of plain value as text."""
        if not has_text(self.values.dtype):
            raise LeaError(f"{self.where} holds {short(self.values.dtype)}, not text or numbers: convert the column")
        return pl.select(as_text(pl.lit(self.values), self.values.dtype)).to_series()

    def ids(self) -> pl.Series:
        """Ids as text; an empty text is no id, nor is a number so large that a float of its type mixes it up."""
        self.refuse_inexact()
        values = self.text()
        self.refuse(values == "", "is empty")
        return values

    def floats(self) -> pl.Series:
        """Numbers, or text of numbers, as float32."""
        numbers = self._numbers(self.values, pl.Float32, "numbers")
        self.refuse(~numbers.is_finite(), "holds {}, not a number")
        return numbers

    def integers(self) -> pl.Series:
        """Whole numbers, or text of whole numbers, as int64."""
        self.refuse_inexact()
        is_text = self.values.dtype == pl.String
        values = self.values.str.replace(POINT_ZERO, "") if is_text else self.values
        numbers = self._numbers(values, pl.Int64, "whole numbers")
        self.refuse(numbers.is_null(), "holds {}, not a whole number")
        if not is_text:
            self.refuse(values != numbers, "holds {}, not a whole number")
        return numbers

    def refuse_inexact(self) -> None:
        """Raise `LeaError` on a float so large that its neighbours among the whole numbers cannot be told from it."""
        kind = str(self.values.dtype)
        if kind in EXACT_BELOW:
            limit = EXACT_BELOW[kind]
            what = f"holds {{}}, but from {limit:,} on {kind} cannot tell whole numbers apart"
            self.refuse(self.values.abs() >= limit, what, "write the column as whole numbers or text")

    def _numbers(self, values: pl.Series, dtype: type[pl.DataType], wanted: str) -> pl.Series:
        if not (values.dtype.is_numeric() or values.dtype == pl.String):
            raise LeaError(f"{self.where} holds {short(values.dtype)}, not {wanted}: convert the column")
        numbers = values.cast(dtype, strict=False)
        self.refuse(numbers.is_null(), f"holds {{}}, not a {wanted.removesuffix('s')}")
        return numbers


def short(value: object) -> str:
    """A value or type in an error's words, cut to a part of a line."""
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def has_text(dtype: pl.DataType) -> bool:
    """Whether values of this type have one obvious text; durations and what is nested have none."""
    plain = dtype in (pl.String, pl.Boolean, pl.Date, pl.Time, pl.Null) or isinstance(dtype, pl.Datetime)
    return plain or dtype.is_numeric()


def as_text(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Values of a type that `has_text` as text; whole numbers without a point, NaN as null."""
    values = values.fill_nan(None) if dtype.is_float() else values
    text = values.cast(pl.String)
    return text.str.replace(POINT_ZERO, "") if dtype.is_float() or dtype.is_decimal() else text


def whole_ids(*columns: pl.Series) -> list[pl.Series]:
    """Columns of ids as they are, or without the ".0" that a float leaves behind where all of all are whole numbers.

    columns: text or Enum, of ids that stand for the same things. Ids such as the version "1.0" beside "2.0-beta" stay.
    """
    distinct = pl.concat([values.unique().cast(pl.String) for values in columns])
    if distinct.str.contains(POINT_ZERO).any() and distinct.str.contains(r"^-?\d+(\.0+)?$").all():
        return [values.cast(pl.String).str.replace(POINT_ZERO, "") for values in columns]
    return list(columns)


def coded(values: pl.Series) -> pl.Series:
    """Text as an Enum of its distinct values in byte order: the same values and order, in four bytes a row or fewer."""
    return values if isinstance(values.dtype, pl.Enum) else values.cast(pl.Enum(values.unique().sort()))


def codes(values: pl.Series) -> np.ndarray:
    """(N,) each value's place, from 0, in the byte order of the Enum's categories, or of the text's distinct values."""
    numbers: np.ndarray = coded(values).to_physical().to_numpy()
    return numbers


def plain(values: pl.Series, where: str) -> pl.Series:
    """Categories and bytes as the text that they are, also in lists; fixed-size lists as lists.

    Raises `LeaError` where bytes are not UTF-8, and on dates outside the years 1 to 9999, as "infinite" ones are.
    """
    if isinstance(values.dtype, pl.BaseExtension):
        values = values.ext.storage()
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        numbers, per_second = ticks(values)
        real = (numbers // per_second).is_between(YEAR_1, YEAR_10000, closed="left")
        Column(numbers, where).refuse(~real, "holds {}, a date outside the years 1 to 9999")
    is_list = isinstance(values.dtype, pl.List)
    inner = values.dtype.inner if isinstance(values.dtype, pl.List) else values.dtype
    if inner in (pl.Binary, pl.Categorical, pl.Enum):
        try:
            return values.cast(pl.List(pl.String) if is_list else pl.String)
        except pl.exceptions.ComputeError:
            bad = values.map_elements(_is_no_text, return_dtype=pl.Boolean)
            Column(values, where).refuse(bad, "holds {}, bytes that are not UTF-8 text")
    return values


def ticks(values: pl.Series) -> tuple[pl.Series, int]:
    """Dates, or dates and times, as int64 since 1970, and how many make a second."""
    numbers = values.to_physical().cast(pl.Int64)
    if isinstance(values.dtype, pl.Datetime):
        return numbers, {"ms": 10**3, "us": 10**6, "ns": 10**9}[values.dtype.time_unit]
    return numbers * DAY, 1


def _is_no_text(value: bytes | pl.Series) -> bool:
    """Whether bytes, or some of a list, are not UTF-8."""
    try:
        for part in [value] if isinstance(value, bytes) else value.drop_nulls():
            part.decode()
    except UnicodeDecodeError:
        return True
    return False


def take(frame: pl.DataFrame, name: str, source: str, key: str) -> Column:
    """Return column `name` of `source`, which params.yaml calls `dataset.columns.<key>`.

    Raises `LeaError` where it is missing or has nulls (NaN counts as one).
    """
    if name not in frame.columns:
        has = ", ".join(frame.columns)
        raise LeaError(f"{source}: column {name!r} is missing: mend dataset.columns.{key}; the file has {has}")
    where = f"{source}: column {name!r}"
    values = plain(frame[name], where)
    values = values.fill_nan(None) if values.dtype.is_float() else values
    column = Column(values, where)
    column.refuse(values.is_null(), "is empty")
    return column
