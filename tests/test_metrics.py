import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lea_core.errors import LeaError
from lea_core.evaluation import rank_events, summarise
from lea_core.metrics import metrics, ranks, seen_items
from lea_core.sequences import Sequences


def test_ranks_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.2, 0.2, 0.2], [0.3, 0.2, 0.2]])
    found = ranks(scores, torch.tensor([0, 2, 1, 1]))
    assert found.tolist() == [1.0, 3.0, 2.0, 2.5]  # three equals share rank 2; two equals below one share 2.5


def test_seen_items_leave_the_ranking_but_not_the_target() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    seen = torch.tensor([[True, False, False], [True, True, False]])
    assert ranks(scores, torch.tensor([2, 1]), seen).tolist() == [2.0, 1.0]
    assert seen.tolist() == [[True, False, False], [True, True, False]]  # the caller's mask stays


@given(st.data())
def test_ranks_against_brute_force(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    row = data.draw(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 3.0]), min_size=count, max_size=count))
    seen = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    target = data.draw(st.integers(0, count - 1))
    candidates = [item for item in range(count) if item == target or not seen[item]]
    # The mean rank over all orders that the scores allow: equals stand before and after the target equally often.
    best = 1 + sum(row[item] > row[target] for item in candidates)
    worst = sum(row[item] >= row[target] for item in candidates)
    found = ranks(torch.tensor([row]), torch.tensor([target]), torch.tensor([seen]))
    assert found.item() == (best + worst) / 2


def test_nan_scores_are_refused() -> None:
    with pytest.raises(LeaError, match="row 1 hold NaN"):
        ranks(torch.tensor([[0.0, 1.0], [math.nan, 1.0]]), torch.tensor([0, 0]))


def test_metrics_by_hand() -> None:
    found = metrics(np.array([1.0, 3.0, 5.0, 10.5]), [5, 10])
    assert found == pytest.approx(
        {
            "HR@5": 3 / 4,
            "HR@10": 3 / 4,  # rank 10.5 is beyond 10
            "NDCG@5": (1 + 1 / 2 + 1 / math.log2(6)) / 4,
            "NDCG@10": (1 + 1 / 2 + 1 / math.log2(6)) / 4,
            "MRR@5": (1 + 1 / 3 + 1 / 5) / 4,
            "MRR@10": (1 + 1 / 3 + 1 / 5) / 4,
        }
    )


def test_no_event_is_an_error() -> None:
    with pytest.raises(LeaError, match="no event to rank"):
        metrics(np.array([]), [5])


# user 0: items 3 1 | 2 | 0; user 1: a single test event, which nothing precedes
SEQUENCES = Sequences(np.array([3, 1, 2, 0, 1]), np.array([0, 0, 1, 2, 2], dtype=np.int8), np.array([0, 4, 5]), 5)


def test_rank_events_sees_the_true_history() -> None:
    asked = []

    def scorer(histories: np.ndarray) -> torch.Tensor:
        asked.append(histories.tolist())
        return torch.arange(5.0).expand(len(histories), 5)  # item 4 is best

    users, positions = SEQUENCES.targets("test")
    found = rank_events(scorer, SEQUENCES, users, positions, history=2, mask_seen=False, batch=10)
    assert asked == [[[1, 2]]]  # the last two before the target
    assert found.tolist() == [5.0]
    assert seen_items(SEQUENCES, users, positions).tolist() == [[False, True, True, True, False]]  # all three before
    assert rank_events(scorer, SEQUENCES, users, positions, history=2, mask_seen=True, batch=10).tolist() == [2.0]


def test_summary_over_seeds_counts_what_was_skipped() -> None:
    table = pa.table({"seed": [0, 0, 1, 1], "split": ["valid", "test"] * 2, "rank": [1.0, 2.0, 1.0, 30.0]})
    found = summarise(table, SEQUENCES, [20])
    assert found["valid"]["HR@20"] == {"mean": 1.0, "sd": 0.0, "seeds": [1.0, 1.0]}
    assert found["test"]["HR@20"] == {"mean": 0.5, "sd": pytest.approx(math.sqrt(0.5)), "seeds": [1.0, 0.0]}
    assert found["test"]["MRR@20"]["mean"] == 0.25
    assert (found["events"], found["skipped"]) == ({"valid": 1, "test": 1}, {"valid": 0, "test": 1})
    one_seed = summarise(table.slice(0, 2), SEQUENCES, [20])
    assert one_seed["test"]["HR@20"] == {"mean": 1.0, "sd": None, "seeds": [1.0]}
