"""Windows, LE parts, the TD terms against a plain recomputation, and whole trainings on a world that can be solved."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lea_core.errors import LeaError
from lea_core.le_parts import Supervision, read_supervision, transitions
from lea_core.learners.batches import TrainingData, training_windows
from lea_core.learners.loop import Guard, build_learner, train_seed
from lea_core.learners.network import CriticNetwork, polyak, target_of
from lea_core.learners.sa2c import Sa2c
from lea_core.learners.sac import Sac
from lea_core.learners.sqn import Sqn
from lea_core.learners.terms import td_terms
from lea_core.params import Params
from lea_core.policy import Policy, PolicyConfig
from lea_core.sequences import Sequences
from lea_core.tables import ACTIONS, INTERACTIONS, REWARDS, STATES, vectors, write_table
from lea_core.tables import write_parts as write_made

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
NONE = {"state": "none", "reward": "none", "actions": "none"}
LE = {"state": "le", "reward": "le", "actions": "le"}


def params(changes: dict[str, Any] | None = None) -> Params:
    """The project's parameters at a small size, with dotted changes."""
    raw = YAML(typ="safe", pure=True).load(Path(__file__).parent.parent / "params.yaml")
    raw["backbones"] = {
        "sasrec": {"width": 16, "layers": 1, "heads": 2, "dropout": 0.0},
        "gru4rec": {"width": 16, "layers": 1, "dropout": 0.0},
        "caser": {"width": 16, "window": 3, "heights": [2, 3], "filters": 8, "dropout": 0.0},
        "nextitnet": {"width": 16, "dilations": [1], "kernel": 3, "dropout": 0.0},
    }
    raw["variants"] = {
        f"{method}{end}": {"backbone": backbone, "method": method, **parts}
        for method in ("supervised", "sqn", "sac", "snqn", "sa2c")
        for end, backbone, parts in (
            ("", "sasrec", NONE),
            ("-gru4rec", "gru4rec", NONE),
            ("-caser", "caser", NONE),
            ("-nextitnet", "nextitnet", NONE),
            ("-lea", "sasrec", LE),
        )
    }
    raw["variants"]["supervised-lea"]["reward"] = "none"
    small = {
        "methods.sa2c.warmup_epochs": 3,
        "methods.sa2c.q_weight": 1.0,
        "methods.sac.warmup_epochs": 3,
        "methods.snqn.negatives": 5,
        "methods.sa2c.negatives": 5,
        "methods.sac.q_weight": 1.0,
        "train.epochs": 20,
        "train.patience": 20,
        "train.evaluate_every": 1,
        "train.history": 4,
        "train.batches": {"kind": "packed", "size": 8},
        "train.learning_rate": 0.01,
        "train.event_rewards": {"": 1.0, "buy": 5.0},
        "train.le.state_alignment": 0.1,
        "preprocess.repeats": True,
    }
    for key, value in {**small, **(changes or {})}.items():
        *sections, last = key.split(".")
        section = raw
        for name in sections:
            section = section[name]
        section[last] = value
    return Params.model_validate(raw)


def sequences(lengths: list[int], num_items: int = 10) -> Sequences:
    """Users who walk round a circle of items; the last two events are held out."""
    items = np.concatenate([(user + np.arange(length)) % num_items for user, length in enumerate(lengths)])
    split = np.concatenate([[0] * (length - 2) + [1, 2] for length in lengths]).astype(np.int8)
    return Sequences(items, split, np.concatenate([[0], np.cumsum(lengths)]), num_items)


