"""Each part beside its controls: who is compared with whom, and what is said of it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lea_core.common.tables import RANKS, vectors, write_table
from lea_core.evaluation.ablation import BEATS, COLUMNS, draw, pairs, rows, section, verdicts
from lea_core.evaluation.comparisons import UserScores, compare_users, comparison_rows, twin_pairs, user_scores
from lea_core.evaluation.results import Result, Score, shown
from lea_core.evaluation.significance import holm
from lea_core.evaluation.verdicts import conclude
from lea_core.metrics.protocol import Protocol
from lea_core.metrics.ranking import ALL
from lea_core.params import Variant

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


def write_ranks(data: Path, name: str, share: float, apart: float = 0.0) -> Result:
    """200 users under two seeds; this share of them, give or take `apart`, has rank 1, the others 99."""
    users = np.arange(200)
    columns = {"user": users, "position": users * 0 + 2, "item": users * 0}
    ranks = [np.where(users < 200 * (share + sign * apart), 1.0, 99.0) for sign in (-1, 1)]
    seeds = [{**columns, "rank": rank, "seed": users * 0 + seed} for seed, rank in enumerate(ranks)]
    table = {name: np.concatenate([part[name] for part in seeds]) for name in seeds[0]}
    table |= {"split": ["test"] * 400, "event": [""] * 400, "candidates": np.full(400, ALL)}
    table |= {"top": vectors(np.zeros((400, 1), np.int32))}
    schema = {name: table[name] if name == "top" else pa.array(table[name], RANKS[name]) for name in RANKS}
    write_table(data / "evaluations" / name / "ranks.parquet", pa.table(schema), RANKS)
    path = data / "evaluations" / name / "ranks.parquet"
    score = {"NDCG@10": Score(share, 0.0, [share] * 2)}
    return Result(name, VARIANTS[name], path, Protocol(200, 200, 9, False), score, valid=score)


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
    found = rows(scores, results, "NDCG@10", [])
    assert len(found) == 8
    row = next(row for row in found if row["variant"] == "state")
    assert tuple(row) == COLUMNS
    assert row["difference"] == pytest.approx(0.5)
    assert row["low"] < 0.5 < row["high"]
    # Half of 200 users gain 1: their deviation over the square root of 200 is .5 / sqrt(199), and t_199 is 1.972.
    assert row["low_with_seeds"] == pytest.approx(0.5 - 1.972 * 0.5 / 199**0.5, abs=1e-4)
    assert row["p_holm"] < 0.01
    said = {(verdict.part, verdict.variant): verdict for verdict in verdicts(scores, results, "NDCG@10")}
    assert str(said["state", "state"]) == "beats its controls (best: text)"
    assert said["state", "state"].comparison is not None
    assert said["state", "state"].comparison.difference == pytest.approx(0.3)
    assert str(said["method", "snqn"]) == "does not beat its controls (best: snqn-0)"
    assert str(said["reward", "both"]) == "has no control"
    words = [one["in_words"] for one in conclude(results, "NDCG@10", [], [], found, list(said.values()))["parts"]]
    text = section(found, words, "Mean over 200 test events.")
    assert "| state | text (control) | text | snqn | 0.5000 | +0.2000 | +0.1" in text
    assert "| +0.1441 to +0.2559 |" in text  # .2 -+ 1.972 sqrt(.16 / 199)
    assert f"{BEATS} Mean over 200 test events." in text
    assert (
        "- state, state: the gain over snqn, +0.5000 (95 % +0.4301 to +0.5699, p 0.000), is shown. It beats its "
        "controls (best: text): +0.3000 (95 % +0.2359 to +0.3641).\n"
    ) in text
    # A gain of a half is shown, and is none of the part's own.
    assert "is shown. It does not beat its controls (best: snqn-0): +0.0000 (95 % +0.0000 to +0.0000).\n" in text
    draw(found, tmp_path / "parts.png")
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")
    assert section([], [], "") == ""


def test_a_pair_has_one_p_and_one_word(tmp_path: Path) -> None:
    """Six of 200 users gain by SNQN: p is 2/64, and corrected over all five rows it would be five times that."""
    own = {"supervised": 0.2, "snqn": 0.23, "state": 0.23, "shuffled": 0.235, "text": 0.225}
    results = [write_ranks(tmp_path, name, share) for name, share in own.items()]
    results += [write_ranks(tmp_path, "long", 0.2)]
    scores = user_scores(results, "NDCG@10")
    compared = comparison_rows(twin_pairs(results)[:1], "NDCG@10", scores)
    found = rows(scores, results, "NDCG@10", compared)
    [row] = [row for row in found if (row["variant"], row["other"]) == ("snqn", "supervised")]
    assert {name: row[name] for name in row if name in compared[0]} == {
        name: compared[0][name] for name in row if name in compared[0]
    }
    assert row["p_holm"] == compared[0]["p_randomisation"] == pytest.approx(1 / 32, abs=0.01)
    assert shown(row) is True
    # The others are corrected among themselves, as if the pair were not there.
    alone = [row for row in rows(scores, results, "NDCG@10", []) if row["variant"] != "snqn"]
    assert len(alone) == len(found) - 1 == 4
    others = [row for row in found if row["variant"] != "snqn"]
    p = [compare_users(scores, row["variant"], row["other"]).p_randomisation for row in others]
    assert [row["p_holm"] for row in others] == holm(p)


def test_users_are_the_unit(tmp_path: Path) -> None:
    found = user_scores([write_ranks(tmp_path, "snqn", 0.3, apart=0.1)], "NDCG@10")["snqn"]
    assert found.users.tolist() == list(range(200))
    assert found.scores.sum(axis=1).tolist() == pytest.approx([40, 80])


def test_what_the_seeds_may_have_done_beats_nothing(tmp_path: Path) -> None:
    """The part is better for a fifth of the users, and by its seeds anything from .4 to .8."""
    own = [("snqn", 0.3, 0.0), ("shuffled", 0.4, 0.0), ("state", 0.6, 0.2)]
    results = [write_ranks(tmp_path, *row) for row in own]
    [verdict] = [one for one in verdicts(user_scores(results, "NDCG@10"), results, "NDCG@10") if one.part == "state"]
    assert verdict.comparison is not None
    assert verdict.comparison.low > 0.1
    assert str(verdict) == "does not beat its controls (best: shuffled)"


def test_one_seed_is_not_judged(results: list[Result]) -> None:
    scores = user_scores(results, "NDCG@10")
    once = {name: UserScores(own.users, own.events, own.scores[:1]) for name, own in scores.items()}
    judged, found = verdicts(once, results, "NDCG@10"), rows(once, results, "NDCG@10", [])
    assert "| - |" in section(found, [], "all")
    assert conclude(results, "NDCG@10", [], [], found, judged)["parts"][0]["in_words"] == (
        "state, state: the gain over snqn is +0.5000; from one seed it is not judged. It is not judged, from one seed "
        "(best: text): +0.3000."
    )


def test_a_difference_is_shown_by_its_interval_and_its_p_together() -> None:
    rows = [(0.01, 0.03, 0.04), (0.01, 0.03, 0.05), (-0.01, 0.03, 0.01), (-0.03, -0.01, 0.01), ("", "", 0.01)]
    names = ("low_with_seeds", "high_with_seeds", "p_holm")
    assert [shown(dict(zip(names, row, strict=True))) for row in rows] == [True, False, False, True, None]
