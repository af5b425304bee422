"""The cost of the LLM's inference runs (annotate, augment), before they start: tokens, seconds and bytes.

In: data/ up to the LE, params. Out: the cost of each run. The seconds come from a trial: workers start as in the stage,
read a few batches at the same time, and stop. How many windows earlier runs know is looked up in a sample of the
shards.
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
from lea_core.environment.top_items import likeliest
from lea_core.params import Params

SAMPLED_SHARDS = 32  # shards whose known windows are counted
TRIAL_STATES = 512  # events whose proposals are timed


@dataclass(frozen=True)
class RunCost:
    """The cost of one inference run: `tokens` in all, `left` of them still to read; the seconds and bytes it takes."""

    name: str
    tokens: int
    left: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Estimate:
    """The cost of each run, and the result of the trial that the seconds come from."""

    runs: list[RunCost]
    tokens_per_second: float
    workers: int


class Trial(Worker):
    """A worker that also counts known windows and times proposals."""

    def known(self, shard: Shard) -> tuple[int, int]:
        """Numbers of known and of all windows of a shard; for annotate, whose actions need no states."""
        part = shards.read(self.interactions, shard, self.le.num_items)
        cut = windows(part.train, np.arange(part.train.num_users), self.le.shape.history)
        inputs = self.job.task.actions(self.job.root, self.le, part, shard)
        keys, _ = forward_pass.window_keys(self.le, part.train, cut, inputs["actions"], self.keys)
        return sum(row is not None for row in self.known_windows.find(keys)), len(cut)

    def proposing(self, shard: Shard) -> float:
        """Seconds to rank all items in one state, approximately."""
        part = shards.read(self.interactions, shard, self.le.num_items)
        events = np.flatnonzero(learning_steps(part.train))[:TRIAL_STATES]
        states = np.zeros((len(events), self.le.heads.state_width), dtype=np.float16)
        started = time.perf_counter()
        likeliest(self.le.heads, part.train, events, states, 1)
        return (time.perf_counter() - started) / max(len(events), 1)


def estimate(root: Path, wanted: Params, since: float | None = None) -> Estimate:
    """Try the workers of this machine and estimate annotate and augment. Raises `LeaError` as these stages do.

    since: when this process started, in seconds since 1970; a stage takes as long from its start to its first token.
    """
    began = time.time() if since is None else since
    job = run.prepare(Annotating(wanted.annotate.sampled_actions, wanted.annotate.seed), root, wanted)
    with run.lock(job):
        run.write_plan(job)
    missing = [shard for shard in job.shards if job.record(shard) is None]
    workers = engines.count_workers(job.workers, len(job.shards))
    with local.start(job, workers, Trial) as pool:
        rate = local.rate(pool, missing or job.shards)
        setup = time.time() - began
        found = pool.ask("known", missing[:: max(len(missing) // SAMPLED_SHARDS, 1)])
        proposing = sum(pool.ask("proposing", job.shards[:1]))
    augmenting = Augmenting(wanted.augment.actions, wanted.preprocess.repeats)
    known = sum(windows for windows, _ in found) / max(sum(windows for _, windows in found), 1)
    left = round(sum(map(job.tokens, missing)) * (1 - known))
    tokens = sum(shard.tokens_with_actions(augmenting.count) for shard in job.shards)
    proposals = proposing * sum(shard.steps for shard in job.shards) / workers
    sizes = [job.bytes(job.shards), sum(augmenting.bytes(shard, job.state_width) for shard in job.shards)]
    done = 0 if not (root / STATES_FILE).exists() else _done(run.prepare(augmenting, root, wanted))
    costs = [
        RunCost(job.task.name, sum(map(job.tokens, job.shards)), left, setup + left / rate, sizes[0]),
        # whether a window of augment is known depends on its proposals, which do not exist yet: none counts as known
        RunCost(augmenting.name, tokens, tokens - done, setup + (tokens - done) / rate + proposals, sizes[1]),
    ]
    return Estimate(costs, rate, workers)


def _done(job: Job) -> int:
    """Tokens of the shards that an earlier, stopped or finished, run has done."""
    return sum(job.tokens(shard) for shard in job.shards if job.record(shard) is not None)
