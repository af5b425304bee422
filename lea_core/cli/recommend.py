"""`lea recommend`: histories in, recommendations out, in batches of bounded memory and in order.

In: a policy folder, or one exported to ONNX; histories (see history_lines.py). Out: recommendations (see answers.py); a
line on stderr for every invalid history, and a summary. The status is 3 if there were invalid ones.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import typer

from lea_core.common.artifacts import publish_file
from lea_core.common.errors import DISK_FULL, LeaError
from lea_core.common.progress import duration

if TYPE_CHECKING:
    import pyarrow as pa

    from lea_core.cli.answers import Answers
    from lea_core.cli.history_lines import Batch
    from lea_core.serving.recommender import Recommender

EXAMPLES = [
    """echo '["50", "181"]' | lea recommend""",
    """echo '{"user": 7, "history": ["50", "181"]}' | lea recommend data/policy - -k 3""",
    "lea recommend data/policy histories.jsonl --out lists.jsonl",
    "lea recommend data/policy histories.parquet --out lists.parquet --include-seen",
]
REFUSED, READER_GONE = 3, 141  # exit status
Format = Literal["jsonl", "parquet"]


@dataclass
class Tally:
    """Counts of histories; `short` got fewer than k items, and `empty` of these got none."""

    k: int
    answered: int = 0
    fallback: int = 0
    short: int = 0
    empty: int = 0
    unknown: int = 0
    refused: int = 0

    def refuse(self, name: str, why: str) -> None:
        """Print on stderr which history is invalid, and why."""
        self.refused += 1
        print(f"{name}: {' '.join(why.split())}", file=sys.stderr)

    def summary(self, seconds: float) -> str:
        """All of it in one line."""
        asked = self.answered + self.refused
        return (
            f"{self.answered:,} of {asked:,} histories answered in {duration(seconds)}: "
            f"{self.fallback:,} by popularity, {self.unknown:,} unknown items skipped"
            + (f"; {self.short:,} with fewer than {self.k} items, {self.empty:,} of them none" if self.short else "")
            + (f"; {self.refused:,} refused" if self.refused else "")
        )


def recommend(
    folder: Annotated[Path, typer.Argument(help="The policy's folder, or one that `lea export --onnx` made.")] = Path(
        "data/policy"
    ),
    histories: Annotated[
        Path, typer.Argument(metavar="[INPUT]", help="JSON lines or a Parquet file; - is standard input.")
    ] = Path("-"),
    out: Annotated[Path, typer.Option(help="File to write; - is standard output.")] = Path("-"),
    k: Annotated[int, typer.Option("-k", min=1, help="How many items for each history.")] = 10,
    exclude_seen: Annotated[
        bool | None,
        typer.Option(
            "--exclude-seen/--include-seen",
            help="Whether items of the history are left out; default: as the policy was evaluated.",
        ),
    ] = None,
    unknown: Annotated[
        Literal["skip", "refuse"], typer.Option(help="What to do with an item that the policy does not know.")
    ] = "skip",
    written: Annotated[
        Format | None, typer.Option("--format", help="Of the output; default: by the ending of --out, else jsonl.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=2**16, help="Histories that are answered at a time.")] = 256,
) -> None:
    """Recommend items for histories, one per line: `["id", ...]` or `{"history": ["id", ...], "user": anything}`.

    The oldest item comes first. A Parquet file has a column history of such lists, and perhaps user.

    An invalid line is named on stderr, the others are answered, and the exit status is 3.
    """
    policy, tally, started = _load(folder), Tally(k), time.perf_counter()
    if exclude_seen not in (None, policy.exclude_seen):
        how = "left out of" if policy.exclude_seen else "kept in"
        print(f"note: by default, items of a history are {how} the lists of this policy", file=sys.stderr)
    try:
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(_opened(histories))
            batches, user = _batches(str(histories), source, batch, tally)
            sink = stack.enter_context(_sink(out))
            parquet = (written or ("parquet" if out.suffix == ".parquet" else "jsonl")) == "parquet"
            if parquet and str(out) == "-" and sys.stdout.isatty():
                raise LeaError("--format parquet is not for a screen: name a file with --out")
            answers = stack.enter_context(_answers(sink, parquet, user))
            known = frozenset(policy.item_ids) if unknown == "refuse" else None
            _answer(policy, _shown(batches, out, tally), answers, tally, exclude_seen, known)
        print(tally.summary(time.perf_counter() - started), file=sys.stderr)
    except BrokenPipeError:
        # Python would complain once more when it closes the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(READER_GONE) from None
    if tally.refused:
        raise typer.Exit(REFUSED)


def _load(folder: Path) -> Recommender:
    """The policy, by the runtime that its folder is for: ONNX Runtime's starts without torch."""
    from lea_core.serving.onnx_policy import GRAPH, OnnxPolicy

    if (folder / GRAPH).exists():
        return OnnxPolicy.load(folder)
    from lea_core.serving import Policy

    return Policy.load(folder)


