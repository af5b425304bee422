"""Progress of long work: a bar with rate and time left, and an estimate before an LLM stage starts.

Out: stderr only. On a terminal the bar moves; in a log it prints a line every few seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

_hidden = False


@contextmanager
def no_bars() -> Iterator[None]:
    """Draw no bars inside this context: for many short pieces of work that print a line each."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


def bar(total: int, description: str, unit: str) -> tqdm[Any]:
    """A progress bar over `total` units; the caller updates it."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=True,
        mininterval=10.0 if quiet else 0.2,
        maxinterval=20.0 if quiet else 10.0,
        dynamic_ncols=not quiet,
        disable=_hidden,
    )


def announce(stage: str, tokens: int, tokens_per_second: float, size: int = 0) -> None:
    """Print how many tokens an LLM stage will process, how long it takes at a measured rate, and the bytes to write."""
    seconds = tokens / tokens_per_second
    print(
        f"{stage}: {tokens:,} tokens to process, about {duration(seconds)} at {tokens_per_second:,.0f} tokens/s"
        + (f", {amount(size)} to write" if size else ""),
        file=sys.stderr,
        flush=True,
    )


def amount(size: float) -> str:
    """Bytes in words: `31.6 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def duration(seconds: float) -> str:
    """Seconds in words: `42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{max(whole, 1)} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
