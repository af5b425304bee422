"""What each stage cost when it last ran: seconds, peak memory, tokens that the LLM read.

In: a stage's run, from `entry.run`; tokens from the stages that count them. Out: costs/REPOSITORY/STAGE.json in the
cache folder, beyond DVC's reach: a stage that DVC restores from its cache keeps the cost of its last real run. What
cannot be measured or written is left out; it never fails a stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_tokens: int | None = None


def note_tokens(count: int) -> None:
    """Say how many tokens this stage's LLM read in all; the last word counts."""
    global _tokens
    _tokens = count


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    """Measure what runs inside, and note it down where it is a stage that ends well."""
    started = time.perf_counter()
    yield
    stage = stage_name()
    if stage is None:
        return
    with contextlib.suppress(OSError, ValueError):
        from lea_core.common.artifacts import write_json

        cost = {"seconds": round(time.perf_counter() - started, 2), "peak_mb": peak_mb(), "tokens": _tokens}
        write_json(folder() / f"{stage}.json", cost)


def stage_name() -> str | None:
    """The stage that this process runs, such as "train@snqn"; None where it is no `python -m stages.NAME`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    package, _, name = (spec.name if spec else "").partition(".")
    return "@".join([name, *sys.argv[1:2]]) if package == "stages" and name else None


def peak_mb() -> float | None:
    """Most memory that one process of this stage held, its own or one that it waited for, in MB; None if unknown."""
    try:
        from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
    except ImportError:
        return None
    peak = max(getrusage(who).ru_maxrss for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return round(peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024), 1)  # bytes there, KiB here


def folder() -> Path:
    """Where this repository's costs are: several may share a cache folder."""
    from lea_core.common.sources import cache_folder, repository

    name = hashlib.sha256(str(repository().resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "costs" / name


def read() -> dict[str, dict[str, float | None]]:
    """Cost of each stage that has one, by its name; a file that does not read is left out."""
    found = {}
    for file in sorted(folder().glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            cost = json.loads(file.read_text(encoding="utf-8"))
            found[file.stem] = {key: cost[key] for key in ("seconds", "peak_mb", "tokens")}
    return found
