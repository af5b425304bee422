"""What the stages take of time and memory as the log grows: `make bench-scale`.

In: nothing; the logs are synthetic (log.py). Out: benchmarks/results/scale.json and its picture, docs/scale.png: for
each of COMMANDS and each size, its seconds (from start to end of its process) and its peak MiB of memory, such as
preprocess_seconds_1e7 and preprocess_peak_mib_1e7; commit and hardware.

  preprocess  the stage, on a log whose catalogue grows with it
  plan        the shards of that log (plan.py)
  annotate    the stage, with a random LE (random_le.py), two workers, and a catalogue of a thousand items at every
              size, so that users alone grow. annotate_peak_mib_* is the master's, annotate_worker_peak_mib_* the
              greater worker's
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.scale.log import prepared_folder
from benchmarks.scale.plot import stages_picture
from benchmarks.scale.random_le import write_random_le
from benchmarks.support.jobs import RESULTS, ROOT, WORK, peak_mib
from benchmarks.support.prepared import run_stage, where
from benchmarks.support.written import save
from lea_core.common.artifacts import write_json

SIZES = (10**4, 10**5, 10**6, 10**7)
CATALOGUE = 1000  # items of the logs that are annotated: there users alone grow
COMMANDS = {"preprocess": "stages.preprocess", "plan": "benchmarks.scale.plan", "annotate": "stages.annotate"}
SAMPLED_EVERY = 0.05  # seconds


def annotated_folder(folder: Path, interactions: int) -> Path:
    """A folder with all that `annotate` reads: a log of few items gone through preprocess, and a random LE."""
    prepared_folder(folder, interactions, CATALOGUE)
    run_stage(folder, "preprocess")
    write_random_le(folder, pq.read_metadata(folder / "data" / "interactions" / "items.parquet").num_rows)
    return folder


def measure(folder: Path, name: str) -> tuple[float, float, float]:
    """Run one of COMMANDS in `folder`; its seconds, its peak MiB, the largest peak MiB of a process that it started.

    Ends where the command fails. Peaks are the system's own record (VmHWM) as it was shortly before a process's end.
    """
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "LEA_CACHE": str(folder / "cache")}
    peaks: dict[int, float] = {}
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", COMMANDS[name]], cwd=folder, env=settings) as process:
        while process.poll() is None:
            peaks |= {one: peak for one in family(process.pid) if (peak := peak_mib(one)) is not None}
            time.sleep(SAMPLED_EVERY)
    if process.returncode:
        raise SystemExit(f"{folder}: python -m {COMMANDS[name]} failed")
    own = peaks.pop(process.pid)
    return time.perf_counter() - started, own, max(peaks.values(), default=0.0)


def family(process: int) -> list[int]:
    """A process and all that it started, and these in turn; none that is gone."""
    found = [process]
    for one in found:  # it grows meanwhile
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def main() -> None:
    """Measure every command at every size, write the result, draw it, and delete the logs."""
    result: dict[str, float] = {}
    folder = WORK / "scale"
    for size in SIZES:
        label = f"1e{len(str(size)) - 1}"
        for name in COMMANDS:
            if name == "preprocess":
                prepared_folder(folder, size)
            elif name == "annotate":
                annotated_folder(folder, size)
            seconds, own, other = measure(folder, name)
            result |= {f"{name}_seconds_{label}": round(seconds, 1), f"{name}_peak_mib_{label}": round(own)}
            if name == "annotate":
                result[f"annotate_worker_peak_mib_{label}"] = round(other)
            print(f"{name} of {size:,} interactions: {seconds:.1f} s, {own:,.0f} and {other:,.0f} MiB", flush=True)
    shutil.rmtree(folder)
    write_json(RESULTS / "scale.json", {**result, "command": "make bench-scale", **where()})
    save(stages_picture(result), ROOT / "docs" / "scale.png")


if __name__ == "__main__":
    main()
