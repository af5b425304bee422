"""How results are written: Markdown tables, text files, pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lea_core.common.artifacts import publish_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def table(head: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table. head: the titles with | between them; those of columns of numbers begin with >."""
    titles = [title.strip() for title in head.split("|")]
    rule = "|".join("--:" if title.startswith(">") else "---" for title in titles)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    names = (title.removeprefix(">") for title in titles)
    return [f"|{'|'.join(f' {name} ' if name else ' ' for name in names)}|", f"|{rule}|", *lines]


def write_text(path: Path, lines: str | Iterable[str]) -> None:
    """Publish a text, or lines of it."""
    with publish_file(path) as temporary:
        text = lines if isinstance(lines, str) else "\n".join(lines) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_ordered_json(path: Path, value: Any) -> None:
    """Publish JSON whose keys stay in their order."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def new_figure(*shape: int, **options: Any) -> tuple[Figure, Any]:
    """A figure of rows and columns of axes, drawn without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(*shape, **options)


def save(figure: Figure, path: Path, dpi: int = 130) -> None:
    """Publish a picture as PNG."""
    import matplotlib.pyplot as plt

    with publish_file(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
    plt.close(figure)


def plain(axes: Axes, title: float = 11.0) -> None:
    """No frame above and at the right, and a title of this size."""
    axes.title.set_fontsize(title)
    axes.spines[["top", "right"]].set_visible(False)