# ---- windows and batches


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 7), st.integers(0, 5))
def test_windows_cover_every_target_once(lengths: list[int], history: int, seed: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    train = Sequences(np.zeros(offsets[-1], int), np.zeros(offsets[-1], np.int8), offsets, 1)
    wanted = [row + 1 for row in transitions(train)]
    assert wanted == [row for first, end in pairwise(offsets) for row in range(first + 1, end)]
    if not wanted:
        with pytest.raises(LeaError, match="no user has two training events"):
            training_windows(train, history, np.random.default_rng(seed))
        return
    starts, stops = training_windows(train, history, np.random.default_rng(seed))
    assert [row for start, stop in zip(starts, stops, strict=True) for row in range(start + 1, stop)] == wanted
    assert (stops - starts).max() <= history + 1


def test_batch_by_hand() -> None:
    train = sequences([6, 5]).train()  # items 0 1 2 3 and 1 2 3
    rewards = torch.tensor([10.0, 11.0, 12.0, 20.0, 21.0])
    states = torch.arange(7, dtype=torch.float16)[:, None]
    given = Supervision(rewards, states, torch.arange(5)[:, None], torch.arange(5.0)[:, None])
    data = TrainingData(train, given, params().methods.snqn, params().train, CPU)
    # user 0 from its second event on; user 1 without its last
    batch = data.packed(np.array([1, 4]), np.array([4, 6]), RNG)
    assert batch.items.tolist() == [[1, 2, 3], [1, 2, -1]]
    assert batch.events.tolist() == [0, 1, 2, 3, 4]
    assert batch.source.tolist() == [0, 1, 3]
    assert batch.action.tolist() == [2, 3, 2]
    assert batch.last.tolist() == [False, True, False]  # the window's end is no user's end
    assert batch.reward.tolist() == [11.0, 12.0, 20.0]
    assert batch.le_states is not None
    assert batch.le_states.tolist() == [[1.0], [2.0], [3.0], [4.0], [5.0]]
    assert batch.sampled_actions is not None
    assert batch.sampled_actions.tolist() == [[1], [2], [3]]
    hidden = torch.arange(6.0).view(2, 3, 1)
    assert batch.states(hidden).tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0]]


def test_transitions_by_hand() -> None:
    train = sequences([8, 5]).train()  # items 0 1 2 3 4 5 and 1 2 3
    rewards = torch.arange(7.0)
    p = params({"train.batches": {"kind": "transitions", "size": 2}})  # train.history is 4
    data = TrainingData(train, Supervision(rewards), p.methods.sqn, p.train, CPU)
    batch = data.transitions(np.array([4, 6]), RNG)  # user 0 after item 4, user 1 after its first
    assert batch.items.tolist() == [[1, 2, 3, 4], [2, 3, 4, 5], [1, -1, -1, -1], [1, 2, -1, -1]]  # s, s', s, s'
    hidden = torch.arange(16.0).view(4, 4, 1)
    assert batch.states(hidden).flatten().tolist() == [3.0, 7.0, 8.0, 13.0]
    assert batch.source.tolist() == [0, 2]
    assert batch.action.tolist() == [5, 2]
    assert batch.last.tolist() == [True, False]
    assert batch.reward.tolist() == [4.0, 5.0]
    plain = TrainingData(train, Supervision(rewards), p.methods.supervised, p.train, CPU)
    assert plain.transitions(np.array([4, 6]), RNG).items.tolist() == [[1, 2, 3, 4], [1, -1, -1, -1]]  # s alone


def test_an_epoch_of_transitions_takes_each_once() -> None:
    p = params({"train.batches": {"kind": "transitions", "size": 5}})
    rewards = torch.arange(float(len(transitions(WORLD.train()))))  # each transition's own number
    data = TrainingData(WORLD.train(), Supervision(rewards), p.methods.sqn, p.train, CPU)
    taken = [batch.reward.tolist() for batch in data.epoch(np.random.default_rng(0))]
    assert max(map(len, taken)) == 5
    assert sorted(number for numbers in taken for number in numbers) == rewards.tolist()


def test_drawn_items_and_their_expected_counts() -> None:
    train = Sequences(np.array([0, 0, 0, 1]), np.zeros(4, np.int8), np.array([0, 4]), 3)
    p = params({"train.loss": {"name": "sampled_softmax", "negatives": 2, "popularity": 1.0}})
    data = TrainingData(train, Supervision(torch.ones(3)), p.methods.supervised, p.train, CPU)
    share = torch.tensor([4.0, 2.0, 1.0]) / 7  # training counts 3, 1, 0, plus 1
    counts, generator = torch.zeros(3), np.random.default_rng(0)
    for _ in range(1000):
        batch = next(data.epoch(generator))
        assert batch.loss_items is not None
        torch.testing.assert_close(batch.loss_log_counts, (2 * share[batch.loss_items]).log())
        counts += batch.loss_items.bincount(minlength=3)
    torch.testing.assert_close(counts / counts.sum(), share, atol=0.02, rtol=0.0)


