"""How a stage or command begins and ends: its arguments, its cost, and the one place where an error is printed.

In: a `main` that takes the arguments. Out: what it does, and its cost noted (costs.py); or one line on stderr and exit
status 1 where the user made a mistake, the disk is full, or somebody pressed Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from lea_core.cores import limit_threads
from lea_core.costs import recorded
from lea_core.errors import DISK_FULL, LeaError


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
    except LeaError as error:
        raise SystemExit(_one_line(str(error))) from None
    except KeyboardInterrupt:
        raise SystemExit("error: interrupted: nothing was published; run the same command to start again") from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = Path(error.filename).parent if error.filename else "the working folder"
        raise SystemExit(
            f"error: disk full while writing in {where}: nothing was published; free some space and run again"
        ) from None


def _one_line(message: str) -> str:
    return "error: " + " ".join(message.split())
