"""What each stage cost when it last ran: seconds, peak memory, tokens that the LLM read.

In: a stage's run, from `entrypoint.run`; tokens from the stages that count them. Out: costs/REPOSITORY/STAGE.json in
the cache folder, which DVC does not manage: if DVC restores a stage's outputs from its cache, the cost of the last real
run stays. A cost that cannot be measured or written is left out, and the stage does not fail.
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
    """Set how many tokens this stage's LLM read in all; a later call replaces the number."""
    global _tokens
    _tokens = count


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    """Measure what runs inside, and write its cost if it is a stage and ends without an error."""
    started = time.perf_counter()
    yield
    stage = stage_name()
    if stage is None:
        return
    from lea_core.common.artifacts import write_json

    with contextlib.suppress(OSError):  # a full or read-only cache folder: the stage itself is done
        cost = {"seconds": round(time.perf_counter() - started, 2), "peak_mb": peak_mb(), "tokens": _tokens}
        write_json(folder() / f"{stage}.json", cost)


def stage_name() -> str | None:
    """The stage that this process runs, such as "train@snqn"; None where it is no `python -m stages.NAME`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    package, _, name = (spec.name if spec else "").partition(".")
    return "@".join([name, *sys.argv[1:2]]) if package == "stages" and name else None


def peak_mb() -> float | None:
    """Peak memory in MB of this stage's process or of the largest one that it waited for; None if unknown."""
    try:
        from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
    except ImportError:
        return None
    peak = max(getrusage(who).ru_maxrss for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    return round(peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024), 1)  # bytes there, KiB here


def folder() -> Path:
    """Where this repository's costs are: several repositories may share a cache folder."""
    from lea_core.common.sources import cache_folder, repository

    name = hashlib.sha256(str(repository().resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "costs" / name


def read() -> dict[str, dict[str, float | None]]:
    """Cost of each stage that has one, by its name; a file that does not read is left out."""
    found = {}
    for file in sorted(folder().glob("*.json")):
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):  # just replaced; no JSON; of another version
            cost = json.loads(file.read_text(encoding="utf-8"))
            found[file.stem] = {key: cost[key] for key in ("seconds", "peak_mb", "tokens")}
    return found
