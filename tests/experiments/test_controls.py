"""Controls: each keeps of the LE's table what it should and nothing more, by hand and as properties."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lea_core.baselines.neighbours import item_neighbours, of_users, propose
from lea_core.common import tables
from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, histories, in_history
from lea_core.experiments.controls.actions import item_neighbours_of_others, popularity_of_others, ranker
from lea_core.experiments.controls.rewards import control_rewards
from lea_core.experiments.controls.states import bumps, control_states, recent_content
from lea_core.experiments.controls.tables import KEYS, World, control_table, proposals, read_le, with_neighbours, write
from lea_core.learners.supervision import read_supervision
from lea_core.params import CONTROLS, LE_AND_NEIGHBOURS, POLICY
from tests.baselines.test_neighbours import sequences as of_lists
from tests.support.circle import sequences, write_parts

RNG = np.random.default_rng
MADE = [(part, one) for part, names in CONTROLS.items() for one in names if one not in (POLICY, LE_AND_NEIGHBOURS)]
LISTS = st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=7), min_size=2, max_size=8)


def world(train: Sequences) -> World:
    content = RNG(1).normal(size=(train.num_items, 4)).astype(np.float32)
    return World(train, content, recent=3, decay=0.5)


def wider(le: pa.Table, width: int) -> pa.Table:
    """The LE's states of a width that holds a length."""
    states = tables.vectors(RNG(2).normal(size=(le.num_rows, width)).astype(np.float16))
    return le.set_column(le.column_names.index("state"), "state", states)


@pytest.mark.parametrize(("part", "source"), MADE)
def test_a_control_has_the_rows_of_the_le_and_is_read_like_it(part: str, source: str, tmp_path: Path) -> None:
    data = sequences([9, 7, 8])
    p = write_parts(tmp_path, data)
    train = data.train()
    le = read_le(tmp_path, part)
    le = wider(le, 12) if part == "states" else le
    table = control_table(part, source, le, world(train), seed=0)
    assert table.equals(control_table(part, source, le, world(train), seed=0))
    for column in ("user", "position", "action", "sampled_actions"):
        if column in le.column_names:
            assert table[column].equals(le[column])
    assert [field.type for field in table.schema] == [field.type for field in le.schema]
    write(tmp_path, part, source, table)
    variant = p.variant("snqn").model_copy(update={KEYS[part]: source})
    found = read_supervision(tmp_path, variant, p.train, train)
    if part == "states":
        assert found.le_states is not None
        assert found.le_states.shape == (len(train.items), 12)
    elif part == "rewards":
        assert found.sampled_rewards is not None
        assert found.rewards.shape == found.sampled_rewards.shape[:1]
        assert float(found.sampled_rewards.min()) >= 0.0
        values = {"constant": (0.5, 0.5), "logged": (1.0, 0.0)}.get(source)
        if values:
            assert (found.rewards.unique().tolist(), found.sampled_rewards.unique().tolist()) == (
                [values[0]],
                [values[1]],
            )
    elif part == "actions":
        assert found.proposed_preferences is not None
        assert found.proposed_preferences.unique().tolist() == [0.5]
    elif part == "rankings":
        assert table["log_probabilities"].equals(le["log_probabilities"])  # as sure as the LE
        for row, (user, position) in enumerate(zip(*(le[c].to_pylist() for c in ("user", "position")), strict=True)):
            listed = tables.to_numpy(table, "items")[row].tolist()
            assert not set(listed) & set(train.user_items(user)[: position + 1].tolist())
    elif source == "shuffled":
        assert Counter(map(tuple, table["vector"].to_pylist())) == Counter(map(tuple, le["vector"].to_pylist()))
    else:
        assert found.item_vectors is not None
        assert found.item_vectors.shape == (10, 20)


