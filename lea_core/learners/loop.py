"""The training loop that all methods share.

In: all users' sequences, the supervision of the training events and a variant's parameters. Out: for a seed, the policy
that was best on the validation events, and the curve of its training.

Every `evaluate_every` epochs the policy ranks all items for the validation events (seen items left out by
`evaluate.mask_seen`, as in the evaluation); NDCG@10 selects the checkpoint and stops the training. The checkpoint of
SAC and SA2C is one from after their warm-up, for during it they are SQN and SNQN. The same seed gives the same bytes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from lea_core.common.errors import LeaError
from lea_core.common.progress import bar
from lea_core.data.leaks import training_events
from lea_core.data.sequences import Sequences
from lea_core.learners.batches import Batch, TrainingData
from lea_core.learners.critics import CriticNetwork, Critics, Network, adamw, target_of
from lea_core.learners.sa2c import Sa2c
from lea_core.learners.sac import Sac
from lea_core.learners.snqn import Snqn
from lea_core.learners.sqn import Sqn
from lea_core.learners.supervised import Supervised
from lea_core.learners.supervision import Supervision
from lea_core.metrics.full_ranking import rank_events
from lea_core.metrics.ranking import SELECTION
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.params import ActorParams, NegativeParams, Params, QParams, SupervisedParams, TrainParams, Variant

EVALUATION_BATCH = 512  # events ranked at a time; changes no result
DIVERGENCE = 10.0  # times the largest value that rewards and gamma allow


class DivergedError(LeaError):
    """The training went astray under these parameters; others may do."""


class Learner(Protocol):
    """A method: it holds its networks and optimiser, and knows one step."""

    def update(self, batch: Batch, epoch: int, /) -> dict[str, float]:
        """Train on one batch; returns its mean losses."""


@dataclass(frozen=True)
class Trained:
    """A trained policy, its curve (one row per evaluation), and a summary in numbers."""

    policy: PolicyNetwork
    curve: list[dict[str, float]]
    summary: dict[str, Any]


def train_seed(
    name: str, seed: int, params: Params, sequences: Sequences, supervision: Supervision, device: torch.device
) -> Trained:
    """Train variant `name` from one seed. Raises `DivergedError` where the training does."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # initial weights, dropout, coins
        return _train_seed(name, seed, params.of(name), sequences, supervision, device)


def _train_seed(
    name: str, seed: int, params: Params, sequences: Sequences, supervision: Supervision, device: torch.device
) -> Trained:
    variant, train = params.variant(name), params.train
    settings = getattr(params.backbones, variant.backbone).model_dump()
    policy = PolicyNetwork(
        PolicyConfig(variant.backbone, settings, sequences.num_items, train.history, train.repeat_bias)
    ).to(device)
    start_items(policy, supervision, train)
    learner = build_learner(variant, params, policy, supervision)
    method = getattr(params.methods, variant.method)
    data = TrainingData(training_events(sequences), supervision, method, train, device)
    generator = np.random.default_rng(seed)  # windows, their order and negatives
    guard = Guard(f"variant {name}, seed {seed}", variant.method, largest_value(method, params, supervision))
    warm_up = method.warmup_epochs if isinstance(method, ActorParams) else 0
    started, steps, curve = time.perf_counter(), 0, []
    best, best_epoch, best_weights = -1.0, 0, policy.state_dict()
    with bar(train.epochs, f"{name} seed {seed}", "epoch") as progress:
        for epoch in range(1, train.epochs + 1):
            policy.train()
            losses = []
            for batch in data.epoch(generator):
                losses.append(learner.update(batch, epoch))
                guard.check(epoch, losses[-1])
            steps += len(losses)
            progress.update()
            if epoch % train.evaluate_every and epoch < train.epochs:
                continue
            scores = validate(policy, sequences, params.evaluate.mask_seen)
            means = {key: math.fsum(row[key] for row in losses) / len(losses) for key in losses[0]}
            curve.append({"seed": seed, "epoch": epoch, **means, **scores})
            progress.set_postfix(loss=f"{means['loss']:.3f}", valid=f"{scores[SELECTION]:.4f}", refresh=False)
            if epoch > warm_up and scores[SELECTION] > best:
                best, best_epoch = scores[SELECTION], epoch
                best_weights.clear()  # first, so that large tables do not exist a third time
                best_weights = {key: value.clone() for key, value in policy.state_dict().items()}
            elif epoch - max(best_epoch, warm_up) >= train.patience * train.evaluate_every:
                break
    policy.load_state_dict(best_weights)
    seconds = round(time.perf_counter() - started, 2)
    summary = {"best_epoch": best_epoch, "epochs": epoch, "steps": steps, SELECTION: best, "seconds": seconds}
    return Trained(policy, curve, summary)


