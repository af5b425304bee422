"""One worker: it loads the LE once and does shard after shard of one pass.

In: a `Job`. Out: shard files in the run's folder. What a file holds depends on the shard and on the index of windows
known when the run began, not on the worker, nor on what else is done: a worker computes with `annotate.threads` threads
whatever else the machine has, for another number of threads may round otherwise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa

from lea_core.annotation import forward_pass, shard_store, shards
from lea_core.annotation.shard_store import Arrays
from lea_core.annotation.shards import Part, Shard
from lea_core.common.errors import LeaError, warn
from lea_core.common.tables import Schema
from lea_core.data.sequences import windows

if TYPE_CHECKING:
    from lea_core.environment.model import Environment

KNOWN = "known.sqlite"
WARM_UP_PACKS = 3  # beside the first, which is not counted


class Kind(Protocol):
    """What a pass asks of the LE, and the tables that come of it: annotate's or augment's."""

    name: str
    count: int  # A: actions at every step
    outs: ClassVar[dict[Path, Schema]]
    kept: ClassVar[tuple[str, ...]]  # arrays of `Passed` that its files hold, as the LE gave them

    def identity(self, root: Path) -> dict[str, Any]:
        """All that the result depends on beside the LE and the log, as JSON values."""

    def actions(self, root: Path, environment: Environment, part: Part, shard: Shard) -> Arrays:
        """{"actions": (N, A)} and what else is kept of their choice; rows without a following event are not read."""

    def arrays(self, part: Part, asked: Arrays) -> Arrays:
        """What the shard's file holds beside, by event."""

    def tables(self, path: Path, found: Iterator[Arrays]) -> Iterator[pa.Table]:
        """One of `outs`, shard by shard."""

    def bytes(self, shard: Shard, state_width: int) -> int:
        """What the tables of a shard take, uncompressed."""


@dataclass(frozen=True)
class Job:
    """A pass over all shards. root: the project's folder.  run: where shard files go.  state_width: C + K.

    layers, batch_tokens, threads, engine and workers are those of params.yaml.
    """

    kind: Kind
    root: Path
    run: Path
    shards: list[Shard]
    state_width: int
    layers: int
    batch_tokens: int
    threads: int
    engine: str
    workers: int | None

    @property
    def name(self) -> str:
        """Names the LE, the pass and all its inputs."""
        return f"{self.run.parent.name}/{self.run.name}"

    def tokens(self, shard: Shard) -> int:
        """What the LLM reads, unless some of it is known."""
        return shard.passed(self.kind.count)

    def bytes(self, some: Iterable[Shard]) -> int:
        """What the tables of these shards take, uncompressed; the shard files take about as much."""
        return sum(self.kind.bytes(shard, self.state_width) for shard in some)

    def file(self, shard: Shard) -> Path:
        """Where a shard's work is kept."""
        return self.run / f"{shard.number:06d}.safetensors"

    def read(self, shard: Shard, names: Iterable[str] = ()) -> tuple[Arrays, dict[str, Any]] | None:
        """A shard's file as `shard_files.read` gives it; None, with a warning, where it is of another run."""
        found = shard_store.read(self.file(shard), names)
        if found is not None and (found[1].get("run"), found[1].get("shard")) != (self.name, asdict(shard)):
            warn(f"{self.file(shard)}: the work of another LE or of other data: it is made again")
            return None
        return found

    def record(self, shard: Shard) -> dict[str, Any] | None:
        """The record of a shard that is done, its content unread; None where it is not."""
        found = self.read(shard, [shard_store.KEYS])
        return found and found[1]


