"""One worker: it loads the LE once and computes shard after shard of one inference run.

In: a `Job`. Out: shard files in the run's folder. The content of a file depends on the shard and on the index of known
windows at the start of the run, not on the worker. A worker always computes with `annotate.threads` threads, because
another number of threads may round differently.
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
TIMED_PACKS = 3  # beside the first, which is not counted


class Task(Protocol):
    """What an inference run asks of the LE, and the tables that it writes: annotate's or augment's."""

    name: str
    count: int  # A: actions at every step
    outs: ClassVar[dict[Path, Schema]]
    stored_outputs: ClassVar[tuple[str, ...]]  # arrays of `Outputs` that its files hold unchanged

    def identity(self, root: Path) -> dict[str, Any]:
        """Everything that the result depends on beside the LE and the log, as JSON values."""

    def actions(self, root: Path, environment: Environment, part: Part, shard: Shard) -> Arrays:
        """{"actions": (N, A)} and other arrays about their choice; rows without a following event are not used."""

    def arrays(self, part: Part, inputs: Arrays) -> Arrays:
        """What the shard's file holds beside the stored outputs, by event. inputs: what `actions` returned."""

    def tables(self, path: Path, shards: Iterator[Arrays]) -> Iterator[pa.Table]:
        """One of the tables `outs`, shard by shard."""

    def bytes(self, shard: Shard, state_width: int) -> int:
        """The size of the shard's part of the tables, uncompressed."""


@dataclass(frozen=True)
class Job:
    """An inference run over all shards. root: the project's folder.  run: the folder of shard files.

    state_width: C + K.  layers, batch_tokens, threads, engine and workers are those of params.yaml.
    """

    task: Task
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
        """Identifies the LE, the task and all its inputs."""
        return f"{self.run.parent.name}/{self.run.name}"

    def tokens(self, shard: Shard) -> int:
        """Tokens that the LLM reads where no window is known."""
        return shard.tokens_with_actions(self.task.count)

    def bytes(self, some: Iterable[Shard]) -> int:
        """The size of the tables of these shards, uncompressed; the shard files are about as large."""
        return sum(self.task.bytes(shard, self.state_width) for shard in some)

    def file(self, shard: Shard) -> Path:
        """The file of a shard."""
        return self.run / f"{shard.number:06d}.safetensors"

    def read(self, shard: Shard, names: Iterable[str] = ()) -> tuple[Arrays, dict[str, Any]] | None:
        """A shard's file as `shard_store.read` returns it; None, with a warning, where it belongs to another run."""
        found = shard_store.read(self.file(shard), names)
        if found is not None and (found[1].get("run"), found[1].get("shard")) != (self.name, asdict(shard)):
            warn(f"{self.file(shard)}: the work of another LE or of other data: it is computed again")
            return None
        return found

    def record(self, shard: Shard) -> dict[str, Any] | None:
        """The record of a finished shard, without reading its content; None where it is not finished."""
        found = self.read(shard, [shard_store.KEYS])
        return found and found[1]


class Worker:
    """Holds the loaded LE."""

    def __init__(self, job: Job) -> None:
        import torch

        from lea_core.environment import model as environment
        from lea_core.llm import language_model

        torch.set_num_threads(job.threads)
        if torch.cuda.is_available():  # each worker of a machine uses its own GPU; under Ray a worker sees one alone
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        data = job.root / "data"
        self.job, self.interactions = job, data / "interactions"
        tokens = environment.read_item_tokens(data / "item_tokens" / "items.parquet")
        self.le = environment.load(data / "le", language_model.load(data / "llm", job.layers), tokens)
        self.keys = forward_pass.item_keys(self.le)
        self.known_windows = shard_store.Known(job.run / KNOWN)

    def do(self, shard: Shard) -> dict[str, Any]:
        """Compute a shard and publish its file, unless it exists already; returns its record.

        Raises `LeaError`, which names user and position, where an output of the LE is not finite.
        """
        if (done := self.job.record(shard)) is not None:
            return done
        started = time.perf_counter()
        job, task = self.job, self.job.task
        part = shards.read(self.interactions, shard, self.le.num_items)
        train = part.train
        inputs = task.actions(job.root, self.le, part, shard)
        actions = inputs["actions"]
        cut = windows(train, np.arange(train.num_users), self.le.shape.history)
        keys, ranges = forward_pass.window_keys(self.le, train, cut, actions, self.keys)
        outputs = forward_pass.Outputs.empty(self.le, shard.events, task.count)
        stored = {name: getattr(outputs, name) for name in task.stored_outputs}
        filled = self.known_windows.fill(self.known_windows.find(keys), ranges, stored)
        missing = [window for window, known in zip(cut, filled, strict=True) if not known]
        tokens = 0
        for packed in forward_pass.fill_outputs(self.le, train, missing, actions, job.batch_tokens, outputs):
            tokens += packed.tokens
        # stored outputs come last, so that no task can change them: later runs read them as known windows
        arrays = {**task.arrays(part, inputs), **stored}
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
        """Tokens and seconds of a few batches of a shard; the results are thrown away."""
        part = shards.read(self.interactions, shard, self.le.num_items)
        cut = windows(part.train, np.arange(part.train.num_users), self.le.shape.history)
        cut = cut[:: max(self.job.tokens(shard) // ((TIMED_PACKS + 2) * self.job.batch_tokens), 1)]
        actions = np.zeros((shard.events, self.job.task.count), dtype=np.int64)
        outputs = forward_pass.Outputs.empty(self.le, shard.events, self.job.task.count)
        tokens, seconds, started = 0, 0.0, time.perf_counter()
        batches = forward_pass.fill_outputs(self.le, part.train, cut, actions, self.job.batch_tokens, outputs)
        for number, packed in enumerate(batches):
            now = time.perf_counter()
            if number == 1:  # the first batch is slower: it counts only if there is no other
                tokens, seconds = 0, 0.0
            tokens, seconds = tokens + packed.tokens, seconds + now - started
            if number == TIMED_PACKS:
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
                f"{self.job.task.name}: the LE's state or a reward of user {arrays['user'][row]} at position "
                f"{arrays['position'][row]} is not finite: run `dvc repro -f finetune_le` with a lower "
                "finetune_le.lora.learning_rate"
            )
