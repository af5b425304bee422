"""The shards of an inference run under PyTorch's launcher; every process computes a share of them.

In: a `Job`. Out: shard files. The launcher starts the stage's own module. Each process prepares the job by itself and
computes the shards of its rank (`engines.do_own_shards`). The processes do not communicate. If one dies, the launcher
stops and restarts all; finished shards are not computed again.

The launcher can also be started by hand, on several machines that share the cache folder and data/: docs/scale.md.
"""

from __future__ import annotations

import os
import subprocess
import sys

from lea_core.annotation.shards import Shard
from lea_core.annotation.worker import Job
from lea_core.common.errors import LeaError, warn

RESTARTS = 2


def run(job: Job, shards: list[Shard], workers: int) -> None:
    """Start the launcher with `workers` processes and wait. Raises `LeaError` where a shard is missing after that."""
    name = job.task.name
    print(f"{name}: {len(shards)} shards by torchrun, {max(workers, 2)} processes", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={max(workers, 2)}"]
    command += [f"--max-restarts={RESTARTS}", "-m", f"stages.{name}"]
    settings = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
    status = subprocess.run(command, cwd=job.root, env=settings).returncode  # noqa: S603 (our own module)
    left = [shard.number for shard in shards if job.record(shard) is None]
    if left:
        raise LeaError(
            f"{name}: torchrun ended with {status} and left {len(left)} of {len(shards)} shards, {left[0]} first: see "
            "above why; run again to go on"
        )
    if status:
        warn(f"torchrun ended with {status}, but all shards are done")
