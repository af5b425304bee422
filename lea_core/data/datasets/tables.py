"""The user's own two files -> interactions and items.

In: the files that `datasets.fetch` copied, by ending CSV, TSV (either may be gzipped), Parquet or RecBole's atomic
files (.inter, .item: tab-separated, no quoting, a header of `name:type`); params.Columns says what their columns are
called. Out: a `Raw`.

Every column that params.yaml names must be filled in every row. Any kind of id becomes text, whole numbers without a
point: a file of floats and one of integers have the same ids. times.py says what a time may be. Rows in messages count
data rows from 1.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lea_core.common.errors import LeaError
from lea_core.data.datasets import raw_name
from lea_core.data.datasets.columns import Column, as_text, coded, has_text, plain, short, take, whole_ids
from lea_core.data.datasets.times import read_times, usual_date
from lea_core.data.sequences import SPLITS
from lea_core.params import Columns, Tables


@dataclass(frozen=True)
class Raw:
    """What a dataset holds, before anything is filtered.

    interactions: user_id, item_id, timestamp (int64), order (int64; `row` where no column gives it), row (int64, from
    1), event ("" without events), rating (float32, NaN without ratings), split ("" where not asked for); file order.
    Ids, events and splits are Enums, their categories in byte order (train, valid, test for the splits).
    items: item_id, text ("" where all columns of the template are empty).  source: the interactions' name in messages.
    times: the first and last time of all rows, in words.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    source: str
    times: str


def read(folder: Path, tables: Tables, with_split: bool) -> Raw:
    """Read and check the two raw files.

    Raises `LeaError` naming file, column and first bad row on: an unreadable file, a missing column, a null, a value of
    the wrong type, a wrong time, a repeated item id, an interaction with an item that the items file lacks, an unknown
    column in the text template, and (where `with_split`) a split other than train, valid, test.
    """
    raw_items = _read_file(folder, "items", tables.items.source)
    column = take(raw_items, tables.columns.item, tables.items.source, "item")
    item_ids = column.ids()
    texts = item_text(raw_items, tables.text, tables.items.source)

    source = tables.interactions.source
    unread = set() if with_split else {"split"}
    wanted = {name for name in tables.columns.model_dump(exclude=unread).values() if name is not None}
    raw = _read_file(folder, "interactions", source, wanted)
    interactions, times = _interactions(raw, tables.columns, source, with_split)
    item_ids, used = whole_ids(item_ids, interactions["item_id"])
    column.refuse(~item_ids.is_first_distinct(), "repeats the item {} of a row above")
    _check_items(used, item_ids, f"{source}: column {tables.columns.item!r}", tables.items.source)
    interactions = interactions.with_columns(item_id=coded(used))
    return Raw(interactions, pl.DataFrame({"item_id": item_ids, "text": texts}), source, times)


def _check_items(wanted: pl.Series, known: pl.Series, where: str, items_source: str) -> None:
    """Refuse the first interaction with an unknown item; each distinct id is looked up once."""
    distinct = wanted.unique()
    unknown = distinct.filter(~distinct.cast(pl.String).is_in(known.implode()))
    Column(wanted, where).refuse(wanted.is_in(unknown.implode()), f"item {{}} is not in {items_source}")


def _read_file(folder: Path, part: str, source: str, wanted: set[str] | None = None) -> pl.DataFrame:
    """Read a file; of Parquet, the `wanted` columns alone, or all where one is missing: the message lists all."""
    path = folder / raw_name(part, source)
    if not path.exists():
        raise LeaError(f"{path}: not found: run `dvc repro` to make it")
    try:
        if path.suffix == ".parquet":
            frame = _read_parquet(path, wanted)
        elif path.suffix in (".inter", ".item"):
            frame = pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
            frame = frame.rename(lambda name: name.split(":")[0])
        else:
            frame = pl.read_csv(path, separator="," if ".csv" in path.name else "\t", infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError, UnicodeError) as error:
        reason = short(str(error).strip().partition("\n")[0])
        raise LeaError(f"{source}: cannot be read ({reason}): the file is cut short, damaged or misnamed") from None
    if frame.is_empty():
        raise LeaError(f"{source}: has no rows: mend dataset.{part}.source")
    return frame


