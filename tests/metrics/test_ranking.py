import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lea_core.metrics.ranking
from lea_core.common.errors import LeaError
from lea_core.common.tables import RANKS, check, to_numpy
from lea_core.data.sequences import Sequences, histories
from lea_core.metrics import full_ranking
from lea_core.metrics.full_ranking import rank_events, rank_table, summarise
from lea_core.metrics.protocol import Misses
from lea_core.metrics.ranking import ALL, by_name, metrics, ranks, seen_items
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork


def test_ranks_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.2, 0.2, 0.2], [0.3, 0.2, 0.2]])
    found = ranks(scores, torch.tensor([0, 2, 1, 1]))
    assert found.tolist() == [1.0, 3.0, 2.0, 2.5]  # three equals share rank 2; two equals below one share 2.5


def test_seen_items_leave_the_ranking_and_a_seen_target_has_none() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]])
    seen = torch.tensor([[True, False, False], [True, True, False]])
    assert ranks(scores, torch.tensor([2, 1]), seen).tolist() == [2.0, math.inf]
    assert seen.tolist() == [[True, False, False], [True, True, False]]  # the caller's mask stays


@given(st.data())
def test_ranks_against_brute_force(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    row = data.draw(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 3.0]), min_size=count, max_size=count))
    seen = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    target = data.draw(st.integers(0, count - 1))
    candidates = [item for item in range(count) if not seen[item]]
    # The mean rank over all orders that the scores allow: equals stand before and after the target equally often.
    best = 1 + sum(row[item] > row[target] for item in candidates)
    worst = sum(row[item] >= row[target] for item in candidates)
    found = ranks(torch.tensor([row]), torch.tensor([target]), torch.tensor([seen]))
    assert found.item() == (math.inf if seen[target] else (best + worst) / 2)


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


@pytest.mark.parametrize("tied", [False, True])
def test_metrics_against_ranx(tied: bool) -> None:
    """An independent implementation (Bassani, ECIR 2022), which is given the target in the middle of its equals.

    A half rank lies between two of ranx's ranks, so those events are left out of the case with ties.
    """
    from ranx import Qrels, Run, evaluate

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, (300, 40)) / 4.0 if tied else rng.random((300, 40))
    targets = rng.integers(0, 40, 300)
    found = ranks(torch.from_numpy(scores), torch.from_numpy(targets)).numpy()
    whole = found == np.round(found)
    assert (len(found) - whole.sum() > 50) == tied
    run, relevant = {}, {}
    for event in np.flatnonzero(whole):
        own = scores[event, targets[event]]
        equals = [item for item in range(40) if scores[event, item] == own and item != targets[event]]
        first = dict.fromkeys(equals[::2], 0.1) | dict.fromkeys(equals[1::2], -0.1)  # half of them above, half below
        run[f"e{event}"] = {f"i{item}": scores[event, item] + first.get(item, 0.0) for item in range(40)}
        relevant[f"e{event}"] = {f"i{targets[event]}": 1}
    names = {f"{ours}@{k}": f"{theirs}@{k}" for ours, theirs in RANX.items() for k in (1, 3, 10, 20)}
    wanted = evaluate(Qrels(relevant), Run(run), list(names.values()))
    assert metrics(found[whole], [1, 3, 10, 20]) == pytest.approx({name: wanted[names[name]] for name in names})


RANX = {"HR": "hit_rate", "NDCG": "ndcg", "MRR": "mrr"}


def test_no_event_is_an_error() -> None:
    with pytest.raises(LeaError, match="no event to rank"):
        metrics(np.array([]), [5])


# user 0: items 3 1 | 2 | 0; user 1: a single test event, which nothing precedes
SEQUENCES = Sequences(np.array([3, 1, 2, 0, 1]), np.array([0, 0, 1, 2, 2], dtype=np.int8), np.array([0, 4, 5]), 5)


def test_histories_by_hand() -> None:
    """Padded on the left, cut to the newest, and never another user's events."""
    found = histories(SEQUENCES, np.array([0, 1, 0, 1]), np.array([1, 0, 4, 1]), 3)
    assert found.tolist() == [[-1, -1, 3], [-1, -1, -1], [1, 2, 0], [-1, -1, 1]]
    assert histories(SEQUENCES, np.array([0]), np.array([0]), 6).tolist() == [[-1] * 6]


def test_rank_events_sees_the_true_history() -> None:
    asked = []

    def scorer(histories: np.ndarray) -> torch.Tensor:
        asked.append(histories.tolist())
        return torch.arange(5.0).expand(len(histories), 5)  # item 4 is best

    users, positions = SEQUENCES.targets("test")
    found = rank_events(scorer, SEQUENCES, users, positions, history=2, mask_seen=False, batch=10)
    assert asked == [[[1, 2]]]  # the last two before the target
    assert (found.rank.tolist(), found.candidates.tolist()) == ([5.0], [ALL])
    owner, items = seen_items(SEQUENCES, users, positions)  # all three before
    assert (owner.tolist(), items.tolist()) == ([0, 0, 0], [1, 2, 3])
    found = rank_events(scorer, SEQUENCES, users, positions, history=2, mask_seen=True, batch=10)
    assert (found.rank.tolist(), found.candidates.tolist()) == ([2.0], [2])