def test_the_greedy_action_is_looked_for_among_the_drawn_and_the_logged() -> None:
    p = params({"train.greedy_items": 2})
    train = WORLD.train()
    data = TrainingData(train, Supervision(torch.ones(len(transitions(train)))), p.methods.sqn, p.train, CPU)
    batch = data.packed(np.array([0]), np.array([4]), RNG)  # actions 1, 2, 3
    assert batch.greedy_items is not None
    items = batch.greedy_items.tolist()
    assert {1, 2, 3} <= set(items)
    assert len(items) <= 5
    online, _ = networks(p, 10, None)
    states = torch.randn(6, 16)
    q = online.critic(states)
    assert online.greedy(states, batch.greedy_items).flatten().tolist() == [
        items[place] for place in q[:, items].argmax(dim=1).tolist()
    ]
    assert torch.equal(online.greedy(states, torch.arange(10)), online.greedy(states, None))


@pytest.mark.parametrize(
    ("changes", "num_items", "message"),
    [
        ({"methods.snqn.negatives": 10}, 10, "negatives of the method is 10, but .* has 10 items: use fewer"),
        ({"train.loss": {"name": "gbce", "negatives": 64, "calibration": 0.5}}, 10, "train.loss.negatives is 64, but"),
        ({"train.greedy_items": 10}, 10, "train.greedy_items is 10, but .* has 10 items"),
        ({}, 1, "one item leaves nothing to choose from: keep more items"),
    ],
)
def test_what_a_small_catalogue_cannot_give(changes: dict[str, Any], num_items: int, message: str) -> None:
    p, world = params(changes), sequences([6], num_items)
    with pytest.raises(LeaError, match=message):
        TrainingData(world.train(), Supervision(torch.ones(3)), p.methods.snqn, p.train, CPU)


@pytest.mark.parametrize("kind", ["packed", "transitions"])
def test_sequences_of_one_event_teach_nothing(kind: str) -> None:
    p, world = params({"train.batches": {"kind": kind, "size": 8}}), sequences([3, 3])
    data = TrainingData(world.train(), Supervision(torch.ones(0)), p.methods.snqn, p.train, CPU)
    with pytest.raises(LeaError, match="no user has two training events: give more data"):
        next(data.epoch(RNG))


# ---- the LE's parts


def write_parts(folder: Path, data: Sequences, event: str = "") -> Params:
    """Tables of a small LE: reward 2 for logged items above 4, 1 for others, 0 for samples, 1 for odd proposals."""
    users, positions = (column.astype(np.int32) for column in data.users_and_positions())
    names = np.array(["train", "valid", "test"])[data.split]
    interactions = {
        "user": users,
        "position": positions,
        "item": data.items.astype(np.int32),
        "timestamp": positions.astype(np.int64),
        "event": [event] * len(users),
        "rating": np.zeros(len(users), np.float32),
        "split": names,
    }
    made_from = folder / "interactions" / "interactions.parquet"
    write_table(made_from, pa.table(interactions), INTERACTIONS)
    train = data.train()
    users, positions = (column.astype(np.int32) for column in train.users_and_positions())
    rows = transitions(train)
    generator = np.random.default_rng(0)
    state = vectors(generator.normal(size=(len(users), 6)).astype(np.float16))
    states = pa.table({"user": users, "position": positions, "state": state})
    write_made(folder / "states" / "le.parquet", [states], STATES, made_from)
    action = train.items[rows + 1].astype(np.int32)
    others = (action[:, None] + [[5, 6]]).astype(np.int32) % data.num_items
    zeros = vectors(np.zeros_like(others, dtype=np.float32))
    key = {"user": users[rows], "position": positions[rows]}
    rewards = pa.table(
        {
            **key,
            "action": action,
            "reward": (1.0 + (action > 4)).astype(np.float32),
            "sampled_actions": vectors(others),
            "sampled_rewards": zeros,
        }
    )
    write_made(folder / "rewards" / "le.parquet", [rewards], REWARDS, made_from)
    actions = pa.table(
        {**key, "actions": vectors(others), "scores": zeros, "rewards": vectors((others % 2).astype(np.float32))}
    )
    write_made(folder / "actions" / "le.parquet", [actions], ACTIONS, made_from)
    return params()


