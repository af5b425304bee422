"""What the commands print with: sentences, tables that fit the screen, examples of a help page.

In: plain text and cells. Out: stdout. Nothing here reads markup that the data might hold.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lea_core.common.errors import LeaError

INTERRUPTED = 130  # Typer's status after Ctrl-C
OURS = ("lea_core", "stages")
_PIECES = re.compile(r"(?<=[-_ ])")  # where a name may go on in the next line


@contextlib.contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Turn a missing package of an extra into one line; also a decorator of a command."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OURS:
            raise
        mend = f"pip install 'lea-recommender[{extra}]'"
        raise LeaError(f"this needs {what}: {mend} (there is no {error.name})") from None


pipeline = needing("the pipeline", "train")


def version(wanted: bool) -> None:
    """Print the installed version and leave, where it is wanted."""
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        print(f"lea {installed('lea-recommender')}")
    except PackageNotFoundError:
        print("lea, not installed: run from a folder")
    raise typer.Exit


def paragraph(text: str) -> str:
    """One paragraph of a help page, as it stands."""
    return escape(" ".join(text.split()))


def examples(*lines: str) -> str:
    """The end of a command's help page: a line each."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  {escape(line)}" for line in lines)])


def say(message: str) -> None:
    """Print a sentence, wrapped at the screen's width."""
    Console().print(message, markup=False, highlight=False)


def one_line(text: str) -> Text:
    """A text of the data: no markup, one line, cut to the screen."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return Text(" ".join(printable.split()), no_wrap=True, overflow="ellipsis")


def print_table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    left: int,
    last: Sequence[str | Text] | None = None,
) -> None:
    """Print a table whose first `left` columns are text and whose others are numbers; `last` comes below a line.

    Where the screen is too narrow, names go on in the next line at a hyphen, underline or space: none is cut.
    """
    console = Console()
    every = [list(row) for row in rows]
    widths = fitting(header, [*every, *([last] if last else [])], left, console.width)
    table = Table()
    for place, name in enumerate(header):
        justify = "left" if place < left else "right"
        table.add_column(name, justify=justify, no_wrap=place >= left, overflow="fold")  # type: ignore[arg-type]
    for row in every:
        table.add_row(*(_cell(cell, widths.get(place)) for place, cell in enumerate(row)))
    if last:
        table.add_section()
        table.add_row(*(_cell(cell, widths.get(place)) for place, cell in enumerate(last)))
    console.print(title, style="bold", markup=False)
    console.print(table)


def fitting(header: Sequence[str], rows: Sequence[Sequence[str | Text]], left: int, width: int) -> dict[int, int]:
    """Columns of text by their place, and the width of each with which a table fits into `width`, if it can."""
    columns = [[name, *(str(row[place]) for row in rows)] for place, name in enumerate(header)]
    natural = [max(map(cell_len, column)) for column in columns]
    wraps = [place for place in range(left) if not any(isinstance(row[place], Text) for row in rows)]
    least = {
        place: max(cell_len(piece.rstrip()) for cell in columns[place] for piece in _pieces(cell)) for place in wraps
    }
    excess = sum(natural) + 3 * len(header) + 1 - width  # a border and two blanks for each column
    while excess > 0 and (wide := [place for place in wraps if natural[place] > least[place]]):
        widest = max(wide, key=lambda place: natural[place])
        natural[widest] -= 1
        excess -= 1
    return {place: natural[place] for place in wraps}


def _cell(cell: str | Text, width: int | None) -> Text:
    """A cell without markup, folded where its column has a width."""
    if isinstance(cell, Text):
        return cell
    lines = [""]
    for piece in _pieces(cell):
        if width is not None and lines[-1] and cell_len(lines[-1]) + cell_len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return Text("\n".join(line.rstrip() for line in lines))


def _pieces(text: str) -> list[str]:
    return _PIECES.split(text)
