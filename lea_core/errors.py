"""The one error that a user sees.

Every mistake a user can make raises `LeaError` with a single line that names the file, key, column or row and the
mend; entry.py prints it. Anything else is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import sys

# EFBIG: the file is larger than the file system or the process's limit allows.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LeaError(Exception):
    """A mistake in the input or the surroundings; its text is one line that says what is wrong and how to mend it."""


def warn(message: str) -> None:
    """Print one warning line on stderr; the run goes on."""
    print(f"warning: {message}", file=sys.stderr)


def reason(error: Exception) -> str:
    """A library's error in one short line: its kind and the first line of its text."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:150]}"
