"""Two small files of a user, and what is read of them, or of one column with other values."""

import io
from pathlib import Path
from typing import Any

import polars as pl

from lea_core.data.datasets.tables import Raw, read
from lea_core.params import Columns, FileSource, Tables

INTERACTIONS = """\
who,what,when,stars,kind,fold
u1,7,100,4.5,view,train
u2,8,90,3,buy,train
u1,8,100,1,view,test
"""
ITEMS = """\
what,title,brand
7,Saw,Acme
8,"Nails, long",
9,,
"""
COLUMNS = {"user": "who", "item": "what", "timestamp": "when", "rating": "stars", "event": "kind", "split": "fold"}


def tables(
    interactions: str = "clicks.csv", items: str = "goods.csv", text: str = "{title} by {brand}", **columns: Any
) -> Tables:
    return Tables(
        name="tables",
        interactions=FileSource(source=interactions, sha256=None),
        items=FileSource(source=items, sha256=None),
        columns=Columns(**({"order": None} | COLUMNS | columns)),
        text=text,
    )


def write(folder: Path, interactions: str = INTERACTIONS, items: str = ITEMS) -> None:
    (folder / "interactions.csv").write_text(interactions, encoding="utf-8")
    (folder / "items.csv").write_text(items, encoding="utf-8")


def csv(text: str) -> pl.DataFrame:
    return pl.read_csv(io.StringIO(text))


def edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def frame(role: str, values: object) -> pl.DataFrame:
    column = values if isinstance(values, pl.Series) else pl.Series(values, strict=False)
    count = len(column)
    rows = {
        "who": ["u"] * count,
        "what": [7] * count,
        "when": range(count),
        "pos": range(count),
        "stars": [3.0] * count,
    }
    return pl.DataFrame(rows).with_columns(column.alias(role))


def read_column(folder: Path, role: str, values: object) -> Raw:
    frame(role, values).write_parquet(folder / "interactions.parquet")
    (folder / "items.csv").write_text(ITEMS)
    return read(folder, tables("a.parquet", event=None, split=None, order="pos"), with_split=False)
