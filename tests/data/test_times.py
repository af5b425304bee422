"""Times of every kind read alike; mixed units, missing times and wrong dates give one line with their row."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lea_core.common.errors import LeaError
from lea_core.data.datasets.columns import Column
from lea_core.data.datasets.tables import read
from lea_core.data.datasets.times import usual_date
from tests.support.tiny_tables import ITEMS, read_column, tables

TIMES = [
    (["1000000000000000003", "1000000000000000001.0"], [10**18 + 3, 10**18 + 1]),  # more digits than a float has
    ([Decimal(10**18 + 1)], [10**18 + 1]),
    (["1.5", "2"], [1_500_000, 2_000_000]),
    (["1970-01-01 00:00:01", "1970-01-01 00:00:00.5"], [1_000_000, 500_000]),
    (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:01Z"], [0, 1_000_000]),
    (["1970-01-02", "1970-01-01"], [86_400_000_000, 0]),
    ([3.0, 2.0], [3, 2]),
    ([0.25, 2.0], [250_000, 2_000_000]),
    (pl.Series([1075.0, 1075.0001220703125], dtype=pl.Float32), [1_075_000_000, 1_075_000_122]),  # float32's next
    ([date(1970, 1, 2), date(1970, 1, 1)], [86_400_000_000, 0]),
    ([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)], [1_000_000]),
    (pl.Series([1, 3]).cast(pl.Datetime("ns")), [1, 3]),  # in microseconds, they would be one moment
]


@pytest.mark.parametrize(("values", "expected"), TIMES)
def test_times(tmp_path: Path, values: list[object] | pl.Series, expected: list[int]) -> None:
    rows = {"who": ["u"] * len(values), "what": [7] * len(values), "when": values}
    pl.DataFrame(rows).write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_text(ITEMS)
    wanted = tables("a.parquet", rating=None, event=None, split=None)
    assert read(tmp_path, wanted, with_split=False).interactions["timestamp"].to_list() == expected


SECONDS = [881_250_949, 881_250_969, 891_717_742]  # 1997-12-04 to 1998-04-04


EXACT = r"cannot tell whole numbers apart: write the column as whole numbers or text$"
UNIT = r": a missing value, or another unit: mend the file: one unit throughout, and no row without a time$"
WIDE = [*range(500_000_000, 1_700_000_001, 50_000_000)]  # 25 dates, 1985 to 2023
YEAR = r"not one of 1902 to 20\d\d: mend the file"
FLOAT32 = pl.Series(SECONDS, dtype=pl.Float32)
WRONG_NUMBERS = [
    ("when", FLOAT32, rf"row 1 \(and 2 more\): holds 881250944\.0, but from 16,777,216 on Float32 {EXACT}"),
    ("when", pl.Series([1, 2**24], dtype=pl.Float32), rf"row 2: holds 16777216\.0, but .* Float32 {EXACT}"),
    ("when", [2.0**53], rf"row 1: holds 9007199254740992\.0, but from 9,007,199,254,740,992 on Float64 {EXACT}"),
    ("when", ["1e18", "1"], rf"row 1: holds 1e\+18, but from .* {EXACT}"),
    ("pos", FLOAT32, rf"row 1 \(and 2 more\): holds 881250944\.0, but .* Float32 {EXACT}"),
    ("who", FLOAT32, rf"row 1 \(and 2 more\): holds 881250944\.0, but .* Float32 {EXACT}"),
    ("what", pl.Series([7, 2**11], dtype=pl.Float16), rf"row 2: holds 2048\.0, but from 2,048 on Float16 {EXACT}"),
    ("when", [*SECONDS, 881_250_950_000], rf"row 4: holds 881250950000, but row 1 881250949{UNIT}"),
    ("when", [881_250_950_000, *SECONDS, 0], rf"row 1 \(and 1 more\): holds 881250950000, but row 2 881250949{UNIT}"),
    ("when", [10**9, 1_690_000_000, 10**12], rf"row 3: holds 1000000000000, but row 1 1000000000{UNIT}"),  # 2001, 2023
    ("when", [*map(str, SECONDS), "0"], rf"row 4: holds '0', but row 1 '881250949'{UNIT}"),
    ("when", [0, 0, 0, *SECONDS], rf"row 1 \(and 2 more\): holds 0, but row 4 881250949{UNIT}"),
    ("when", [*SECONDS, -1], rf"row 4: holds -1, but row 1 881250949{UNIT}"),
    # Dates that are spread widely.
    ("when", [*WIDE, 1_600_000_000_000], rf"row 26: holds 1600000000000, but row 1 500000000{UNIT}"),
    (
        "when",
        [1_600_000_000, *(1000 * time for time in WIDE)],
        rf"row 1: holds 1600000000, but row 2 500000000000{UNIT}",
    ),
    ("when", [0, *WIDE, -1], rf"row 1 \(and 1 more\): holds 0, but row 2 500000000{UNIT}"),
    ("when", [*range(10**8, 1_700_000_000, 10**7), 0], rf"row 161: holds 0, but row 1 100000000{UNIT}"),
    ("pos", [*WIDE, 1_600_000_000_000], rf"row 26: holds 1600000000000, but row 1 500000000{UNIT}"),
    ("when", [881_250_949.5, 88.5], rf"row 2: holds 88\.5, but row 1 881250949\.5{UNIT}"),
    ("when", [date(2010, 1, 1), date(1970, 1, 1)], rf"row 2: holds datetime\.date\(1970, 1, 1\), but row 1 .*{UNIT}"),
    ("pos", [*SECONDS, 881_250_950_000], rf"row 4: holds 881250950000, but row 1 881250949{UNIT}"),
    ("when", [*SECONDS, 4_102_444_800], rf"row 4: holds 4102444800, in seconds since 1970 the year 2100, {YEAR}"),
    ("when", [*SECONDS, -2_208_988_800], rf"row 4: holds -2208988800, in seconds since 1970 the year 1900, {YEAR}"),
    ("when", [32_503_680_000_000], rf"row 1: holds 32503680000000, in milliseconds since 1970 the year 3000, {YEAR}"),
    ("when", [datetime(2010, 1, 1), datetime(2100, 1, 1)], rf"row 2: holds datetime\..*, the year 2100, {YEAR}"),
    ("when", ["2010-01-01", "1899-01-01"], rf"row 2: holds '1899-01-01', the year 1899, {YEAR}"),
    ("when", pl.Series([2**31 - 1]).cast(pl.Date), r"row 1: holds 185542587100800, a date outside the years 1 to 9999"),
    ("who", pl.Series([0, 2**63 - 1]).cast(pl.Datetime), r"row 2: holds .*, a date outside the years 1 to 9999"),
    ("when", [2**64 - 1], r"row 1: holds 18446744073709551615, which is no time: mend the file$"),
    ("when", [float("inf"), 1.0], r"row 1: holds inf, which is no time: mend the file$"),
    ("when", [1.0, float("nan")], r"row 2: is empty: mend the file$"),
    ("pos", [0.5], r"row 1: holds 0\.5, not a whole number: mend the file$"),
    ("pos", ["x"], r"row 1: holds 'x', not a whole number: mend the file$"),
    ("stars", [float("inf")], r"row 1: holds inf, not a number: mend the file$"),
    ("stars", [float("nan")], r"row 1: is empty: mend the file$"),
]


@pytest.mark.parametrize(("role", "values", "message"), WRONG_NUMBERS)
def test_wrong_numbers(tmp_path: Path, role: str, values: object, message: str) -> None:
    with pytest.raises(LeaError, match=rf"^a\.parquet: column '{role}', {message}"):
        read_column(tmp_path, role, values)


FIRST_AND_LAST = [
    (SECONDS, "from 1997-12-04 to 1998-04-04 (seconds since 1970)"),
    ([second * 10**9 for second in SECONDS], "from 1997-12-04 to 1998-04-04 (nanoseconds since 1970)"),
    ([1_304_899_200] * 5 + [-405_129_600], "from 1957-03-01 to 2011-05-09 (seconds since 1970)"),  # as in Last.fm
    ([float(second) + 0.5 for second in SECONDS], "from 1997-12-04 to 1998-04-04 (seconds since 1970)"),
    ([date(1969, 12, 31), date(1970, 1, 2)], "from 1969-12-31 to 1970-01-02"),
    (pl.Series(SECONDS, dtype=pl.UInt64), "from 1997-12-04 to 1998-04-04 (seconds since 1970)"),
    ([3, 0, -1], "counters from -1 to 3, not dates"),
    (list(range(0, 2**40, 2**33)), "counters from 0 to 1090921693184, not dates"),  # microseconds since a start
    (WIDE, "counters from 500000000 to 1700000000, not dates"),
    ([*range(0, 1_700_000_001, 10**8)], "counters from 0 to 1700000000, not dates"),  # 0 is where they start
    ([20_150_101, 20_231_231], "counters from 20150101 to 20231231, not dates"),
    ([0.25, 2.0], "counters from 0.25 to 2.0, not dates"),
]


@pytest.mark.parametrize(("values", "words"), FIRST_AND_LAST)
def test_the_first_and_last_time_are_told(tmp_path: Path, values: list[Any], words: str) -> None:
    assert read_column(tmp_path, "when", values).times == words


@pytest.mark.parametrize("most", [10**power * part for power in range(3, 18) for part in (1, 2, 5)])
def test_what_counts_from_zero_is_never_refused(most: int) -> None:
    """Whatever the unit and the end; evenly, or as times that most users spend soon after they begin."""
    random = np.random.default_rng(0)
    for share in (random.random(300), random.beta(1, 4, 300)):
        counters = pl.Series([0, *(share * most).astype(np.int64), most])
        assert usual_date(Column(counters, "f"), counters) is None