def test_rewards_are_scaled_by_the_logged_ones(tmp_path: Path) -> None:
    data = sequences([10, 10], 8)  # training items 0 to 7 and 1 to 7 0: actions 1 to 7, and 2 to 7 0
    p = write_parts(tmp_path, data)
    found = read_supervision(tmp_path, p.variant("snqn-lea"), p.train, data.train())
    action = data.train().items[transitions(data.train()) + 1]
    high = (action > 4).mean()  # share of logged rewards 2: their mean is 1 + high, their variance high (1 - high)
    of = [1 / (1 + math.exp(-(reward - 1 - high) / math.sqrt(high * (1 - high)))) for reward in (0, 1, 2)]
    np.testing.assert_allclose(found.rewards, [of[2] if item > 4 else of[1] for item in action], rtol=1e-5)
    np.testing.assert_allclose(found.sampled_rewards, np.full((14, 2), of[0]), rtol=1e-5)
    assert found.proposed_actions is not None
    wanted = [[of[item % 2] for item in row] for row in found.proposed_actions.tolist()]
    np.testing.assert_allclose(found.proposed_preferences, wanted, rtol=1e-5)
    assert found.le_states is not None
    assert (found.le_states.dtype, found.le_states.shape) == (torch.float16, (16, 6))
    plain = read_supervision(tmp_path, p.variant("snqn"), p.train, data.train())
    assert plain.rewards.tolist() == [1.0] * 14
    assert {name for name, value in vars(plain).items() if value is not None} == {"rewards"}


def test_rewards_by_event(tmp_path: Path) -> None:
    data = sequences([5])
    p = write_parts(tmp_path, data, event="buy")
    found = read_supervision(tmp_path, p.variant("snqn"), p.train, data.train())
    assert found.rewards.tolist() == [5.0, 5.0]
    write_parts(tmp_path, data, event="click")
    with pytest.raises(LeaError, match="event_rewards has no reward for event 'click'"):
        read_supervision(tmp_path, p.variant("snqn"), p.train, data.train())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (sequences([6, 5, 5]), r"le\.parquet: made from another dataset \(10 rows, but training has 7\)"),
        (sequences([5, 6]), r"\(row 3 is user 1 position 0, not user 0 position 3\): run `dvc repro annotate`"),
    ],
)
def test_tables_of_another_dataset_are_refused(other: Sequences, message: str, tmp_path: Path) -> None:
    p = write_parts(tmp_path, other)
    with pytest.raises(LeaError, match=message):
        read_supervision(tmp_path, p.variant("snqn-lea"), p.train, sequences([6, 5]).train())


@pytest.mark.parametrize(("part", "stage"), [("states", "annotate"), ("rewards", "annotate"), ("actions", "augment")])
def test_a_table_of_interactions_that_changed_is_refused(part: str, stage: str, tmp_path: Path) -> None:
    """Users, positions and actions would fit: only the hash tells."""
    data = sequences([10, 10])
    p = write_parts(tmp_path, data)
    kept = (tmp_path / part / "le.parquet").read_bytes()
    write_parts(tmp_path, data, event="buy")
    read_supervision(tmp_path, p.variant("snqn-lea"), p.train, data.train())
    (tmp_path / part / "le.parquet").write_bytes(kept)
    with pytest.raises(LeaError, match=rf"{part}/le\.parquet: .*hash is not that of .*run `dvc repro {stage}`"):
        read_supervision(tmp_path, p.variant("snqn-lea"), p.train, data.train())