def test_the_les_ranking_and_item_neighbours_by_hand() -> None:
    """After items 0, 1 neighbours say 2: 3, 3: 1 and of item 0, which is seen, 5. The LE: 3: .5, 0: .25, 2: .125."""
    le = pa.table(
        {
            "user": pa.array([0], pa.int32()),
            "position": pa.array([1], pa.int32()),
            "items": tables.vectors(np.array([[3, 0, 2]], np.int32)),
            "log_probabilities": tables.vectors(np.log(np.array([[0.5, 0.25, 0.125]], np.float32))),
        }
    )
    table = with_neighbours(le, lambda *_: torch.tensor([[5.0, 0.0, 3.0, 1.0]]), of_lists([[0, 1, 2]], 4))
    assert [field.type for field in table.schema] == [field.type for field in le.schema]
    assert tables.to_numpy(table, "items").tolist() == [[3, 2, 0]]
    both = np.array([0.5 * (0.25 + 1e-5), 0.125 * (0.75 + 1e-5), 0.25 * 1e-5])
    found = np.exp(tables.to_numpy(table, "log_probabilities"))
    np.testing.assert_allclose(found, (both / both.sum())[None], rtol=1e-5)
    equal = le.set_column(3, "log_probabilities", tables.vectors(np.zeros((1, 3), np.float32)))
    table = with_neighbours(equal, lambda *_: torch.zeros(1, 4), of_lists([[0, 1, 2]], 4))
    assert tables.to_numpy(table, "items").tolist() == [[0, 2, 3]]  # of equals the lower item first


def test_a_control_of_other_interactions_is_refused(tmp_path: Path) -> None:
    data = sequences([9, 7])
    p = write_parts(tmp_path, data)
    table = control_table("rewards", "logged", read_le(tmp_path, "rewards"), world(data.train()), 0)
    write(tmp_path, "rewards", "logged", table)
    old = (tmp_path / "rewards" / "le.parquet").read_bytes()
    write_parts(tmp_path, data, event="buy")
    variant = p.variant("snqn").model_copy(update={"reward": "logged"})
    with pytest.raises(LeaError, match=r"rewards/logged\.parquet: .*run `dvc repro control`"):
        read_supervision(tmp_path, variant, p.train, data.train())
    (tmp_path / "rewards" / "le.parquet").write_bytes(old)
    with pytest.raises(LeaError, match="made from other interactions"):
        read_le(tmp_path, "rewards")


def test_a_shuffle_keeps_the_multiset() -> None:
    train = of_lists([[0, 1, 2], [3, 4, 5]], 6)
    rewards, sampled = np.arange(4.0), np.arange(4.0, 12.0).reshape(4, 2)
    none = np.zeros(4, dtype=int), np.zeros((4, 2), dtype=int)
    found = control_rewards("shuffled", rewards, sampled, *none, train, RNG(0))
    assert sorted(np.concatenate([found[0], found[1].reshape(-1)])) == list(range(12))
    assert set(found[0]) != set(rewards)  # the logged action keeps nothing of its own
    states = np.arange(18, dtype=np.float16).reshape(6, 3)
    mixed = control_states("shuffled", states, train, np.zeros((6, 2)), 2, 0.5, RNG(0))
    assert sorted(mixed.tolist()) == states.tolist()
    assert mixed.tolist() != states.tolist()


def test_mean_and_popular_rewards_by_hand() -> None:
    train = of_lists([[0, 1, 1], [1, 2]], 4)  # taken 1, 3, 1 and 0 times
    action, sampled_actions = np.array([1, 2]), np.array([[0, 3], [1, 0]])
    logged, sampled = control_rewards(
        "popularity", np.zeros(2), np.zeros((2, 2)), action, sampled_actions, train, RNG(0)
    )
    np.testing.assert_allclose(logged, np.log([3, 1]), rtol=1e-6)
    np.testing.assert_allclose(sampled, np.log([[2, 1], [4, 2]]), rtol=1e-6)
    rewards, others = np.array([1.0, 3.0]), np.array([[2.0, 2.0], [2.0, 3.0]])  # mean 2, deviation 1
    logged, sampled = control_rewards("mean", rewards, others, action, sampled_actions, train, RNG(0))
    high = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(logged, 0.5, rtol=1e-6)
    np.testing.assert_allclose(sampled, (3 * 0.5 + high) / 4, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 800), min_size=3, max_size=12, unique=True), st.sampled_from([9, 12, 320]))
def test_the_cosine_of_bumps_falls_with_distance(counts: list[int], width: int) -> None:
    values = np.sort(np.log1p(counts))
    found = bumps(values, width)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    cosines = found @ found[0]
    assert (np.diff(cosines) <= 1e-6).all()
    assert cosines[-1] < 0.5
    with pytest.raises(LeaError, match="width 8 are too narrow"):
        bumps(values, 8)


