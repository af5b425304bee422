"""The parts of the LE that a variant may use: the schema of each one's tables, and where they lie.

In: a part's key in params.yaml and a source, `none`, `le` or a control's name. Out: its schema and path.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.tables import ACTIONS, ITEM_VECTORS, RANKINGS, REWARDS, STATES, Schema

# A variant's key in params.yaml -> the folder under data/ with its tables.
FOLDERS = {"state": "states", "reward": "rewards", "actions": "actions", "ranking": "rankings", "items": "items"}
SCHEMAS: dict[str, Schema] = {
    "state": STATES,
    "reward": REWARDS,
    "actions": ACTIONS,
    "ranking": RANKINGS,
    "items": ITEM_VECTORS,
}


def table_path(data: Path, part: str, source: str) -> Path:
    """The table of a part from a source, such as data/states/le.parquet."""
    return data / FOLDERS[part] / f"{source}.parquet"


def origin(data: Path, part: str) -> Path:
    """The table that tables of a part are made from, whose hash they carry."""
    return data / "interactions" / ("items.parquet" if part == "items" else "interactions.parquet")