def test_rewards_of_other_actions_are_refused(tmp_path: Path) -> None:
    data = sequences([10, 10])
    p = write_parts(tmp_path, data)
    shuffled = Sequences(data.items[::-1].copy(), data.split, data.offsets, data.num_items)
    with pytest.raises(LeaError, match="an action is not the item that follows in training"):
        read_supervision(tmp_path, p.variant("snqn-lea"), p.train, shuffled.train())
    fewer = Sequences(data.items, data.split, data.offsets, 6)  # sampled items go up to 9
    with pytest.raises(LeaError, match=r"holds items outside 0 to 5\): run `dvc repro annotate`"):
        read_supervision(tmp_path, p.variant("snqn-lea"), p.train, fewer.train())


# ---- the TD terms


def networks(p: Params, num_items: int, le_width: int | None) -> tuple[CriticNetwork, CriticNetwork]:
    torch.manual_seed(0)
    settings = p.backbones.sasrec.model_dump()
    online = CriticNetwork(Policy(PolicyConfig("sasrec", settings, num_items, 4)), None, le_width, 3)
    target = target_of(online)
    for weight in target.parameters():
        weight += 0.3 * torch.randn_like(weight)  # so that online and target differ
    return online, target


@pytest.mark.parametrize("end_is_terminal", [False, True])
def test_td_terms_against_plain_recomputation(end_is_terminal: bool, tmp_path: Path) -> None:
    data = sequences([9, 6])
    change = {"methods.snqn.end_is_terminal": end_is_terminal, "train.le.action_q_weight": 0.7}
    write_parts(tmp_path, data)
    p = params(change)
    train = data.train()
    given = read_supervision(tmp_path, p.variant("snqn-lea"), p.train, train)
    online, target = networks(p, 10, 6)
    data_of = TrainingData(train, given, p.methods.snqn, p.train, CPU)
    batch = data_of.packed(np.array([0, 4, 7]), np.array([5, 7, 11]), RNG)
    states = batch.states(online.policy(batch.items))
    settings = p.methods.snqn
    found = td_terms(online, target, states, batch, settings, p.train.le)

    def q(network: CriticNetwork, prefix: np.ndarray, row: int) -> np.ndarray:
        """Q of all items after the items of `prefix`, the last of which is training event `row`."""
        with torch.no_grad():
            assert given.le_states is not None
            assert network.projection is not None
            state = network.policy(torch.from_numpy(prefix)[None])[0, -1]
            seen = torch.cat([state, network.projection(given.le_states[row].float())])
            values: np.ndarray = network.critic(seen).numpy()
            return values

    wanted = []
    for start, stop in [(0, 5), (4, 7), (7, 11)]:
        for row in range(start, stop - 1):
            here = [q(network, train.items[start : row + 1], row) for network in (online, target)]
            after = [q(network, train.items[start : row + 2], row + 1) for network in (online, target)]
            bootstrap, next_bootstrap = here[1][here[0].argmax()], after[1][after[0].argmax()]
            if end_is_terminal and row + 1 in (6, 10):  # the last training events of the two users
                next_bootstrap = 0.0
            of = int(np.flatnonzero(transitions(train) == row)[0])
            logged = float(given.rewards[of]) + settings.gamma * next_bootstrap - here[0][train.items[row + 1]]
            total = 0.5 * logged**2
            for action, reward in zip(given.sampled_actions[of], given.sampled_rewards[of], strict=True):  # type: ignore[index]
                total += 0.5 * (float(reward) + settings.gamma * bootstrap - here[0][action]) ** 2
            for action, like in zip(given.proposed_actions[of], given.proposed_preferences[of], strict=True):  # type: ignore[index]
                reward = p.train.le.reward_scale * float(like)
                total += 0.7 / 2 * 0.5 * (reward + settings.gamma * bootstrap - here[0][action]) ** 2
            wanted.append(total)
    np.testing.assert_allclose(found.loss.detach(), wanted, rtol=1e-4)


