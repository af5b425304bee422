"""The training loop that all methods share.

In: all users' sequences, the supervision of the training events and a variant's parameters. Out: for a seed, the policy
that was best on the validation events, and the curve of its training.

Every `evaluate_every` epochs the policy ranks all items for the validation events (seen items left out by
`evaluate.mask_seen`, as in the evaluation); NDCG@10 selects the checkpoint and stops the training. The checkpoint of
SAC and SA2C is one from after their warm-up, for during it they are SQN and SNQN. The same seed gives the same bytes.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lea_core.common.progress import bar
from lea_core.data.leaks import training_events
from lea_core.data.sequences import Sequences
from lea_core.learners.batches import TrainingData
from lea_core.learners.build import Learner, build_learner, start_items
from lea_core.learners.divergence import Guard, largest_value
from lea_core.learners.supervision import Supervision
from lea_core.metrics.full_ranking import rank_events
from lea_core.metrics.ranking import SELECTION
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.params import ActorCriticParams, Params

EVALUATION_BATCH = 512  # events ranked at a time; changes no result
STEPS_READ_AT_ONCE = 64  # reading a number stops the device that computes it


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
        torch.manual_seed(seed)  # initial weights, dropout, which of two networks is updated
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
    warm_up = method.warmup_epochs if isinstance(method, ActorCriticParams) else 0
    started, steps, curve = time.perf_counter(), 0, []
    best, best_epoch, best_weights = -1.0, 0, policy.state_dict()
    with bar(train.epochs, f"{name} seed {seed}", "epoch") as progress:
        for epoch in range(1, train.epochs + 1):
            policy.train()
            losses = _epoch(learner, data, epoch, generator, guard)
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


def _epoch(
    learner: Learner, data: TrainingData, epoch: int, generator: np.random.Generator, guard: Guard
) -> list[dict[str, float]]:
    """Train one epoch; returns the losses of every step. They are read and checked in groups."""
    losses: list[dict[str, float]] = []
    steps = (learner.update(batch, epoch) for batch in data.epoch(generator))
    while group := list(itertools.islice(steps, STEPS_READ_AT_ONCE)):
        values = torch.stack([torch.stack(list(step.values())) for step in group]).tolist()
        for row in values:
            losses.append(dict(zip(group[0], row, strict=True)))
            guard.check(epoch, losses[-1])
    return losses


def validate(policy: PolicyNetwork, sequences: Sequences, mask_seen: bool) -> dict[str, float]:
    """HR@10 and NDCG@10 of the validation events."""
    users, positions = sequences.targets("valid")
    history = policy.config.history
    ranked = rank_events(policy.scores, sequences, users, positions, history, mask_seen, EVALUATION_BATCH)
    scores = ranked.metrics([10])
    return {key: scores[key] for key in ("HR@10", SELECTION)}