def test_lengths_count_training_events() -> None:
    train = of_lists([[0, 1, 2], [3]], 4)
    past = control_states("history_length", np.zeros((4, 12), np.float16), train, np.zeros((4, 2)), 2, 0.5, RNG(0))
    left = control_states("future_length", np.zeros((4, 12), np.float16), train, np.zeros((4, 2)), 2, 0.5, RNG(0))
    assert past[0].tolist() == past[3].tolist()  # one event so far
    assert left[2].tolist() == left[3].tolist()  # none to come


def test_text_by_hand() -> None:
    content = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = recent_content(of_lists([[0, 1, 2], [1]], 3), content, recent=2, decay=0.5, width=3)
    rows = np.array([[1, 0, 0], [0.5, 1, 0], [1, 1.5, 0], [0, 1, 0]])
    np.testing.assert_allclose(found, rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-6)
    with pytest.raises(LeaError, match="width 1 do not hold content vectors of 2"):
        recent_content(of_lists([[0]], 3), content, 2, 0.5, 1)


@settings(max_examples=30, deadline=None)
@given(LISTS)
def test_neighbours_and_popularity_are_those_of_the_other_users(lists: list[list[int]]) -> None:
    """Against a fresh count of all users but one, for every user."""
    train = of_lists(lists, 6)
    knn, popular = item_neighbours_of_others(train), popularity_of_others(train)
    for user, own in enumerate(lists):
        users, positions = np.full(len(own), user), np.arange(len(own))
        others = of_users(train, np.delete(np.arange(len(lists)), user))
        wanted = item_neighbours(others)(histories(train, users, positions + 1, 10))
        np.testing.assert_allclose(knn(users, positions), wanted, atol=1e-6)
        counted = Counter(others.items.tolist())
        assert popular(users, positions)[0].tolist() == [counted[item] for item in range(6)]


@settings(max_examples=30, deadline=None)
@given(LISTS, st.sampled_from(["popularity", "item_knn", "text"]))
def test_proposals_leave_out_the_history_and_the_next_item(lists: list[list[int]], source: str) -> None:
    train = of_lists(lists, 20)
    users, positions = train.users_and_positions()
    kept = np.flatnonzero(positions + 1 < np.diff(train.offsets)[users])
    rank = ranker(source, train, RNG(0).normal(size=(20, 4)))
    found, scores = propose(rank, train, users[kept], positions[kept], 5, True)
    assert (np.diff(scores, axis=1) <= 0).all()
    for row, user, position in zip(found, users[kept], positions[kept], strict=True):
        out = set(lists[user][: position + 2])
        assert len(set(row)) == 5
        assert not out & set(row.tolist())
        left = rank(np.array([user]), np.array([position]))[0]
        others = [item for item in range(20) if item not in out and item not in row]
        assert left[torch.from_numpy(row).long()].min() >= left[others].max()


def test_a_control_of_proposals_differs_from_the_le_in_new_items_alone() -> None:
    """Users 0, 1, 2 and 0, 3; popular in this order: 0, then 1 to 3 alike, then 4. Of the LE's proposals 0 is seen."""
    train = of_lists([[0, 1, 2], [0, 3]], 5)
    rows = {"user": np.int32([0, 0, 1]), "position": np.int32([0, 1, 0])}
    actions = np.int32([[4, 0], [0, 4], [4, 2]])
    numbers = np.zeros((3, 2), np.float32)
    le = pa.table(
        {
            **rows,
            **{"actions": tables.vectors(actions)},
            "scores": tables.vectors(numbers),
            "rewards": tables.vectors(numbers),
        }
    )
    rank = lambda users, positions: torch.tensor([[9.0, 3.0, 2.0, 1.0, 0.0]]).repeat(len(users), 1)  # noqa: E731, ARG005
    found = proposals(le, rank, train)
    assert found["actions"].to_pylist() == [[2, 0], [0, 3], [1, 2]]
    assert found["rewards"].to_pylist() == [[0.5, 0.5]] * 3


@given(LISTS, st.integers(0, 2**31))
def test_in_history_against_a_loop(lists: list[list[int]], seed: int) -> None:
    train = of_lists(lists, 6)
    users, positions = train.users_and_positions()
    items = RNG(seed).integers(0, 6, (len(users), 3))
    found = in_history(train, users, positions, items)
    for row, user, position, asked in zip(found, users, positions, items, strict=True):
        assert row.tolist() == [item in lists[user][: position + 1] for item in asked]