def test_td_gradient_stays_in_the_online_network() -> None:
    data = sequences([9, 6])
    online, target = networks(params(), 10, None)
    rewards = torch.ones(len(transitions(data.train())))
    given = TrainingData(data.train(), Supervision(rewards), params().methods.snqn, params().train, CPU)
    batch = given.packed(np.array([0]), np.array([5]), RNG)
    states = batch.states(online.policy(batch.items))
    td_terms(online, target, states, batch, params().methods.snqn, params().train.le).loss.mean().backward()
    assert online.critic.weight.grad is not None
    assert online.critic.weight.grad.any()
    assert all(weight.grad is None for weight in target.parameters())


def test_polyak_by_hand() -> None:
    online, target = networks(params(), 10, None)
    with torch.no_grad():
        online.critic.bias.fill_(1.0)
        target.critic.bias.fill_(3.0)
    polyak(target, online, 0.25)
    assert target.critic.bias.tolist() == [2.5] * 10
    assert online.critic.bias.tolist() == [1.0] * 10


# ---- methods and the loop

WORLD = sequences([12] * 12)


def train(name: str, supervision: Supervision | None = None, changes: dict[str, Any] | None = None) -> Any:
    given = supervision or Supervision(torch.ones(len(transitions(WORLD.train()))))
    return train_seed(name, 3, params(changes), WORLD, given, CPU)


@pytest.mark.parametrize("method", ["supervised", "sqn", "sac", "snqn", "sa2c"])
@pytest.mark.parametrize("backbone", ["", "-gru4rec", "-caser", "-nextitnet"])
def test_every_method_learns_to_walk_round_the_circle(method: str, backbone: str) -> None:
    trained = train(f"{method}{backbone}")
    assert trained.summary["NDCG@10"] > 0.95
    assert trained.curve[-1]["loss"] < trained.curve[0]["loss"]
    histories = np.array([[-1, 2, 3, 4], [6, 7, 8, 9]])
    assert trained.policy.scores(histories).argmax(dim=1).tolist() == [5, 0]


