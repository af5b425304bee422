"""Engines: who does the shards of a pass. All give the same files, byte for byte.

In: a `Job` and the shards to do. Out: their files in the run's folder.

- local: worker processes of this machine, as many as it has cores or GPUs
- torchrun: the same under PyTorch's launcher, for clusters that already start everything by it
- ray: actors of a Ray cluster (extra `ray`); its machines must share the cache folder (LEA_CACHE) and data/
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lea_core.annotation.shards import Shard
from lea_core.common.cores import usable_cores

if TYPE_CHECKING:
    from lea_core.annotation.worker import Job


def count_workers(wanted: int | None, shards: int) -> int:
    """How many workers: `annotate.workers`, or one per GPU, or one per core; never more than there are shards."""
    if wanted is None:
        import torch

        wanted = torch.cuda.device_count() or usable_cores()
    return max(min(wanted, shards), 1)


def run(job: Job, shards: list[Shard]) -> None:
    """Do these shards by `annotate.engine`. Raises `LeaError` where workers keep dying, and whatever a shard raises."""
    if not shards:
        return
    workers = count_workers(job.workers, len(shards))
    if job.engine == "local":
        from lea_core.annotation.engines import local

        local.run(job, shards, workers)
    elif job.engine == "torchrun":
        from lea_core.annotation.engines import torchrun

        torchrun.run(job, shards, workers)
    else:
        from lea_core.annotation.engines import ray_data

        ray_data.run(job, shards, workers)


def is_member() -> bool:
    """Whether torchrun started this process, as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def work(job: Job) -> None:
    """Do this process's share of the shards that are missing."""
    from lea_core.annotation.worker import Worker

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    mine = [shard for shard in job.shards if shard.number % size == rank and job.record(shard) is None]
    if mine:
        worker = Worker(job)
        for shard in mine:
            worker.do(shard)
