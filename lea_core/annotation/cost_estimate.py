"""The price of the LLM's passes, before they begin: tokens, seconds and bytes.

In: data/ up to the LE, params. Out: a `Price` of each pass. The seconds come from a trial: workers are started as the
stage starts them, read a few batches at the same time, and are let go. What earlier runs know is looked up in a sample
of the shards.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lea_core.annotation import engines, forward_pass, run, shards
from lea_core.annotation.annotate import Annotating
from lea_core.annotation.augment import STATES_FILE, Augmenting
from lea_core.annotation.engines import local
from lea_core.annotation.shards import Shard
from lea_core.annotation.worker import Job, Worker
from lea_core.data.sequences import learning_steps, windows
from lea_core.environment.top_items import propose
from lea_core.params import Params

SAMPLE = 32  # shards of which it is looked up what is known
TRIED_STATES = 512  # events of which proposals are tried


@dataclass(frozen=True)
class Price:
    """Of one pass: `tokens` in all, `left` of them to be read, and what that takes."""

    name: str
    tokens: int
    left: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """Prices of the passes, and the trial that the seconds come from."""

    prices: list[Price]
    tokens_per_second: float
    workers: int


class Trial(Worker):
    """A worker that can be asked more."""

    def known(self, shard: Shard) -> tuple[int, int]:
        """Windows of a shard that earlier runs passed, and all of them; of annotate, whose actions need no states."""
        part = shards.read(self.interactions, shard, self.le.num_items)
        cut = windows(part.train, np.arange(part.train.num_users), self.le.shape.history)
        asked = self.job.kind.actions(self.job.root, self.le, part, shard)
        keys, _ = forward_pass.window_keys(self.le, part.train, cut, asked["actions"], self.keys)
        return sum(place is not None for place in self.known_windows.find(keys)), len(cut)

    def proposing(self, shard: Shard) -> float:
        """Seconds that it takes to rank all items in one state, about."""
        part = shards.read(self.interactions, shard, self.le.num_items)
        events = np.flatnonzero(learning_steps(part.train))[:TRIED_STATES]
        states = np.zeros((len(events), self.le.heads.state_width), dtype=np.float16)
        started = time.perf_counter()
        propose(self.le, part.train, events, states, 1, skip_seen=False, skip_next=False)
        return (time.perf_counter() - started) / max(len(events), 1)


def forecast(root: Path, wanted: Params, since: float | None = None) -> Forecast:
    """Try the workers of this machine and price annotate and augment. Raises `LeaError` as these stages do.

    since: when this process began, in seconds since 1970: a stage takes as long from there to its first token.
    """
    began = time.time() if since is None else since
    job = run.prepare(Annotating(wanted.annotate.sampled_actions, wanted.annotate.seed), root, wanted)
    with run.turn(job):
        run.begin(job)
    missing = [shard for shard in job.shards if job.record(shard) is None]
    workers = engines.count_workers(job.workers, len(job.shards))
    with local.start(job, workers, Trial) as pool:
        rate = local.rate(pool, missing or job.shards)
        setup = time.time() - began
        found = pool.ask("known", missing[:: max(len(missing) // SAMPLE, 1)])
        proposing = sum(pool.ask("proposing", job.shards[:1]))
    augmenting = Augmenting(wanted.augment.actions, wanted.preprocess.repeats)
    known = sum(windows for windows, _ in found) / max(sum(windows for _, windows in found), 1)
    left = round(sum(map(job.tokens, missing)) * (1 - known))
    tokens = sum(shard.passed(augmenting.count) for shard in job.shards)
    proposals = proposing * sum(shard.steps for shard in job.shards) / workers
    sizes = [job.bytes(job.shards), sum(augmenting.bytes(shard, job.state_width) for shard in job.shards)]
    behind = 0 if not (root / STATES_FILE).exists() else _done(run.prepare(augmenting, root, wanted))
    prices = [
        Price(job.kind.name, sum(map(job.tokens, job.shards)), left, setup + left / rate, sizes[0]),
        # what of its windows is known shows only when the proposals are there: all of them are priced
        Price(augmenting.name, tokens, tokens - behind, setup + (tokens - behind) / rate + proposals, sizes[1]),
    ]
    return Forecast(prices, rate, workers)


def _done(job: Job) -> int:
    """Tokens of the shards that a stopped or finished run has left."""
    return sum(job.tokens(shard) for shard in job.shards if job.record(shard) is not None)