def _read_parquet(path: Path, wanted: set[str] | None) -> pl.DataFrame:
    schema = pq.read_schema(path)
    columns = sorted(wanted) if wanted and wanted <= set(schema.names) else None
    if {getattr(field.type, "tz", None) for field in schema} <= {None, "UTC"}:
        return pl.read_parquet(path, columns=columns)
    # Polars panics on zones such as +05:30. They are a mere label: whatever the zone, the file holds times in UTC.
    table = pq.read_table(path, columns=columns)
    return pl.DataFrame(table.cast(pa.schema([_in_utc(field) for field in table.schema])))


def _in_utc(field: pa.Field) -> pa.Field:
    zone = pa.types.is_timestamp(field.type) and field.type.tz
    return field.with_type(pa.timestamp(field.type.unit, "UTC")) if zone else field


def _interactions(raw: pl.DataFrame, columns: Columns, source: str, with_split: bool) -> tuple[pl.DataFrame, str]:
    """Return the interactions as in `Raw`, and their first and last time in words."""

    def optional(key: str) -> Column | None:
        name = getattr(columns, key)
        return None if name is None else take(raw, name, source, key)

    rows = pl.int_range(1, raw.height + 1, dtype=pl.Int64, eager=True)
    no_text = pl.repeat("", raw.height, dtype=pl.Enum([""]), eager=True)
    no_number = pl.repeat(float("nan"), raw.height, dtype=pl.Float32, eager=True)
    times, words = read_times(take(raw, columns.timestamp, source, "timestamp"))
    interactions = pl.DataFrame(
        {
            "user_id": coded(whole_ids(coded(take(raw, columns.user, source, "user").ids()))[0]),
            "item_id": coded(take(raw, columns.item, source, "item").ids()),
            "timestamp": times,
            "order": rows if (order := optional("order")) is None else _order(order),
            "row": rows,
            "event": no_text if (event := optional("event")) is None else coded(event.text()),
            "rating": no_number if (rating := optional("rating")) is None else rating.floats(),
            "split": _splits(optional("split")) if with_split else no_text,
        }
    )
    return interactions, words


def _order(column: Column) -> pl.Series:
    numbers = column.integers()
    usual_date(column, numbers)
    return numbers


def _splits(column: Column | None) -> pl.Series:
    if column is None:
        raise LeaError("dataset.columns.split is null, but preprocess.split.method is column: name the column")
    values = column.text()
    column.refuse(~values.is_in(SPLITS), f"holds {{}}, not one of {', '.join(SPLITS)}")
    return values.cast(pl.Enum(SPLITS))


def item_text(items: pl.DataFrame, template: str, source: str) -> pl.Series:
    """Fill `template` ("{title}. {brand}"; {{ and }} are braces) from each item's columns; nulls count as empty.

    An item whose columns are all empty gets the text "", whatever else the template says. Lists are joined by commas.
    Raises `LeaError` on a malformed template, on one that names no column, an unknown one or one whose values have no
    plain text, and on bytes that are not UTF-8.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise LeaError(f"dataset.text: {template!r}: {error}: write each column as {{name}}") from None
    fields = [field for _, field, _, _ in parts if field is not None]
    if not fields or any(spec or conversion for _, _, spec, conversion in parts):
        raise LeaError(f"dataset.text: {template!r}: write one or more columns, each as {{name}} with nothing after it")
    for field in fields:
        if field not in items.columns:
            raise LeaError(f"dataset.text: {source} has no column {field!r}: it has {', '.join(items.columns)}")
    texts = pl.DataFrame({field: _plain_text(items[field], f"{source}: column {field!r}") for field in fields})
    pieces = [
        piece
        for literal, field, _, _ in parts
        for piece in (pl.lit(literal), pl.lit("") if field is None else pl.col(field))
    ]
    filled = pl.any_horizontal(pl.all() != "")
    text = pl.when(filled).then(pl.concat_str(pieces).str.strip_chars()).otherwise(pl.lit(""))
    return texts.select(text=text)["text"]


def _plain_text(values: pl.Series, where: str) -> pl.Series:
    """A column as text, that of lists joined; nulls and NaN count as empty."""
    values = plain(values, where)
    is_list = isinstance(values.dtype, pl.List)
    kind = values.clear().explode().dtype if is_list else values.dtype
    if not has_text(kind):
        raise LeaError(f"{where} holds {short(values.dtype)}, not text, numbers or lists of these: mend dataset.text")
    text = as_text(pl.element() if is_list else pl.col(values.name), kind)
    if is_list:
        text = pl.col(values.name).list.eval(text).list.join(", ", ignore_nulls=True)
    return values.to_frame().select(text.fill_null("").str.strip_chars()).to_series()