@torch.no_grad()
def start_items(policy: PolicyNetwork, supervision: Supervision, train: TrainParams) -> None:
    """Give embeddings and actor the first D numbers of the item vectors, where the variant has any, to start from."""
    vectors = supervision.item_vectors
    if vectors is None:
        return
    if vectors.shape[1] < policy.width:
        raise LeaError(
            f"params.yaml: the backbone's width {policy.width} is more than the {vectors.shape[1]} numbers of an item "
            "vector: lower it, or raise tokenize_items.content_width"
        )
    start = vectors[:, : policy.width].to(policy.actor.weight.device)
    start = start * (train.le.item_scale / start.std())
    policy.backbone.item_embedding.weight.copy_(start)
    policy.actor.weight.copy_(start)
    policy.backbone.item_embedding.weight.requires_grad_(not train.le.freeze_items)


def build_learner(variant: Variant, params: Params, policy: PolicyNetwork, supervision: Supervision) -> Learner:
    """The variant's method around `policy`."""
    train, methods, device = params.train, params.methods, policy.actor.weight.device
    if train.sparse:
        policy.use_sparse_gradients()
    le_width = None if supervision.le_states is None else supervision.le_states.shape[1]
    aligned_width = le_width if train.le.state_alignment > 0 else None
    if variant.method == "supervised":
        network = Network(policy, aligned_width).to(device)
        return Supervised(methods.supervised, train, network, adamw(network, train))

    def critics(settings: QParams) -> Critics:
        first = CriticNetwork(policy, aligned_width, le_width, train.le.state_width).to(device)
        if settings.target_rate is not None:
            return Critics(first, target_of(first), settings, train)
        other = PolicyNetwork(policy.config)  # the papers' second network, with weights of its own
        start_items(other, supervision, train)
        if train.sparse:
            other.use_sparse_gradients()
        return Critics(
            first, CriticNetwork(other, aligned_width, le_width, train.le.state_width).to(device), settings, train
        )

    if variant.method == "sqn":
        return Sqn(methods.sqn, train, critics(methods.sqn))
    if variant.method == "sac":
        return Sac(methods.sac, train, critics(methods.sac))
    if variant.method == "snqn":
        return Snqn(methods.snqn, train, critics(methods.snqn))
    return Sa2c(methods.sa2c, train, critics(methods.sa2c))


def validate(policy: PolicyNetwork, sequences: Sequences, mask_seen: bool) -> dict[str, float]:
    """HR@10 and NDCG@10 of the validation events."""
    users, positions = sequences.targets("valid")
    history = policy.config.history
    ranked = rank_events(policy.scores, sequences, users, positions, history, mask_seen, EVALUATION_BATCH)
    scores = ranked.metrics([10])
    return {key: scores[key] for key in ("HR@10", SELECTION)}


def largest_value(settings: SupervisedParams | QParams, params: Params, supervision: Supervision) -> float:
    """The largest Q value that rewards and gamma allow: max |r| / (1 - gamma); infinite for gamma 1."""
    if isinstance(settings, SupervisedParams) or settings.gamma == 1.0:
        return math.inf
    rewards = [float(supervision.rewards.abs().max())]
    if supervision.proposed_preferences is not None:
        rewards.append(params.train.le.reward_scale)
    if isinstance(settings, NegativeParams):
        sampled = supervision.sampled_rewards
        rewards.append(abs(settings.negative_reward) if sampled is None else float(sampled.abs().max()))
    return max(rewards) / (1.0 - settings.gamma)


@dataclass(frozen=True)
class Guard:
    """Stops a training that has gone astray."""

    run: str
    method: str
    largest_value: float

    def check(self, epoch: int, losses: dict[str, float]) -> None:
        """Raise `DivergedError` where a loss is not finite or the greedy Q value is far beyond what is possible."""
        for key, value in losses.items():
            if not math.isfinite(value):
                raise DivergedError(f"{self.run}, epoch {epoch}: {key} is {value}: lower train.learning_rate")
        if abs(losses.get("greedy_q", 0.0)) > DIVERGENCE * self.largest_value:
            raise DivergedError(
                f"{self.run}, epoch {epoch}: Q values reach {losses['greedy_q']:.3g}, where rewards and gamma allow "
                f"{self.largest_value:.3g}: lower train.learning_rate or methods.{self.method}.gamma"
            )
