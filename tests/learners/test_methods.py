"""Every method: identities, one update in two ways, switches, and whole trainings on a world that can be solved."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lea_core.common.errors import LeaError
from lea_core.learners.actor_critic import ActorCritic
from lea_core.learners.batches import TrainingData
from lea_core.learners.build import build_learner
from lea_core.learners.divergence import Guard
from lea_core.learners.loop import train_seed
from lea_core.learners.q_learning import QLearning
from lea_core.learners.supervision import Supervision, read_supervision, transitions
from lea_core.metrics.full_ranking import rank_table, summarise
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from tests.support.circle import CPU, RNG, WORLD, params, sequences, write_parts


def train(name: str, supervision: Supervision | None = None, changes: dict[str, Any] | None = None) -> Any:
    given = supervision or Supervision(torch.ones(len(transitions(WORLD.train()))))
    return train_seed(name, 3, params(changes), WORLD, given, CPU)


@pytest.mark.parametrize(
    ("method", "backbone"),
    [
        *((method, "") for method in ("supervised", "sqn", "sac", "snqn", "sa2c")),
        *((method, f"-{name}") for method in ("supervised", "sa2c") for name in ("gru4rec", "caser", "nextitnet")),
    ],
)
def test_every_method_and_backbone_learns_to_walk_round_the_circle(method: str, backbone: str) -> None:
    trained = train(f"{method}{backbone}")
    assert trained.summary["NDCG@10"] > 0.95
    assert trained.curve[-1]["loss"] < trained.curve[0]["loss"]
    histories = np.array([[-1, 2, 3, 4], [6, 7, 8, 9]])
    assert trained.policy.scores(histories).argmax(dim=1).tolist() == [5, 0]


@pytest.mark.parametrize("name", ["supervised-lea", "sqn-lea", "sac-lea", "snqn-lea", "sa2c-lea"])
def test_signals_train_and_are_not_exported(name: str, tmp_path: Path) -> None:
    write_parts(tmp_path, WORLD)
    given = read_supervision(tmp_path, params().variant(name), params().train, WORLD.train())
    trained = train(name, given)
    assert trained.summary["NDCG@10"] > 0.9
    assert list(trained.policy.state_dict()) == list(train("supervised").policy.state_dict())


def test_checkpoints_are_selected_as_they_are_scored() -> None:
    """Users may repeat, and are to be shown new items alone: two of the four take an item again and count as misses."""
    world = sequences([40, 41, 6, 7], num_items=30)
    given = Supervision(torch.ones(len(transitions(world.train()))))
    changes = {"preprocess.repeats": True, "evaluate.mask_seen": True, "train.epochs": 8}
    trained = train_seed("supervised", 3, params(changes), world, given, CPU)
    events = pa.chunked_array([[""] * len(world.items)])
    table = rank_table({3: (trained.policy.scores, 4)}, world, events, mask_seen=True, batch=9, cutoffs=[1])
    found = summarise(table, world, [10])
    assert found["misses"]["valid"] == {"repeated": 2, "no_candidate": 2, "few": {"10": 0}}
    assert 0.0 < trained.summary["NDCG@10"] == found["valid"]["NDCG@10"]["mean"] <= 0.5


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
    policy = PolicyNetwork(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, 4))
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
        policy = PolicyNetwork(
            PolicyConfig(variant.backbone, getattr(p.backbones, variant.backbone).model_dump(), 10, 7)
        )
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


@pytest.mark.parametrize("mean", [None, 2.0])
@pytest.mark.parametrize("name", ["sac", "sa2c"])
def test_the_second_phase_weights_each_logged_action_by_hand(name: str, mean: float | None) -> None:
    """Q(s, a+), or the clipped advantage over the mean of it and two negatives, times -log pi(a+ | s)."""
    own = {f"methods.{name}.q_weight": 0.0, f"methods.{name}.weight_mean": mean}
    p = params({**own, "train.gradient_clip": 1e9, "methods.sa2c.advantage_clip": [0.0, 0.1]})
    given = Supervision(torch.ones(6), None, torch.arange(12).view(6, 2) % 10, torch.zeros(6, 2))
    torch.manual_seed(0)
    policy = PolicyNetwork(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, 4))
    learner = build_learner(p.variant(name), p, policy, given)
    assert isinstance(learner, ActorCritic)
    online = learner.critics.networks[0]
    world = sequences([6, 7])  # training items 0 1 2 3 and 1 2 3 4 5: three and four transitions, of which six are read
    data = TrainingData(world.train(), given, getattr(p.methods, name), p.train, CPU)
    batch = data.packed(np.array([0, 4]), np.array([4, 8]), RNG)
    with torch.no_grad():
        weights = []
        for prefix, row in (([0], 0), ([0, 1], 1), ([0, 1, 2], 2), ([1], 3), ([1, 2], 4), ([1, 2, 3], 5)):
            q = online.critic(policy(torch.tensor([prefix]))[0, -1])
            logged, negatives = q[prefix[-1] + 1], q[[2 * row % 10, (2 * row + 1) % 10]]
            average = (logged + negatives.sum()) / 3
            weights.append(logged if name == "sac" else (logged - average).clamp(0.0, 0.1))
    log_policy = policy.logits(batch.states(policy(batch.items))[batch.source]).log_softmax(1)
    weight = torch.stack(weights)
    if mean is not None:
        weight = mean * weight / weight.abs().mean()
    loss = -(weight * log_policy[range(6), batch.action]).mean()
    wanted = torch.autograd.grad(loss, policy.actor.bias)[0]
    learner.update(batch, 4)
    torch.testing.assert_close(policy.actor.bias.grad, wanted)


def test_each_step_updates_a_random_one_of_two_networks() -> None:
    p = params({"methods.sqn.target_rate": None})
    torch.manual_seed(0)
    policy = PolicyNetwork(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, 4))
    given = Supervision(torch.ones(len(transitions(WORLD.train()))))
    learner = build_learner(p.variant("sqn"), p, policy, given)
    assert isinstance(learner, QLearning)
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
        policy = PolicyNetwork(PolicyConfig("sasrec", p.backbones.sasrec.model_dump(), 10, 4))
        given = Supervision(torch.ones(len(transitions(WORLD.train()))))
        learner = build_learner(p.variant("sa2c"), p, policy, given)
        assert isinstance(learner, ActorCritic)
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
