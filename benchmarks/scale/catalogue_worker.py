"""One measurement of the catalogue benchmark, in a process: `python -m benchmarks.scale.catalogue_worker JSON`.

In: a `Job` as JSON. Out: a line of JSON with its numbers. The log is synthetic: users of twenty events, items by
Zipf's law; it measures cost, and nothing of what a model could learn. One thread, whose own seconds of the processor
are counted: others on the machine do not lengthen them.

  step   SNQN on SASRec as params.yaml has them: the median seconds of an optimiser step and of making its batch, after
         the first ones; peak MiB of the process; MiB of what one step holds per item, by arithmetic (`held_mib`)
  epoch  seconds of one epoch; peak MiB
  rank   seconds per 1,000 events that `rank_events` ranks among all items, seen ones left out; peak MiB
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.support.jobs import DEFAULTS, answer, peak_mib
from lea_core.data.sequences import Sequences
from lea_core.learners.batches import TrainingData
from lea_core.learners.build import Learner, build_learner
from lea_core.learners.critics import ITEM_TABLES
from lea_core.learners.loop import EVALUATION_BATCH
from lea_core.learners.supervision import Supervision, transitions
from lea_core.metrics.full_ranking import rank_events
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.params import Params, assign, load

USER_EVENTS = 20
SAMPLE = 1024  # items of the supervised loss, and of the search for the greedy action
WARM_UP, STEPS = 3, 7
RANKED = 512  # events
SETTINGS = ("full", "sampled", "sparse")


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    part: str  # step, epoch or rank
    setting: str  # of SETTINGS
    items: int
    events: int


def world(job: Job) -> Sequences:
    """The training events of users with USER_EVENTS each; an item's chance falls with its rank as 1 / rank."""
    items = ((job.items + 1) ** np.random.default_rng(0).random(job.events)).astype(np.int64) - 1
    offsets = np.arange(0, job.events + 1, USER_EVENTS)
    return Sequences(items, np.zeros(job.events, np.int8), offsets, job.items)


def settings(job: Job) -> Params:
    """The parameters of params.yaml in the job's setting. A catalogue that is no larger than a sample halves it."""
    count = min(SAMPLE, job.items // 2)
    loss = {"name": "sampled_softmax", "negatives": count, "popularity": 0.5}
    sampled = {"train.loss": loss, "train.greedy_items": count}
    changes: dict[str, Any] = {"full": {}, "sampled": sampled, "sparse": {**sampled, "train.sparse": True}}[job.setting]
    raw = load(DEFAULTS).model_dump()
    for key, value in {**changes, "train.repeat_bias": False}.items():  # a bias for scores of all items alone
        assign(raw, key, value)
    return Params.model_validate(raw)


def new_policy(job: Job, chosen: Params) -> PolicyNetwork:
    """An untrained SASRec."""
    return PolicyNetwork(PolicyConfig("sasrec", chosen.backbones.sasrec.model_dump(), job.items, chosen.train.history))


def prepare(job: Job) -> tuple[Learner, TrainingData]:
    """SNQN and its data."""
    chosen, log = settings(job), world(job)
    supervision = Supervision(torch.ones(len(transitions(log))))
    learner = build_learner(chosen.variant("snqn"), chosen, new_policy(job, chosen), supervision)
    return learner, TrainingData(log, supervision, chosen.methods.snqn, chosen.train, torch.device("cpu"))


def step(job: Job) -> dict[str, float]:
    """Measure optimiser steps."""
    learner, data = prepare(job)
    batches = data.epoch(np.random.default_rng(0))
    times = []
    for _ in range(WARM_UP + STEPS):
        started = time.process_time()
        batch = next(batches)
        drawn = time.process_time()
        learner.update(batch, 1)
        times.append((drawn - started, time.process_time() - drawn))
    batch_seconds, step_seconds = np.median(times[WARM_UP:], axis=0).tolist()
    network: nn.Module = learner.critics.networks[0]  # type: ignore[attr-defined]
    return {
        "step_seconds": step_seconds,
        "batch_seconds": batch_seconds,
        "peak_mib": peak_mib(),
        "held_mib": held_mib(network, job.setting == "sparse"),
        "transitions": len(batch.action),
    }


def held_mib(network: nn.Module, sparse: bool) -> float:
    """Weights, two moments, gradient and target of all weights; of sparse tables two counters per row, no gradient."""
    total = 0
    for name, weight in network.named_parameters():
        by_rows = sparse and name in ITEM_TABLES
        total += weight.numel() * 4 * (4 if by_rows else 5) + (8 * len(weight) if by_rows else 0)
    return total / 2**20


def epoch(job: Job) -> dict[str, float]:
    """Measure a whole epoch."""
    learner, data = prepare(job)
    generator = np.random.default_rng(0)
    for _, batch in zip(range(WARM_UP), data.epoch(generator), strict=False):
        learner.update(batch, 1)
    started = time.process_time()
    for batch in data.epoch(generator):
        learner.update(batch, 1)
    return {"epoch_seconds": time.process_time() - started, "peak_mib": peak_mib()}


def rank(job: Job) -> dict[str, float]:
    """Measure the ranking of the last event of RANKED users."""
    chosen, log = settings(job), world(job)
    policy = new_policy(job, chosen)
    users = np.arange(RANKED)
    positions = np.full(RANKED, USER_EVENTS - 1)
    started = time.process_time()
    rank_events(policy.scores, log, users, positions, chosen.train.history, True, EVALUATION_BATCH)
    seconds = (time.process_time() - started) * 1000 / RANKED
    weights = sum(weight.numel() for weight in policy.parameters()) * 4 / 2**20
    return {"rank_seconds": seconds, "peak_mib": peak_mib(), "held_mib": weights}


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    answer(Job, {"step": step, "epoch": epoch, "rank": rank})
