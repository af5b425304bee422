"""The evidence of a report: comparisons by hand, and what it does with tables of other events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from lea_core.common.errors import LeaError
from lea_core.evaluation.comparisons import (
    COMPARISON,
    Evidence,
    Log,
    baseline_pairs,
    comparison_rows,
    lists_of,
    read_log,
    slices_of,
    twin_pairs,
    user_scores,
)
from lea_core.evaluation.results import le_signals, ranked_baselines
from lea_core.evaluation.verdicts import conclude
from lea_core.report.markdown import markdown
from tests.support.tiny_project import log, write_log
from tests.support.tiny_results import QUALITY, RANKED, VARIANTS, results_of, write_baseline, write_results


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_results(tmp_path)


def evidence_log(data: Path) -> Log:
    return read_log(data, users_share=0.5, seed=0)


def test_comparisons_by_hand(data: Path) -> None:
    """Users of snqn: 0 better once of two seeds, 1 and 2 better, the others alike; supervised-actions: 6 worse."""
    results = results_of(data)
    pairs = twin_pairs(results)
    assert [(one.name, other.name) for one, other in pairs] == [
        ("snqn", "supervised"),
        ("supervised-actions", "supervised"),
    ]
    rows = comparison_rows(pairs, "NDCG@10", user_scores(results, "NDCG@10"))
    assert [list(row) for row in rows] == [list(COMPARISON)] * 2
    assert [(row["seeds"], row["users"], row["better"], row["worse"]) for row in rows] == [(2, 7, 3, 0), (2, 7, 0, 1)]
    worth = {rank: 1 / np.log2(rank + 1) for rank in (1, 2, 3, 4)}
    gained = (worth[1] - worth[2]) / 2 + (2 * worth[1] - worth[2] - worth[3]) / 2 + (worth[1] + worth[2]) / 2 - worth[3]
    assert rows[0]["difference"] == pytest.approx(gained / 7)
    assert rows[1]["difference"] == pytest.approx((worth[4] - worth[3]) / 2 / 7)
    assert rows[0]["p_randomisation"] == pytest.approx(2 / 8)  # three signs
    assert rows[0]["p_wilcoxon"] == pytest.approx(2 / 8)
    assert [row["p_holm"] for row in rows] == [pytest.approx(2 * 2 / 8), 1.0]


def test_what_is_read_where_no_variant_uses_the_le(data: Path) -> None:
    """Item vectors need item tokens and no LE; without any signal neither is read, whatever is left on disk."""
    plain = {name: variant for name, variant in VARIANTS.items() if not variant.uses_le}
    items = plain["supervised"].model_copy(update={"items": "le"})
    control = plain["snqn"].model_copy(update={"reward": "shuffled"})
    names = ["popularity", "text_knn", "le"]
    for variants, signals, ranked in (
        (plain | {"control": control}, set(), ["popularity"]),
        (plain | {"items": items}, {"items"}, ["popularity", "text_knn"]),
        (VARIANTS, {"actions"}, names),
    ):
        assert (le_signals(variants), ranked_baselines(names, le_signals(variants))) == (signals, ranked)
        found = read_log(data, 0.5, 0, signals)
        assert (found.content is not None, found.le_users is not None) == (bool(signals), signals == {"actions"})
        results = results_of(data)
        distances = [row["distance"] for row in lists_of(results, [10], found)]
        assert all((distance is None) == (not signals) for distance in distances)
        assert ("le" in {row["slice"] for row in slices_of(results, 10, found)}) == (signals == {"actions"})


def test_beside_the_best_baseline_by_hand(data: Path) -> None:
    """Popularity: better on validation than item_knn, and le needs the LLM. Of it there is one training."""
    for name, ndcg in (("item_knn", 0.06), ("popularity", 0.07), ("le", 0.08)):
        write_baseline(data, name, RANKED["gru4rec"][:7] if name == "popularity" else [1.0, *[2.0] * 6], ndcg)
    results = results_of(data, baselines=["item_knn", "popularity", "le"])
    pairs = baseline_pairs(results, "NDCG@10")
    assert [(one.name, other.name) for one, other in pairs] == [(name, "popularity") for name in VARIANTS]
    row, *others = comparison_rows(pairs, "NDCG@10", user_scores(results, "NDCG@10"))
    worth = {rank: 1 / np.log2(rank + 1) for rank in (1, 2, 3, 4, 4.5)}
    gains = [worth[1] - worth[2]] * 2 + [(worth[1] + worth[2]) / 2 - worth[3], (worth[4] - worth[4.5]) / 2, 0, 0, 0]
    assert (row["variant"], row["seeds"], row["better"], row["worse"]) == ("snqn", 2, 4, 0)
    assert row["difference"] == pytest.approx(np.mean(gains))
    assert row["p_holm"] == pytest.approx(4 * 2 / 2**4)  # four variants, four signs
    by_seed = (worth[2] - worth[1] + worth[4] - worth[4.5]) / 7  # what seed 1 of snqn has above seed 0
    error = (np.var(gains, ddof=1) / 7 + by_seed**2 / 2 / 2) ** 0.5  # the baseline adds none
    half = (row["high_with_seeds"] - row["low_with_seeds"]) / 2
    freedom = error**4 / ((np.var(gains, ddof=1) / 7) ** 2 / 6 + (by_seed**2 / 4) ** 2)
    assert half == pytest.approx(t.ppf(0.975, freedom) * error)
    verdicts = conclude(results, "NDCG@10", [], [row, *others], [], [])
    text = markdown(results, "NDCG@10", QUALITY, "", Evidence([], [row, *others], [], []), verdicts, "")
    assert verdicts["rival"].startswith(
        "popularity, the best baseline on validation, trains nothing and has test NDCG@10 0.0700. "
        "The difference of supervised-actions from it, "
    )
    assert verdicts["rival"].endswith(" is not shown.")
    assert verdicts["rival"] in text
    assert "## Beside popularity\n\npopularity is the baseline without an LLM that is best on validation." in text
    assert f"| snqn | {row['difference']:+.4f} | {row['low']:+.4f} to" in text
    assert baseline_pairs([result for result in results if result.name != "popularity"], "NDCG@10")[0][1].name == (
        "item_knn"
    )
    assert baseline_pairs(results_of(data, baselines=["le"]), "NDCG@10") == []


def test_events_of_another_log_are_an_error(data: Path) -> None:
    results, other = results_of(data), log(7, seed=1)
    write_log(data.parent, other)
    with pytest.raises(LeaError, match=r"snqn/ranks\.parquet: column 'position' is of other events than the log"):
        slices_of(results, 10, evidence_log(data))


def test_lists_that_are_too_short_are_an_error(data: Path) -> None:
    results = results_of(data)
    with pytest.raises(LeaError, match=r"snqn/ranks\.parquet: has lists of 20, not 50: run `dvc repro`"):
        lists_of(results, [10, 50], evidence_log(data))
