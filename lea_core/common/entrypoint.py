"""How a stage or command begins and ends: its arguments, its cost, and the one place where an error is printed.

In: a `main` that takes the arguments. Out: what it does, and its cost noted (stage_costs.py); or one line on stderr and
exit status 1 where the user made a mistake, the disk is full, or somebody pressed Ctrl-C. LEA_DEBUG=1 shows before that
line what led to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from lea_core.common.cores import limit_threads
from lea_core.common.errors import DISK_FULL, LeaError, show_causes
from lea_core.common.stage_costs import recorded


def no_arguments(argv: list[str]) -> None:
    """Raise `LeaError` where a stage without arguments was given one."""
    if argv:
        raise LeaError(f"unknown argument {argv[0]!r}: this stage takes none; its settings are in params.yaml")


def run(main: Callable[[list[str]], None]) -> None:
    """Call `main(argv)`, note its cost; turn a user's mistake, a full disk or Ctrl-C into one line and status 1."""
    limit_threads()
    try:
        with recorded():
            main(sys.argv[1:])
    except (LeaError, KeyboardInterrupt, OSError) as error:
        if isinstance(error, OSError) and error.errno not in DISK_FULL:
            raise
        show_causes(error)
        raise SystemExit(f"error: {_one_line(error)}") from None


def _one_line(error: LeaError | KeyboardInterrupt | OSError) -> str:
    if isinstance(error, LeaError):
        return " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: nothing was published; run the same command to start again"
    where = Path(error.filename).parent if error.filename else "the working folder"
    return f"disk full while writing in {where}: nothing was published; free some space and run again"