def test_no_event_is_a_hit_for_want_of_candidates() -> None:
    """Items 0 1 2 | 2 (had before), 0 1 | 3 (two left), 0 1 2 3 | 0 (nothing left), of four; every score is alike."""
    items = np.array([0, 1, 2, 2, 0, 1, 3, 0, 1, 2, 3, 0])
    split = np.array([0, 0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 2], dtype=np.int8)
    log = Sequences(items, split, np.array([0, 4, 7, 12]), 4)
    users, positions = log.targets("test")

    def scorer(histories: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(histories), 4)

    found = rank_events(scorer, log, users, positions, 3, True, 10, listed=2)
    assert found.rank.tolist() == [math.inf, 1.5, math.inf]
    assert found.candidates.tolist() == [1, 2, 0]
    assert found.top.tolist() == [[3, -1], [2, 3], [-1, -1]]  # what a policy that leaves out seen items would show
    # Two candidates: a hit at 2 is certain, at 1 it is not.
    assert found.metrics([1, 2]) == dict.fromkeys(("HR@1", "HR@2", "NDCG@1", "NDCG@2", "MRR@1", "MRR@2"), 0.0)
    assert metrics(np.array([1.0]), [1, 2], np.array([2]))["HR@1"] == 1.0
    assert by_name("MRR@2", found.rank, np.array([ALL, ALL, 3])).tolist() == [0.0, pytest.approx(1 / 1.5), 0.0]
    events = pa.chunked_array([[""] * 12])
    table = rank_table(dict.fromkeys((0, 1), (scorer, 3)), log, events, mask_seen=True, batch=2, cutoffs=[1, 2])
    misses = Misses(**summarise(table, log, [1, 2])["misses"]["test"])
    assert misses == Misses(repeated=2, no_candidate=1, few={"1": 0, "2": 1})
    assert misses.in_words(3) == (
        "Counted as misses, as items of the history are left out: of the 3 events 2 are of an item that the user had "
        "before (1 by users who had every item) and 1 have no more than 2 items left to rank (misses at 2)."
    )
    unmasked = rank_events(scorer, log, users, positions, 3, False, 10)
    assert unmasked.metrics([3])["HR@3"] == 1.0  # the mean rank of four equals is 2.5
    message = (
        r"evaluate\.cutoffs has 4, 20, but there are only 4 items, and any ranking would be a hit: give cutoffs below"
    )
    for mask_seen in (False, True):
        with pytest.raises(LeaError, match=message):
            rank_table({0: (scorer, 3)}, log, events, mask_seen, batch=2, cutoffs=[3, 4, 20])


