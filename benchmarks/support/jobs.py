"""Where the benchmarks read and write, and measurements in processes of their own.

In: a job, a dataclass whose field `part` names what is measured. Out: its numbers. This module imports nothing that
takes memory or time, so that a process holds what it measures and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
WORK = ROOT / "benchmarks" / ".work"
RESULTS = ROOT / "benchmarks" / "results"
SETTINGS = ROOT / "settings"
DEFAULTS = SETTINGS / "default.yaml"  # not params.yaml, which its user may have changed


def measure(module: str, job: Any, threads: int = 1) -> dict[str, float]:
    """The numbers of a job, by `answer` of this module in a fresh process. Ends where it fails."""
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", module, json.dumps(asdict(job))]
    done = subprocess.run(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{job} failed")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if found:
        print(f"{job}: {', '.join(f'{key} {value:.3g}' for key, value in found.items())}", flush=True)
    return found


def answer(kind: Callable[..., Any], parts: Mapping[str, Callable[[Any], dict[str, float]]]) -> None:
    """In the fresh process: print the numbers of the job that the command line gives."""
    job = kind(**json.loads(sys.argv[1]))
    print(json.dumps(parts[job.part](job)))


def peak_mib(process: int | str = "self") -> float | None:
    """The most memory that a process has held since it began its program, in MiB; None where it is gone.

    `getrusage` would count the program that started it too.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()
        return int(found[0]) / 1024 if found else None
    return None