@pytest.mark.parametrize("name", ["supervised-lea", "sqn-lea", "sac-lea", "snqn-lea", "sa2c-lea"])
def test_le_parts_train_and_stay_at_home(name: str, tmp_path: Path) -> None:
    write_parts(tmp_path, WORLD)
    given = read_supervision(tmp_path, params().variant(name), params().train, WORLD.train())
    trained = train(name, given)
    assert trained.summary["NDCG@10"] > 0.9
    assert list(trained.policy.state_dict()) == list(train("supervised").policy.state_dict())


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for run in ("a", "b"):
        torch.rand(1)  # whatever happened before
        trained = train("sa2c", changes={"backbones.sasrec.dropout": 0.3, "train.epochs": 5})
        trained.policy.save(tmp_path / run)
        (tmp_path / run / "curve").write_text(repr(trained.curve))
    for name in ("policy.json", "policy.safetensors", "curve"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def one_step(name: str, epoch: int = 1, changes: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    """The policy after one update on the first batch of the circle, from the same weights and negatives."""
    p = params({"train.loss": {"name": "softmax"}, **(changes or {})})
    torch.manual_seed(0)
    policy = Policy(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, 4))
    generator = np.random.default_rng(0)
    rewards = torch.from_numpy(generator.random(len(transitions(WORLD.train()))).astype(np.float32))
    negatives = torch.from_numpy(generator.integers(0, 10, (len(rewards), 2)))
    given = Supervision(rewards, None, negatives, torch.rand(negatives.shape))
    learner = build_learner(p.variant(name), p, policy, given)
    data = TrainingData(WORLD.train(), given, getattr(p.methods, p.variant(name).method), p.train, CPU)
    learner.update(next(data.epoch(np.random.default_rng(0))), epoch)
    return {key: value.detach().clone() for key, value in policy.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def test_actor_critics_are_their_first_phase_until_the_warm_up_ends() -> None:
    for plain, actor in (("sqn", "sac"), ("snqn", "sa2c")):
        assert same(one_step(plain, 3), one_step(actor, 3))
        assert not same(one_step(plain, 4), one_step(actor, 4))


def test_identities_between_the_methods() -> None:
    free = {f"methods.{name}.q_weight": 0.0 for name in ("sqn", "snqn")}
    assert same(one_step("sqn", changes=free), one_step("supervised"))
    assert same(one_step("snqn", changes=free), one_step("supervised"))
    assert not same(one_step("snqn"), one_step("sqn"))  # the negatives do something
    # q_weight 2 with the factor 0.5 is q_weight 1 without
    halved = one_step("snqn", changes={"methods.snqn.q_weight": 2.0})
    whole = one_step("snqn", changes={"methods.snqn.half_td": False})
    for key, value in halved.items():
        torch.testing.assert_close(value, whole[key])
    # a sample of all items, and the logged one, is all items
    assert same(one_step("sqn", changes={"train.greedy_items": 9}), one_step("sqn"))
    # an off-policy ratio to the power 0 is none
    ratio = {"low": 0.1, "high": 10.0, "power": 0.0}
    assert same(one_step("sa2c", 4, {"methods.sa2c.off_policy": ratio}), one_step("sa2c", 4))
    assert not same(one_step("sa2c", 4, {"methods.sa2c.off_policy": {**ratio, "power": 1.0}}), one_step("sa2c", 4))


@pytest.mark.parametrize("name", ["supervised", "sqn", "sac", "snqn", "sa2c", "snqn-gru4rec"])
def test_packed_and_transitions_give_the_same_update(name: str) -> None:
    """Where no history is cut and nothing is drawn, it is one objective, computed in two ways."""
    world = sequences([9, 6, 7])
    short = {"train.history": 7, "methods.sac.q_weight": 0.5, "methods.sa2c.q_weight": 0.5}
    updated = {}
    for kind, size in (("packed", 3), ("transitions", 13)):
        p = params({**short, "train.batches": {"kind": kind, "size": size}})
        variant = p.variant(name)
        torch.manual_seed(0)
        policy = Policy(PolicyConfig(variant.backbone, getattr(p.backbones, variant.backbone).model_dump(), 10, 7))
        negatives = torch.arange(13 * 2).view(13, 2) % 10
        given = Supervision(torch.linspace(0, 1, 13), None, negatives, torch.linspace(0, 1, 26).view(13, 2))
        learner = build_learner(variant, p, policy, given)
        data = TrainingData(world.train(), given, getattr(p.methods, variant.method), p.train, CPU)
        batches = list(data.epoch(np.random.default_rng(0)))
        assert len(batches) == 1
        learner.update(batches[0], 4)  # the second phase of those that have one
        updated[kind] = policy.state_dict()
    for key, value in updated["packed"].items():
        torch.testing.assert_close(value, updated["transitions"][key], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("name", ["sac", "sa2c"])
def test_the_second_phase_weights_each_logged_action_by_hand(name: str) -> None:
    """Q(s, a+), or the clipped advantage over the mean of it and two negatives, times -log pi(a+ | s)."""
    p = params({f"methods.{name}.q_weight": 0.0, "train.gradient_clip": 1e9, "methods.sa2c.advantage_clip": [0.0, 0.1]})
    given = Supervision(torch.ones(6), None, torch.arange(12).view(6, 2) % 10, torch.zeros(6, 2))
    torch.manual_seed(0)
    policy = Policy(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, 4))
    learner = build_learner(p.variant(name), p, policy, given)
    assert isinstance(learner, Sac | Sa2c)
    online = learner.critics.networks[0]
    world = sequences([6, 7])  # training items 0 1 2 3 and 1 2 3 4 5: three and four transitions, of which six are read
    data = TrainingData(world.train(), given, getattr(p.methods, name), p.train, CPU)
    batch = data.packed(np.array([0, 4]), np.array([4, 8]), RNG)
    with torch.no_grad():
        weights = []
        for prefix, row in (([0], 0), ([0, 1], 1), ([0, 1, 2], 2), ([1], 3), ([1, 2], 4), ([1, 2, 3], 5)):
            q = online.critic(policy(torch.tensor([prefix]))[0, -1])
            logged, negatives = q[prefix[-1] + 1], q[[2 * row % 10, (2 * row + 1) % 10]]
            mean = (logged + negatives.sum()) / 3
            weights.append(logged if name == "sac" else (logged - mean).clamp(0.0, 0.1))
    log_policy = policy.logits(batch.states(policy(batch.items))[batch.source]).log_softmax(1)
    loss = -(torch.stack(weights) * log_policy[range(6), batch.action]).mean()
    wanted = torch.autograd.grad(loss, policy.actor.bias)[0]
    learner.update(batch, 4)
    torch.testing.assert_close(policy.actor.bias.grad, wanted)


def test_a_coin_picks_which_of_two_networks_learns() -> None:
    p = params({"methods.sqn.target_rate": None})
    torch.manual_seed(0)
    policy = Policy(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, 4))
    given = Supervision(torch.ones(len(transitions(WORLD.train()))))
    learner = build_learner(p.variant("sqn"), p, policy, given)
    assert isinstance(learner, Sqn)
    first, second = learner.critics.networks
    assert not torch.equal(first.critic.weight, second.critic.weight)  # weights of its own
    data = TrainingData(WORLD.train(), given, p.methods.sqn, p.train, CPU)
    turns = []
    for epoch in range(20):
        before = [network.critic.weight.detach().clone() for network in (first, second)]
        learner.update(next(data.epoch(RNG)), epoch)
        moved = [not torch.equal(a, b.critic.weight) for a, b in zip(before, (first, second), strict=True)]
        assert sum(moved) == 1
        turns.append(moved[0])
    assert 5 <= sum(turns) <= 15


def test_target_dropout_and_the_fresh_optimiser_are_switches() -> None:
    for on in (False, True):
        p = params({"methods.sa2c.target_dropout": on, "methods.sa2c.fresh_optimiser": on})
        policy = Policy(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, 4))
        given = Supervision(torch.ones(len(transitions(WORLD.train()))))
        learner = build_learner(p.variant("sa2c"), p, policy, given)
        assert isinstance(learner, Sa2c)
        data = TrainingData(WORLD.train(), given, p.methods.sa2c, p.train, CPU)
        learner.update(next(data.epoch(RNG)), 3)
        assert learner.critics.networks[1].training == on
        before = learner.critics.optimisers[0]
        learner.update(next(data.epoch(RNG)), 4)  # the first of the second phase
        assert (learner.critics.optimisers[0] is not before) == on
        after = learner.critics.optimisers[0]
        learner.update(next(data.epoch(RNG)), 5)
        assert learner.critics.optimisers[0] is after


