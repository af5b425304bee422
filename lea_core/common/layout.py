"""The signals that the LE gives and a variant may use: a line for each, and where their tables lie.

In: a signal's key in params.yaml and a source, `none`, `le` or a control's name. Out: its schema and path. What else a
new signal needs: docs/extending.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lea_core.common.tables import ACTIONS, ITEM_VECTORS, RANKINGS, REWARDS, STATES, Schema

POLICY = "policy"
# No control, though it is made as they are: the LE's own ranking, and item neighbours beside it.
LE_AND_NEIGHBOURS = "le_item_knn"
LE_SOURCES = ("le", LE_AND_NEIGHBOURS)
_RANKERS = ("popularity", "item_knn", "text", POLICY)


@dataclass(frozen=True)
class Signal:
    """One signal."""

    folder: str  # under data/, with its tables
    schema: Schema
    stage: str  # that makes the LE's
    # What may stand in its place (lea_core/experiments/controls/); `policy` is made by a stage of its own.
    controls: tuple[str, ...]
    origin: str = "interactions.parquet"  # in data/interactions: what its tables are made from, whose hash they carry


SIGNALS = {
    "state": Signal(
        "states",
        STATES,
        "annotate",
        ("shuffled", "random", "constant", "text", "history_length", "future_length"),
    ),
    "reward": Signal("rewards", REWARDS, "annotate", ("shuffled", "logged", "mean", "constant", "popularity")),
    "actions": Signal("actions", ACTIONS, "augment", _RANKERS),
    "ranking": Signal("rankings", RANKINGS, "rank", (*_RANKERS, LE_AND_NEIGHBOURS)),
    "items": Signal("items", ITEM_VECTORS, "tokenize_items", ("shuffled", "random"), "items.parquet"),
}
FOLDERS = {key: signal.folder for key, signal in SIGNALS.items()}
SCHEMAS = {key: signal.schema for key, signal in SIGNALS.items()}


def table_path(data: Path, part: str, source: str) -> Path:
    """The table of a signal from a source, such as data/states/le.parquet."""
    return data / SIGNALS[part].folder / f"{source}.parquet"


def origin(data: Path, part: str) -> Path:
    """The table that tables of a signal are made from, whose hash they carry."""
    return data / "interactions" / SIGNALS[part].origin


def stage_of(part: str, source: str) -> str:
    """The stage that makes a table of a signal."""
    if source == "le":
        return SIGNALS[part].stage
    return "control_policy" if source == POLICY else "control"
