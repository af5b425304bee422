"""How many cores and how much memory this process may use, by its CPU affinity and Linux's control groups.

A container or a batch job has limits that neither `os.cpu_count()` nor torch knows. The limit of a group also holds for
the groups below it. So we read the limits of the process's own group and of every group above it, as far as they are
mounted, of version 1 (one mount for each controller) and of version 2 (one mount for all).

A CPU quota is rounded down to whole cores, but to one at least: 2.5 gives 2, and 0.5 gives 1. With one process more,
all of them would pause whenever the quota of a period is used up.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
NO_LIMIT = float("inf")


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy: fewer than the machine has under `taskset`, Slurm or a CPU quota.

    root: the folder that holds proc/ and sys/.
    """
    quota = min(_quotas(root), default=NO_LIMIT)
    return max(1, int(min(_bound_to(), quota)))


def memory_limit(root: Path = ROOT) -> float:
    """Bytes that the control groups of this process may take together; infinity where nothing limits them."""
    files = ("memory.max", "memory.limit_in_bytes")
    texts = [_read(folder / name) for folder in _groups("memory", root) for name in files]
    return min((float(text) for text in texts if text.isdigit()), default=NO_LIMIT)


def limit_threads() -> None:
    """Make libraries that do not know CPU quotas keep to them, in this process and in those that it starts later.

    Nothing changes without a quota, or if the user has set OMP_NUM_THREADS. Polars knows quotas itself.
    """
    cores = usable_cores()
    if cores == _bound_to() or "OMP_NUM_THREADS" in os.environ:
        return
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", str(cores))
    for name, setter in (("torch", "set_num_threads"), ("pyarrow", "set_cpu_count")):
        if name in sys.modules:  # it has read them already
            getattr(sys.modules[name], setter)(cores)


def _bound_to() -> int:
    """Cores that the system may run this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS binds no process to cores


def _quotas(root: Path) -> Iterator[float]:
    """Cores of every CPU quota that this process is under."""
    for folder in _groups("cpu", root):
        both = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"  # version 1: -1 is none
        for text in (_read(folder / "cpu.max"), both):  # version 2: "max 100000" is none
            if found := re.fullmatch(r"(\d+) ([1-9]\d*)", text):
                yield int(found[1]) / int(found[2])


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of the control groups that may limit this process in `controller`: its own and those above it.

    /proc/self/cgroup names its groups, lines `number:controllers:path`, of version 2 without controllers. Where they
    are mounted is in /proc/self/mountinfo: fields 4 and 5 are the mount's top group and its place, and behind a lone
    "-" are the type and, last, options, which name the controllers of version 1.
    """
    paths: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        paths |= dict.fromkeys(names.split(","), path)
    for line in _read(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        kind, *_, options = right.split(" ")
        name = "" if kind == "cgroup2" else controller
        if name not in paths or not (kind == "cgroup2" or (kind == "cgroup" and name in options.split(","))):
            continue
        top, place = (_plain(field) for field in left.split(" ")[3:5])
        mount = root / place.lstrip("/")
        below = Path(os.path.relpath(paths[name], top))
        if ".." in below.parts:  # a container whose groups have other names outside: the mount's top is its own
            below = Path()
        yield from (mount / part for part in (below, *below.parents))


def _plain(field: str) -> str:
    """A path of mountinfo, where a space and the like are three octal digits behind a backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _read(path: Path) -> str:
    """A file's text; empty where there is none that can be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