def _answer(
    policy: Recommender,
    batches: Iterator[Batch],
    answers: Answers,
    tally: Tally,
    exclude_seen: bool | None,
    known: frozenset[str] | None,
) -> None:
    """Answer every batch; a history with an item that is not `known` is refused, where that is given."""
    for asked in batches:
        if known is not None:
            asked = _of_known(asked, known, tally)
        found = policy.recommend(asked.histories, k=tally.k, exclude_seen=exclude_seen)
        answers.write(found, asked.users)
        tally.answered += len(found)
        tally.fallback += int(found.fallback.sum())
        tally.unknown += int(found.unknown.sum())
        tally.short += int((found.missing > 0).sum())
        tally.empty += int((found.missing == tally.k).sum())


def _of_known(asked: Batch, known: frozenset[str], tally: Tally) -> Batch:
    from lea_core.cli.history_lines import Batch
    from lea_core.serving.ids import known_as

    kept = Batch()
    for name, history, user in zip(asked.names, asked.histories, asked.users, strict=True):
        strange = next((item for item in history if known_as(item, known) is None), None)
        if strange is None:
            kept.add(name, history, user)
        else:
            tally.refuse(name, f"item {strange[:60]!a} is unknown: leave it out, or use --unknown skip")
    return kept


def _batches(
    name: str, source: io.BufferedReader, size: int, tally: Tally
) -> tuple[Iterator[Batch], pa.DataType | None]:
    """The batches of the input, whatever its format, and the type that a column of its users has."""
    import pyarrow as pa

    from lea_core.cli import history_lines

    if source.peek(4)[:4] != history_lines.PARQUET:
        return history_lines.lines(source, size, tally.refuse), pa.string()
    if not source.seekable():
        raise LeaError("Parquet cannot be read from a pipe: name the file, or give JSON lines")
    file = history_lines.open_parquet(name, source)
    return history_lines.rows(name, file, size, tally.refuse), history_lines.user_type(file)


def _answers(sink: BinaryIO, parquet: bool, user: pa.DataType | None) -> Answers:
    from lea_core.cli.answers import JsonLines, ParquetRows

    return ParquetRows(sink, user) if parquet else JsonLines(sink)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """The input. Raises `LeaError` where it is absent or no file."""
    if str(path) == "-":
        if sys.stdin.isatty():
            print("reading histories from the keyboard, one JSON list per line; Ctrl-D ends", file=sys.stderr)
        yield sys.stdin.buffer  # type: ignore[misc]  # of a BufferedReader, as Python opens it
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise LeaError(f"{path}: cannot be read ({error.strerror}): name a file of histories, or -") from None
    with file:
        yield file


@contextlib.contextmanager
def _sink(path: Path) -> Iterator[BinaryIO]:
    """The output; a file is published at the end. Raises `LeaError` where it cannot be written."""
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    try:
        if path.is_dir():
            raise LeaError(f"{path}: is a folder: name a file with --out")
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # /dev/null, a pipe: never to be replaced
            with path.open("wb") as stream:
                yield stream
            return
        with publish_file(path) as temporary, temporary.open("wb") as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise LeaError(f"{path}: cannot be written ({error.strerror}): name another file with --out") from None


def _shown(batches: Iterator[Batch], out: Path, tally: Tally) -> Iterator[Batch]:
    """The batches, with a progress bar if stderr is a terminal and the answers do not go to it."""
    if not sys.stderr.isatty() or (str(out) == "-" and sys.stdout.isatty()):
        yield from batches
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} histories"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        for batch in batches:
            yield batch
            progress.update(task, completed=tally.answered)