@pytest.mark.parametrize(
    "changes",
    [
        {"train.loss": {"name": "sampled_softmax", "negatives": 6, "popularity": 0.5}},
        {"train.loss": {"name": "gbce", "negatives": 6, "calibration": 0.5}},
        {"train.greedy_items": 3},
        {"train.batches": {"kind": "transitions", "size": 32}},
        {"methods.snqn.target_rate": None, "train.epochs": 40},
    ],
)
def test_every_way_of_training_learns_the_circle(changes: dict[str, Any]) -> None:
    assert train("snqn", changes=changes).summary["NDCG@10"] > 0.95


def test_best_checkpoint_and_early_stopping() -> None:
    trained = train("supervised", changes={"train.patience": 2, "train.epochs": 40})
    scores = [row["NDCG@10"] for row in trained.curve]
    assert trained.summary["best_epoch"] == 1 + scores.index(max(scores))
    assert trained.summary["epochs"] == trained.summary["best_epoch"] + 2 == len(scores)


def test_divergence_stops_the_training() -> None:
    with pytest.raises(LeaError, match=r"variant snqn, seed 3, epoch \d+: .*lower train.learning_rate"):
        train("snqn", changes={"train.learning_rate": 1e6})
    guard = Guard("variant snqn, seed 0", "snqn", 2.0)
    guard.check(1, {"loss": 1.0, "greedy_q": 19.0})
    with pytest.raises(LeaError, match="epoch 2: Q values reach 21, where rewards and gamma allow 2: lower"):
        guard.check(2, {"loss": 1.0, "greedy_q": 21.0})
    with pytest.raises(LeaError, match="epoch 2: td is nan"):
        guard.check(2, {"loss": 1.0, "td": math.nan})