@given(st.data())
def test_ranking_in_pieces_changes_no_rank(data: st.DataObject) -> None:
    """Piece by piece equals one dense mask over all, on scores with ties and histories with repeats."""
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=9))
    num_items = data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = rng.integers(0, num_items, offsets[-1])
    sequences = Sequences(items, np.full(offsets[-1], 2, dtype=np.int8), offsets, num_items)
    users, positions = sequences.users_and_positions()
    by_last = torch.from_numpy(rng.integers(-2, 3, (num_items + 1, num_items)) / 2.0)
    most = data.draw(st.integers(1, 80))
    sizes = []

    def scorer(histories: np.ndarray) -> torch.Tensor:
        sizes.append(len(histories))
        return by_last[torch.from_numpy(histories[:, -1])]

    seen = torch.zeros(len(users), num_items, dtype=torch.bool)
    for row, (user, position) in enumerate(zip(users, positions, strict=True)):
        seen[row, sequences.user_items(user)[:position]] = True
    scores = by_last[torch.from_numpy(histories(sequences, users, positions, 1)[:, -1])]
    targets = torch.from_numpy(items)
    higher, equal = (scores > (own := scores.gather(1, targets[:, None]))), scores == own
    candidates = ~seen
    whole = 1 + (higher & candidates).sum(1) + ((equal & candidates).sum(1) - 1) / 2
    whole[seen.gather(1, targets[:, None])[:, 0]] = math.inf
    assert ranks(scores, targets, seen).tolist() == whole.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_ranking, "SCORES_AT_ONCE", most)
        patch.setattr(lea_core.metrics.ranking, "COUNTED_AT_ONCE", most // 2)
        found = rank_events(scorer, sequences, users, positions, 3, mask_seen=True, batch=100, listed=4)
        unmasked = rank_events(scorer, sequences, users, positions, history=3, mask_seen=False, batch=100)
    assert found.rank.tolist() == whole.tolist()
    assert found.candidates.tolist() == candidates.sum(1).tolist()
    assert unmasked.rank.tolist() == ranks(scores, targets).tolist()
    every = zip(found.top.tolist(), scores.tolist(), candidates.tolist(), strict=True)
    for listed, row, free in every:
        best = sorted((item for item in range(num_items) if free[item]), key=lambda item: (-row[item], item))[:4]
        assert listed == best + [-1] * (4 - len(best))
    assert max(sizes) * num_items <= max(most, num_items)  # one event at least


def test_summary_by_event() -> None:
    """Purchases on test: ranks 1 and 3, then 2 and 30; clicks: 4, then 5. No purchase is held out for validation."""
    rows = [
        (0, "valid", "click", 2.0),
        (0, "test", "purchase", 1.0),
        (0, "test", "click", 4.0),
        (0, "test", "purchase", 3.0),
        (1, "valid", "click", 30.0),
        (1, "test", "purchase", 2.0),
        (1, "test", "click", 5.0),
        (1, "test", "purchase", 30.0),
    ]
    table = pa.table(dict(zip(("seed", "split", "event", "rank"), map(list, zip(*rows, strict=True)), strict=True)))
    table = table.append_column("candidates", pa.array([ALL] * 8)).append_column("user", pa.array([0, 0, 1, 0] * 2))
    found = summarise(table, SEQUENCES, [4])
    assert list(found["by_event"]) == ["click", "purchase"]
    click, purchase = found["by_event"].values()
    assert (click["events"], purchase["events"]) == ({"valid": 1, "test": 1}, {"valid": 0, "test": 2})
    assert purchase["users"] == {"valid": 0, "test": 1}
    assert purchase["test"]["HR@4"] == {"mean": 0.75, "sd": pytest.approx(math.sqrt(0.125)), "seeds": [1.0, 0.5]}
    assert purchase["test"]["MRR@4"]["seeds"] == [pytest.approx((1 + 1 / 3) / 2), 0.25]
    assert purchase["test"]["NDCG@4"]["seeds"] == [0.75, pytest.approx(1 / math.log2(3) / 2)]
    assert "valid" not in purchase
    assert click["test"]["HR@4"] == {"mean": 0.5, "sd": pytest.approx(math.sqrt(0.5)), "seeds": [1.0, 0.0]}
    assert click["valid"]["MRR@4"]["mean"] == 0.25
    assert found["test"]["HR@4"]["seeds"] == [1.0, pytest.approx(1 / 3)]  # of all events, as ever


def test_rank_table_names_every_event() -> None:
    config = PolicyConfig("gru4rec", {"width": 4, "layers": 1, "dropout": 0.0}, 5, 3)
    events = pa.chunked_array([["a", "b"], ["c", "d", "e"]])  # of the rows of SEQUENCES
    scorers = {seed: (PolicyNetwork(config).scores, 3) for seed in (3, 1)}
    table = rank_table(scorers, SEQUENCES, events, mask_seen=True, batch=2, cutoffs=[3])
    check(Path("ranks.parquet"), table, RANKS)
    candidates = [{0, 2, 4}, {0, 4, -1}] * 2  # all unseen
    assert [set(listed) for listed in to_numpy(table, "top").tolist()] == candidates
    columns = ("seed", "split", "user", "position", "event", "item")
    assert list(zip(*(table[name].to_pylist() for name in columns), strict=True)) == [
        (3, "valid", 0, 2, "c", 2),
        (3, "test", 0, 3, "d", 0),
        (1, "valid", 0, 2, "c", 2),
        (1, "test", 0, 3, "d", 0),
    ]


def test_summary_over_seeds_counts_what_was_skipped() -> None:
    columns = {"seed": [0, 0, 1, 1], "split": ["valid", "test"] * 2, "event": [""] * 4, "rank": [1.0, 2.0, 1.0, 30.0]}
    table = pa.table(columns | {"candidates": [ALL] * 4, "user": [0] * 4})
    found = summarise(table, SEQUENCES, [20])
    assert found["valid"]["HR@20"] == {"mean": 1.0, "sd": 0.0, "seeds": [1.0, 1.0]}
    assert found["test"]["HR@20"] == {"mean": 0.5, "sd": pytest.approx(math.sqrt(0.5)), "seeds": [1.0, 0.0]}
    assert found["test"]["MRR@20"]["mean"] == 0.25
    assert (found["events"], found["skipped"]) == ({"valid": 1, "test": 1}, {"valid": 0, "test": 1})
    assert (found["users"], found["items"]) == ({"valid": 1, "test": 1}, 5)
    assert found["misses"]["test"] == {"repeated": 0, "no_candidate": 0, "few": {"20": 0}}
    assert "by_event" not in found
    one_seed = summarise(table.slice(0, 2), SEQUENCES, [20])
    assert one_seed["test"]["HR@20"] == {"mean": 1.0, "sd": None, "seeds": [1.0]}
