"""The page's pieces that are no charts: sections, figures with their numbers, tables, heat tables.

In: plain text and numbers, escaped here; arguments named `body` are HTML already. Out: well-formed HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from lea_core.report.html.charts import minus

KINDS = {
    "le": "uses the LE",
    "plain": "without the LE",
    "baseline": "baseline",
    "control": "control in the place of the LE",
}


def signed(value: float, decimals: int = 4) -> str:
    """A number with its sign; a true minus."""
    return minus(f"{value:+.{decimals}f}")


def p_value(value: float | None, name: str = "p ") -> str:
    """A p-value in words, with its name before it; empty where there is none."""
    if value is None:
        return ""
    return f"{name}< 0.001" if value < 0.001 else f"{name}{'' if not name else '= '}{value:.3f}"


def legend(kinds: set[str]) -> str:
    """What the colours say, of the kinds that are there."""
    items = [f'<li><i class="mark {kind}"></i>{words}</li>' for kind, words in KINDS.items() if kind in kinds]
    return f'<ul class="legend">{"".join(items)}</ul>'


def section(name: str, title: str, body: str, lead: str = "") -> str:
    """A section with an anchor; `lead` says in a sentence what is to be seen."""
    words = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<section id="{escape(name)}"><h2>{escape(title)}</h2>{words}{body}</section>'


def missing(name: str, title: str, why: str) -> str:
    """What stands in the place of a section whose input is not there."""
    return f'<p class="missing" id="{escape(name)}"><b>{escape(title)}</b>: {escape(why)}</p>'


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{escape(kind)}">{escape(words)}</p>'


def figure(title: str, body: str, numbers: str = "", note: str = "") -> str:
    """A chart with its title, and the same numbers as a table behind a click."""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    folded = f"<details><summary>Numbers</summary>{numbers}</details>" if numbers else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{body}{below}{folded}</figure>"


def grid(parts: Iterable[str], kind: str = "two") -> str:
    """Parts side by side where there is room."""
    return f'<div class="{escape(kind)}">{"".join(parts)}</div>'


def table(
    header: Sequence[str],
    cells: Iterable[Sequence[str]],
    left: int = 1,
    words: Sequence[int] = (),
    kind: str = "",
    hidden: Sequence[int] = (),
    kinds: Sequence[str] = (),
) -> str:
    """A table whose first `left` columns and `words` are text and whose others are numbers.

    hidden: columns that a narrow screen leaves out; kinds: of each row, a class for the mark before its name.
    """

    def classes(place: int) -> str:
        return " ".join(["t" if place < left or place in words else "n", *(["extra"] if place in hidden else [])])

    head = "".join(f'<th scope="col" class="{classes(i)}">{escape(name)}</th>' for i, name in enumerate(header))
    lines = []
    for number, row in enumerate(cells):
        first, *others = row
        mark = f'<i class="mark {escape(kinds[number])}"></i>' if kinds else ""
        line = [f'<th scope="row" class="{classes(0)}">{mark}{escape(first)}</th>']
        line += [f'<td class="{classes(i)}">{escape(cell)}</td>' for i, cell in enumerate(others, start=1)]
        lines.append(f"<tr>{''.join(line)}</tr>")
    return (
        f'<div class="scroll"><table class="{escape(kind)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def heat(
    header: Sequence[str],
    cells: Mapping[str, Sequence[float | None]],
    marks: Mapping[str, str],
    reference: str | None,
    uncoloured: Sequence[int] = (),
    limit: float = 0.3,
) -> str:
    """A heat table: of each row its name and values; the colour is the change against the reference's value above it.

    marks: kind of each row. reference: a row's name, or None for the column's mean. A change of `limit` (a share) or
    more has the full colour; the columns `uncoloured` have none.
    """
    head = "".join(f'<th scope="col" class="n">{escape(name)}</th>' for name in header[1:])
    columns = list(zip(*cells.values(), strict=True))
    found = [[value for value in column if value is not None] for column in columns]
    means = [sum(column) / len(column) if column else None for column in found]
    base = means if reference is None else cells.get(reference, means)
    lines = []
    for name, values in cells.items():
        line = [f'<th scope="row" class="t"><i class="mark {escape(marks.get(name, "plain"))}"></i>{escape(name)}</th>']
        for place, (value, other) in enumerate(zip(values, base, strict=True)):
            if value is None:
                line.append('<td class="n"></td>')
                continue
            share = (value / other - 1) / limit if other and place not in uncoloured else 0.0
            colour = "up" if share > 0 else "down"
            line.append(f'<td class="n heat {colour}" style="--h:{min(abs(share), 1):.2f}">{value:.3f}</td>')
        lines.append(f"<tr>{''.join(line)}</tr>")
    return (
        f'<div class="scroll"><table class="heated"><thead><tr><th scope="col" class="t">{escape(header[0])}</th>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
