"""One line of `lea doctor`, and what a check yields.

In: a check. Out: its findings; no check raises: one that fails says so in its line.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from lea_core.common.errors import LeaError, show_causes

Level = Literal["ok", "warning", "problem"]
Found = Iterator[tuple[Level, str, str]]  # level, message, mend
SECONDS = 120  # that a program of others may take
REPRO = "run `dvc repro`"
TRAIN = "pip install 'lea-recommender[train]'"


@dataclass(frozen=True)
class Finding:
    """What one check found; `mend` says what to do, and is empty where nothing is."""

    check: str
    level: Level
    message: str
    mend: str = ""


def findings(name: str, check: Callable[[], Found]) -> list[Finding]:
    """What a check found; where it breaks, a problem that says how."""
    found: list[Finding] = []
    try:
        found.extend(Finding(name, *values) for values in check())
    except LeaError as error:
        show_causes(error)
        found.append(Finding(name, "problem", " ".join(str(error).split())))
    except Exception as error:  # whatever a broken installation raises is what we are here to report
        show_causes(error)
        reason = " ".join(str(error).split())[:200]
        found.append(Finding(name, "problem", f"{type(error).__name__}: {reason}", "mend what it names, or report it"))
    return found


def output(*command: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it said. Raises `subprocess.TimeoutExpired`."""
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)  # noqa: S603 (all are literals)
