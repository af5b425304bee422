"""The shards of a pass on Ray Data: actors that load the LE once map over the shards' numbers.

In: a `Job`. Out: shard files; Ray sees numbers and errors only. An actor that dies is replaced and its shard done
again. Without RAY_ADDRESS a Ray of this machine is started and stopped.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, replace
from typing import Any

from lea_core.annotation.engines.local import as_answer, as_error
from lea_core.annotation.shards import Shard
from lea_core.annotation.worker import Job, Worker
from lea_core.common.errors import LeaError


class Actor:
    """A worker as Ray Data calls it, a batch of one shard at a time.

    Its errors are answers: Ray would give them another type and text, and write them on the screen.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.worker: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The columns of `Shard`, (1,) each -> {"error": (1,)}: JSON of what `as_answer` gives, or empty."""
        shard = Shard(**{name: int(column[0]) for name, column in batch.items()})
        try:
            self.worker = self.worker or Worker(self.job)
            self.worker.do(shard)
        except Exception as error:
            return {"error": [json.dumps(as_answer(error))]}
        return {"error": [""]}


def run(job: Job, shards: list[Shard], workers: int) -> None:
    """Map over the shards with `workers` actors. Raises `LeaError` without Ray, and where a shard is left."""
    try:
        import ray
    except ImportError:
        raise LeaError(
            "params.yaml: annotate.engine is ray, which is not here: `pip install 'lea-recommender[ray]'`, or use local"
        ) from None
    import torch

    gpus = 1 if torch.cuda.is_available() else 0
    started = not ray.is_initialized()
    if started:
        here: dict[str, Any] = {}
        if "RAY_ADDRESS" not in os.environ:
            here = {"num_cpus": workers, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **here)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        numbers = ray.data.from_items([asdict(shard) for shard in shards], override_num_blocks=len(shards))
        done = numbers.map_batches(
            Actor,
            fn_constructor_args=(replace(job, shards=[]),),  # small: an actor that starts anew must find it
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=2,
        )
        for row in done.iter_rows():
            if row["error"]:
                raise as_error(*json.loads(row["error"]))
    finally:
        if started:
            ray.shutdown()
    left = [shard.number for shard in shards if job.record(shard) is None]
    if left:
        raise LeaError(
            f"{job.kind.name}: Ray left {len(left)} of {len(shards)} shards, {left[0]} first: run again to go on"
        )