class Worker:
    """Holds the LE; `seconds` is what loading took."""

    def __init__(self, job: Job) -> None:
        import torch

        from lea_core.environment import model as environment
        from lea_core.llm import language_model

        started = time.perf_counter()
        torch.set_num_threads(job.threads)
        if torch.cuda.is_available():  # of several workers of a machine, each its own; Ray shows each one alone
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        data = job.root / "data"
        self.job, self.interactions = job, data / "interactions"
        tokens = environment.read_item_tokens(data / "item_tokens" / "items.parquet")
        self.le = environment.load(data / "le", language_model.load(data / "llm", job.layers), tokens)
        self.keys = forward_pass.item_keys(self.le)
        self.known_windows = shard_store.Known(job.run / KNOWN)
        self.seconds = time.perf_counter() - started

    def do(self, shard: Shard) -> dict[str, Any]:
        """Work on a shard and publish its file, unless it is there already; its record.

        Raises `LeaError` naming user and position where the LE gives what is not finite.
        """
        if (done := self.job.record(shard)) is not None:
            return done
        started = time.perf_counter()
        job, kind = self.job, self.job.kind
        part = shards.read(self.interactions, shard, self.le.num_items)
        train = part.train
        asked = kind.actions(job.root, self.le, part, shard)
        actions = asked["actions"]
        cut = windows(train, np.arange(train.num_users), self.le.shape.history)
        keys, ranges = forward_pass.window_keys(self.le, train, cut, actions, self.keys)
        passed = forward_pass.Passed.empty(self.le, shard.events, kind.count)
        judged = {name: getattr(passed, name) for name in kind.kept}
        filled = self.known_windows.fill(self.known_windows.find(keys), ranges, judged)
        missing = [window for window, known in zip(cut, filled, strict=True) if not known]
        tokens = 0
        for packed in forward_pass.fill(self.le, train, missing, actions, job.batch_tokens, passed):
            tokens += packed.tokens
        # what is kept of the LE's is not the kind's to change: another code of the kind reads it as known windows
        arrays = {**kind.arrays(part, asked), **judged}
        self._check_finite(arrays)
        record = {
            "run": job.name,
            "shard": asdict(shard),
            "input": blake2b(keys.tobytes(), digest_size=16).hexdigest(),
            "windows": len(cut),
            "windows_known": int(filled.sum()),
            "tokens": tokens,
            "seconds": time.perf_counter() - started,
        }
        shard_store.write(job.file(shard), {**arrays, shard_store.KEYS: keys, shard_store.RANGES: ranges}, record)
        return record

    def warm_up(self, shard: Shard) -> tuple[int, float]:
        """Tokens and seconds of a few batches of a shard, not kept."""
        part = shards.read(self.interactions, shard, self.le.num_items)
        cut = windows(part.train, np.arange(part.train.num_users), self.le.shape.history)
        cut = cut[:: max(self.job.tokens(shard) // ((WARM_UP_PACKS + 2) * self.job.batch_tokens), 1)]
        actions = np.zeros((shard.events, self.job.kind.count), dtype=np.int64)
        passed = forward_pass.Passed.empty(self.le, shard.events, self.job.kind.count)
        tokens, seconds, started = 0, 0.0, time.perf_counter()
        batches = forward_pass.fill(self.le, part.train, cut, actions, self.job.batch_tokens, passed)
        for number, packed in enumerate(batches):
            now = time.perf_counter()
            if number == 1:  # the first batch is slow: it counts only where it is alone
                tokens, seconds = 0, 0.0
            tokens, seconds = tokens + packed.tokens, seconds + now - started
            if number == WARM_UP_PACKS:
                break
            started = now
        return tokens, seconds

    def _check_finite(self, arrays: Arrays) -> None:
        broken = np.zeros(len(arrays["user"]), dtype=bool)
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
                broken |= bad if name == "states" else bad & arrays["followed"]
        if broken.any():
            row = int(broken.argmax())
            raise LeaError(
                f"{self.job.kind.name}: the LE's state or a reward of user {arrays['user'][row]} at position "
                f"{arrays['position'][row]} is not finite: run `dvc repro -f finetune_le` with a lower "
                "finetune_le.lora.learning_rate"
            )
