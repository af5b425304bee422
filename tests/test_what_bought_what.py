"""Each part beside its controls: who is compared with whom, and what is said of it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lea_core.evidence import user_scores
from lea_core.params import Variant
from lea_core.results import Result, Score
from lea_core.tables import RANKS, vectors, write_table
from lea_core.what_bought_what import COLUMNS, draw, pairs, rows, section, verdicts

NONE = {"backbone": "sasrec", "state": "none", "reward": "none", "actions": "none", "ranking": "none", "items": "none"}
VARIANTS = {
    "supervised": Variant(**NONE, method="supervised"),
    "snqn": Variant(**NONE, method="snqn"),
    "snqn-0": Variant(**NONE, method="snqn", set={"methods.snqn.gamma": 0.0}),
    "long": Variant(**NONE, method="supervised", set={"train.patience": 20}),
    "state": Variant(**NONE | {"state": "le"}, method="snqn"),
    "shuffled": Variant(**NONE | {"state": "shuffled"}, method="snqn"),
    "text": Variant(**NONE | {"state": "text"}, method="snqn"),
    "both": Variant(**NONE | {"state": "le", "reward": "le"}, method="snqn"),
    "lonely": Variant(**NONE | {"backbone": "caser", "actions": "le"}, method="snqn"),
}


def write_ranks(data: Path, name: str, share: float) -> Result:
    """200 users under two seeds; this share of them has rank 1, the others 99."""
    users = np.arange(200)
    rank = np.where(users < 200 * share, 1.0, 99.0)
    columns = {"user": users, "position": users * 0 + 2, "item": users * 0, "rank": rank}
    seeds = [{**columns, "seed": users * 0 + seed} for seed in (0, 1)]
    table = {name: np.concatenate([part[name] for part in seeds]) for name in seeds[0]}
    table |= {"split": ["test"] * 400, "event": [""] * 400, "top": vectors(np.zeros((400, 1), np.int32))}
    schema = {name: table[name] if name == "top" else pa.array(table[name], RANKS[name]) for name in RANKS}
    write_table(data / "evaluations" / name / "ranks.parquet", pa.table(schema), RANKS)
    path = data / "evaluations" / name / "ranks.parquet"
    return Result(name, VARIANTS[name], path, 200, {"NDCG@10": Score(share, 0.0, [share] * 2)})


SHARES = {"supervised": 0.2, "snqn": 0.3, "snqn-0": 0.3, "long": 0.25, "shuffled": 0.35, "text": 0.5, "lonely": 0.1}


@pytest.fixture
def results(tmp_path: Path) -> list[Result]:
    shares = SHARES | {"state": 0.8, "both": 0.8}
    return [write_ranks(tmp_path, name, shares[name]) for name in VARIANTS]


def test_who_is_compared_with_whom() -> None:
    found = [(pair.part, pair.variant, pair.source, pair.control, pair.other) for pair in pairs(VARIANTS)]
    assert found == [
        ("state", "state", "le", False, "snqn"),
        ("state", "shuffled", "shuffled", True, "snqn"),
        ("state", "text", "text", True, "snqn"),
        ("reward", "both", "le", False, "state"),
        ("state + reward", "both", "le", False, "snqn"),
        ("method", "snqn", "snqn", False, "supervised"),
        ("method", "snqn-0", "snqn", True, "supervised"),
        ("method", "long", "supervised", True, "supervised"),
    ]


def test_rows_and_verdicts(tmp_path: Path, results: list[Result]) -> None:
    scores = user_scores(results, "NDCG@10")
    found = rows(scores, results, "NDCG@10")
    assert len(found) == 8
    row = next(row for row in found if row["variant"] == "state")
    assert tuple(row) == COLUMNS
    assert row["difference"] == pytest.approx(0.5)
    assert row["low"] < 0.5 < row["high"]
    assert row["p_holm"] < 0.01
    said = {(verdict.part, verdict.variant): verdict for verdict in verdicts(scores, results, "NDCG@10")}
    assert str(said["state", "state"]) == "beats its controls (best: text)"
    assert said["state", "state"].comparison is not None
    assert said["state", "state"].comparison.difference == pytest.approx(0.3)
    assert str(said["method", "snqn"]) == "does not beat its controls (best: snqn-0)"
    assert str(said["reward", "both"]) == "has no control"
    text = section(found, list(said.values()))
    assert "| state | text (control) | text | snqn | 0.5000 | +0.2000 |" in text
    assert "- state, state: beats its controls (best: text)." in text
    draw(found, tmp_path / "parts.png")
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")
    assert section([], []) == ""


def test_users_are_the_unit(tmp_path: Path) -> None:
    scores = user_scores([write_ranks(tmp_path, "snqn", 0.3)], "NDCG@10")["snqn"]
    assert list(scores) == list(range(200))
    assert sum(scores.values()) == pytest.approx(60)
