"""The parts of the LE that a variant may use, and where the tables of each lie.

In: a variant. Out: where each part comes from, by the part's key in params.yaml: `none`, `le`, or a control's name.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.params import Variant
from lea_core.tables import ACTIONS, RANKINGS, REWARDS, STATES, Schema

FOLDERS = {"state": "states", "reward": "rewards", "actions": "actions", "ranking": "rankings"}  # under data/
SCHEMAS: dict[str, Schema] = {"state": STATES, "reward": REWARDS, "actions": ACTIONS, "ranking": RANKINGS}


def sources(variant: Variant) -> dict[str, str]:
    """Where each part of the variant comes from."""
    return {
        "state": variant.state,
        "reward": variant.reward,
        "actions": variant.actions,
        "ranking": variant.ranking,
    }


def table_path(data: Path, part: str, source: str) -> Path:
    """The table of a part from a source, such as data/states/le.parquet."""
    return data / FOLDERS[part] / f"{source}.parquet"
