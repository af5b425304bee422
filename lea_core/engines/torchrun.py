"""The shards of a pass under PyTorch's launcher, every process a share of them.

In: a `Job`, saved. Out: shard files. The processes say nothing to one another: each does the shards of its rank and
ends. A process that dies ends all, and the launcher starts them again; what was finished is not done again.

The launcher can also be run by hand, on several machines that share the cache folder and data/, with the module and the
file that the stage prints: `torchrun --nnodes 4 ... -m lea_core.engines.torchrun JOB`. The stage then finds all done.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lea_core.errors import LeaError, warn
from lea_core.errors import run as run_command
from lea_core.shard_worker import JOB, Job, Worker, read_job
from lea_core.shards import Shard

RESTARTS = 2


def run(job: Job, shards: list[Shard], workers: int) -> None:
    """Start the launcher with `workers` processes and wait. Raises `LeaError` where a shard is missing after that."""
    file = job.run / JOB
    print(f"{job.kind}: {len(shards)} shards by torchrun, {workers} processes: -m {__spec__.name} {file}", flush=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    command += [f"--max-restarts={RESTARTS}", "-m", __spec__.name, str(file)]
    settings = {**os.environ, "OMP_NUM_THREADS": str(job.params.annotate.threads)}
    status = subprocess.run(command, env=settings).returncode  # noqa: S603 (our own module)
    left = [shard.number for shard in shards if job.record(shard) is None]
    if left:
        raise LeaError(
            f"{job.kind}: torchrun ended with {status} and left {len(left)} of {len(shards)} shards, {left[0]} first: "
            "see above why; run again to go on"
        )
    if status:
        warn(f"torchrun ended with {status}, but all shards are done")


def main(argv: list[str]) -> None:
    """One process of the launcher: do the shards of its rank."""
    if len(argv) != 1:
        raise LeaError(f"{__spec__.name}: give it one job file, as the stage prints it")
    job = read_job(Path(argv[0]))
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    left = [shard for shard in job.shards if job.record(shard) is None]
    mine = [shard for shard in left if shard.number % size == rank]
    if mine:
        worker = Worker(job)
        for shard in mine:
            worker.do(shard)


if __name__ == "__main__":
    run_command(main)
