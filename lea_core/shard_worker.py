"""One worker: it loads the LE once and does shard after shard of one pass.

In: a `Job`. Out: shard files in the run's folder. What a file holds depends on the shard and on the index of windows
known when the run began, not on the worker, nor on what else is done: a worker computes with `annotate.threads` threads
whatever else the machine has, for another number of threads may round otherwise.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from lea_core import shard_files
from lea_core.artifacts import read_json, write_json
from lea_core.errors import LeaError, warn
from lea_core.params import Params
from lea_core.shards import Shard

KNOWN = "known.sqlite"
JOB = "job.json"
WARM_UP_PACKS = 3  # the first of which is not timed


@dataclass(frozen=True)
class Job:
    """A pass over all shards. kind: annotate or augment.  root: the project's folder.  run: where shard files go."""

    kind: str
    root: Path
    run: Path
    params: Params
    shards: list[Shard]

    @property
    def actions(self) -> int:
        """Actions at every step that the pass rewards."""
        return self.params.annotate.sampled_actions if self.kind == "annotate" else self.params.augment.actions

    def tokens(self, shard: Shard) -> int:
        """What the LLM reads, unless some of it is known."""
        return shard.passed(self.actions)

    def bytes(self, shards: Iterable[Shard]) -> int:
        """What the tables of these shards take, uncompressed; the shard files take about as much."""
        if self.kind == "augment":
            return sum((8 + 12 * self.actions) * shard.steps for shard in shards)
        state = 2 * (self.params.tokenize_items.content_width + self.params.finetune_le.heads.width)
        return sum((8 + state) * shard.events + (16 + 8 * self.actions) * shard.steps for shard in shards)

    def file(self, shard: Shard) -> Path:
        """Where a shard's work is kept."""
        return self.run / f"{shard.number:06d}.safetensors"

    @property
    def name(self) -> str:
        """Names the LE, the pass and all its inputs."""
        return f"{self.run.parent.name}/{self.run.name}"

    def read(self, shard: Shard, names: Iterable[str] = ()) -> tuple[shard_files.Arrays, dict[str, Any]] | None:
        """A shard's file as `shard_files.read` gives it; None, with a warning, where it is of another run."""
        found = shard_files.read(self.file(shard), names)
        if found is not None and (found[1].get("run"), found[1].get("shard")) != (self.name, asdict(shard)):
            warn(f"{self.file(shard)}: the work of another LE or of other data: it is made again")
            return None
        return found

    def record(self, shard: Shard) -> dict[str, Any] | None:
        """The record of a shard that is done, its content unread; None where it is not."""
        found = self.read(shard, [shard_files.KEYS])
        return found and found[1]

    def save(self) -> Path:
        """Write the job into its run's folder, for workers that are started with no more than its path."""
        path = self.run / JOB
        shards = [asdict(shard) for shard in self.shards]
        params = self.params.model_dump(mode="json")
        write_json(path, {"kind": self.kind, "root": str(self.root), "params": params, "shards": shards})
        return path


def read_job(path: Path) -> Job:
    """A job that was saved."""
    raw = read_json(path)
    params = Params.model_validate_json(json.dumps(raw["params"]))
    return Job(raw["kind"], Path(raw["root"]), path.parent, params, [Shard(**shard) for shard in raw["shards"]])


class Worker:
    """Holds the LE; `seconds` is what loading took."""

    def __init__(self, job: Job) -> None:
        import torch

        from lea_core import environment, llm, llm_pass
        from lea_core.annotate import Annotating
        from lea_core.augment import Augmenting

        started = time.perf_counter()
        torch.set_num_threads(job.params.annotate.threads)
        data = job.root / "data"
        self.job, self.interactions = job, data / "interactions"
        tokens = environment.read_item_tokens(data / "item_tokens" / "items.parquet")
        self.le = environment.load(data / "le", llm.load(data / "llm", job.params.llm.layers), tokens)
        self.keys = llm_pass.item_keys(self.le)
        self.known = shard_files.Known(job.run / KNOWN)
        self.kind: Annotating | Augmenting = Annotating(job.params)
        if job.kind == Augmenting.name:
            self.kind = Augmenting(job.params, data / "states" / "le.parquet")
        self.seconds = time.perf_counter() - started

    def do(self, shard: Shard) -> dict[str, Any]:
        """Work on a shard and publish its file, unless it is there already; its record.

        Raises `LeaError` naming user and position where the LE gives what is not finite.
        """
        from lea_core import llm_pass, shards
        from lea_core.sequences import windows

        file = self.job.file(shard)
        if (done := self.job.record(shard)) is not None:
            return done
        started = time.perf_counter()
        part = shards.read(self.interactions, shard, self.le.num_items)
        train = part.train
        asked = self.kind.actions(self.le, part, shard)
        cut = windows(train, np.arange(train.num_users), self.le.shape.history)
        keys, ranges = llm_pass.window_keys(self.le, train, cut, asked["actions"], self.keys)
        passed = llm_pass.Passed.empty(self.le, shard.events, self.kind.count)
        filled = self.known.fill(self.known.find(keys), ranges, self.kind.reusable(passed))
        missing = [window for window, known in zip(cut, filled, strict=True) if not known]
        tokens = 0
        budget = self.job.params.annotate.batch_tokens
        for packed in llm_pass.fill(self.le, train, missing, asked["actions"], budget, passed):
            tokens += packed.tokens
        arrays = self.kind.arrays(part, asked, passed)
        self._check_finite(arrays)
        record = {
            "run": self.job.name,
            "shard": asdict(shard),
            "input": blake2b(keys.tobytes(), digest_size=16).hexdigest(),
            "windows": len(cut),
            "windows_known": int(filled.sum()),
            "tokens": tokens,
            "seconds": time.perf_counter() - started,
        }
        shard_files.write(file, {**arrays, shard_files.KEYS: keys, shard_files.RANGES: ranges}, record)
        return record

    def warm_up(self, shard: Shard) -> tuple[int, float]:
        """Tokens and seconds of a few batches of a shard, not kept."""
        from lea_core import llm_pass, shards
        from lea_core.sequences import windows

        part = shards.read(self.interactions, shard, self.le.num_items)
        cut = windows(part.train, np.arange(part.train.num_users), self.le.shape.history)
        budget = self.job.params.annotate.batch_tokens
        cut = cut[:: max(shard.passed(self.kind.count) // ((WARM_UP_PACKS + 2) * budget), 1)]
        actions = np.zeros((shard.events, self.kind.count), dtype=np.int64)
        passed = llm_pass.Passed.empty(self.le, shard.events, self.kind.count)
        tokens, seconds, started = 0, 0.0, time.perf_counter()
        for number, packed in enumerate(llm_pass.fill(self.le, part.train, cut, actions, budget, passed)):
            now = time.perf_counter()
            if number:
                tokens, seconds = tokens + packed.tokens, seconds + now - started
            if number == WARM_UP_PACKS:
                break
            started = now
        return tokens, seconds

    def _check_finite(self, arrays: shard_files.Arrays) -> None:
        broken = np.zeros(len(arrays["user"]), dtype=bool)
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
                broken |= bad if name == "states" else bad & arrays["followed"]
        if broken.any():
            row = int(broken.argmax())
            raise LeaError(
                f"{self.job.kind}: the LE's state or a reward of user {arrays['user'][row]} at position "
                f"{arrays['position'][row]} is not finite: run `dvc repro -f finetune_le` with a lower "
                "finetune_le.lora.learning_rate"
            )
