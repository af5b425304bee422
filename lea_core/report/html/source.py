"""What the page reads: the report's files, and the few of data/ that the report has not.

In: a report folder and data/. Out: what the report concludes and how it measured; rows of CSV files with numbers where
they are numbers, None for a file that is not there (its section is left out); what kind of thing a variant is; the
interval of a metric over users.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.common.artifacts import read_json
from lea_core.common.errors import LeaError
from lea_core.common.layout import FOLDERS
from lea_core.common.tables import RANKS, read_table, to_numpy
from lea_core.metrics.ranking import by_name

Value = str | float | None
WITH_SEEDS = ("low_with_seeds", "high_with_seeds")  # of a difference: its 95 % interval over users and seeds


@dataclass(frozen=True)
class Source:
    """A report folder, data/, the metric of the headline, and the signals of the LE that variants use."""

    folder: Path
    data: Path
    metric: str
    signals: frozenset[str] = frozenset(FOLDERS)

    @property
    def le(self) -> bool:
        """Whether a variant uses the LE. What data/ has of one that none uses is of another run."""
        return bool(self.signals - {"items"})

    def csv(self, name: str) -> list[dict[str, Value]] | None:
        """Rows of a CSV file of the report; None where there is none or it has no row."""
        return read_csv(self.folder / name)

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON object below data/; None where there is none."""
        return read_json(self.data / name) if (self.data / name).exists() else None

    @cached_property
    def table(self) -> list[dict[str, Value]]:
        """Rows of table.csv. Raises `LeaError` where it is not there."""
        found = self.csv("table.csv")
        if not found:
            raise LeaError(f"{self.folder / 'table.csv'}: not found or empty: run `dvc repro`")
        return found

    @cached_property
    def verdicts(self) -> dict[str, Any]:
        """verdicts.json, what the report concludes. Raises `LeaError` where it is not there."""
        return read_json(self.folder / "verdicts.json")

    @cached_property
    def protocol(self) -> dict[str, Any]:
        """protocol.json, how the rankings were measured. Raises `LeaError` where it is not there."""
        return read_json(self.folder / "protocol.json")

    @property
    def measured(self) -> str:
        """The same for the note of a table."""
        return str(self.protocol["sentence"])

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Of each row of table.csv, by its name: le, plain, baseline or control."""
        return {str(row["variant"]): kind_of(row) for row in self.table}

    @cached_property
    def reference(self) -> str | None:
        """The supervised twin that most variants are compared with; None where there is none."""
        twins = [str(row["twin"]) for row in self.table if row.get("twin")]
        return max(sorted(set(twins)), key=twins.count) if twins else None

    def evaluation(self, name: str) -> Path:
        """Where a variant's or a baseline's ranks and metrics are."""
        folder = "baselines" if (self.data / "baselines" / name).exists() else "evaluations"
        return self.data / folder / name


def read_csv(path: Path) -> list[dict[str, Value]] | None:
    """Rows of a CSV file, numbers as such, empty cells None; None where it is absent or has no row."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: _value(cell) for key, cell in row.items()} for row in csv.DictReader(file)] or None
    except FileNotFoundError:
        return None


def _value(cell: str | None) -> Value:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def number(row: dict[str, Value], key: str) -> float | None:
    """A row's number; None where the cell is empty, missing or not finite."""
    value = row.get(key)
    return value if isinstance(value, float) and np.isfinite(value) else None


def kind_of(row: dict[str, Value]) -> str:
    """Which of KINDS a row of table.csv is."""
    kind = str(row.get("kind") or "variant")
    if kind in ("baseline", "control"):
        return "le" if row.get("le") == "LLM" else kind
    return "plain" if row.get("le") in ("none", None, "") else "le"


def read_test_ranks(path: Path) -> pa.Table:
    """The test rows of a RANKS table."""
    return read_table(path, RANKS).filter(pc.field("split") == "test")


def interval(path: Path, metric: str) -> tuple[float, float] | None:
    """95 % interval of a test metric over users, from ranks.parquet: the mean ± 1.96 standard errors.

    Each event has its mean over the seeds. The error is that of a ratio, sum of scores by count of events, with users
    as clusters (Cochran, Sampling Techniques, 3rd ed., eq. 6.13), for a user's events are not independent. None where
    there is no such file or only one user.
    """
    if not path.exists():
        return None
    columns = read_test_ranks(path)
    scores = by_name(metric, to_numpy(columns, "rank"), to_numpy(columns, "candidates"))
    _, user = np.unique(to_numpy(columns, "user"), return_inverse=True)
    seeds = len(np.unique(to_numpy(columns, "seed")))
    total, count = np.bincount(user, scores) / seeds, np.bincount(user) / seeds
    users = len(count)
    if users < 2:
        return None
    mean = total.sum() / count.sum()
    error = np.sqrt(users / (users - 1) * ((total - mean * count) ** 2).sum()) / count.sum()
    return float(mean - 1.96 * error), float(mean + 1.96 * error)
