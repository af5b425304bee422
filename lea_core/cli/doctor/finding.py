"""A finding, one line of `lea doctor`; and how a check is run.

In: a check. Out: its findings. An error in a check becomes a finding too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from lea_core.common.errors import LeaError, show_causes

Level = Literal["ok", "warning", "problem"]
Found = Iterator[tuple[Level, str, str]]  # level, message, mend
SECONDS = 120  # limit for another program
REPRO = "run `dvc repro`"
TRAIN = "pip install 'lea-recommender[train]'"


@dataclass(frozen=True)
class Finding:
    """What one check found; `mend` says what to do, and is empty if nothing is needed."""

    check: str
    level: Level
    message: str
    mend: str = ""


def findings(name: str, check: Callable[[], Found]) -> list[Finding]:
    """What a check found; if it raises an error, that is the last finding."""
    found: list[Finding] = []
    try:
        found.extend(Finding(name, *values) for values in check())
    except LeaError as error:
        show_causes(error)
        found.append(Finding(name, "problem", " ".join(str(error).split())))
    except Exception as error:  # a broken installation may raise anything, and the user must see it
        show_causes(error)
        reason = " ".join(str(error).split())[:200]
        found.append(Finding(name, "problem", f"{type(error).__name__}: {reason}", "mend what it names, or report it"))
    return found


def output(*command: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it said. Raises `subprocess.TimeoutExpired`."""
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)  # noqa: S603 (all are literals)
