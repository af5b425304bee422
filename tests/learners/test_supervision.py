"""The LE's parts as a learner reads them, and the TD terms that they enter, against a plain recomputation."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences
from lea_core.learners.batches import TrainingData
from lea_core.learners.critics import CriticNetwork, polyak
from lea_core.learners.supervision import Supervision, read_supervision, transitions
from lea_core.learners.td import td_terms
from tests.support.circle import CPU, RNG, networks, params, sequences, write_parts


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
