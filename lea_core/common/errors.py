"""The one error that a user sees.

Every mistake a user can make raises `LeaError` with a single line that names the file, key, column or row and the
mend; entrypoint.py prints it. Anything else is a bug of ours and keeps its traceback.

The line is raised `from None`, for it says what a user needs. What led to it Python keeps nevertheless, and
LEA_DEBUG=1, which `lea --debug` sets, shows it (`show_causes`).
"""

from __future__ import annotations

import errno
import os
import sys
import traceback

# EFBIG: the file is larger than the file system or the process's limit allows.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DEBUG = "LEA_DEBUG"


class LeaError(Exception):
    """A mistake in the input or the surroundings; its text is one line that says what is wrong and how to mend it."""


def show_causes(error: BaseException) -> None:
    """With LEA_DEBUG=1, print on stderr the traceback of an error and of all that led to it."""
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        print(in_full(error), end="", file=sys.stderr, flush=True)


def in_full(error: BaseException) -> str:
    """The traceback of an error and of all that led to it, though `from None` hides it."""
    unhide(error)
    return "".join(traceback.format_exception(error))


def unhide(error: BaseException) -> None:
    """Let the error's traceback show all that led to it, though it was raised `from None`."""
    inner: BaseException | None = error
    seen: set[int] = set()  # an error may lead to itself
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        inner.__suppress_context__ = False
        inner = inner.__cause__ or inner.__context__


def warn(message: str) -> None:
    """Print one warning line on stderr; the run goes on."""
    print(f"warning: {message}", file=sys.stderr)


def reason(error: Exception) -> str:
    """A library's error in one short line: its kind and the first line of its text."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:150]}"
