"""The one error a user sees, and the one place where it is printed.

In: an exception raised while a stage or command runs. Out: one line on stderr and exit status 1.

Every mistake a user can make raises `LeaError` with a single line that names the file, key, column or row and the
mend. Anything else is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

from lea_core.costs import recorded

# EFBIG: the file is larger than the file system or the process's limit allows.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LeaError(Exception):
    """A mistake in the input or the surroundings; its text is one line that says what is wrong and how to mend it."""


def warn(message: str) -> None:
    """Print one warning line on stderr; the run goes on."""
    print(f"warning: {message}", file=sys.stderr)


def no_arguments(argv: list[str]) -> None:
    """Raise `LeaError` where a stage without arguments was given one."""
    if argv:
        raise LeaError(f"unknown argument {argv[0]!r}: this stage takes none; its settings are in params.yaml")


def run(main: Callable[[list[str]], None]) -> None:
    """Call `main(argv)`, note its cost; turn a user's mistake, a full disk or Ctrl-C into one line and status 1."""
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
