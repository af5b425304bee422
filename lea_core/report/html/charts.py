"""Charts as inline SVG: scales with round ticks, rows of bars or intervals, lines, points, distributions.

In: numbers and labels. Out: SVG that fits the width it is given; colours are classes of style.py, so a chart follows
the page from light to dark. Text is measured by a table of letter widths on the wide side and cut with an ellipsis (the
whole stands in the mark's <title>), rows have a line of their own for text on a narrow screen, labels of lines are
pushed apart: no text lies on another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDE, NARROW = 540, 350  # px: a chart on a desktop and on a phone; each is drawn for its width, none is scaled
SIZE = 12  # px, of all text
MINUS = "\N{MINUS SIGN}"
_THIN, _BROAD, _SIGNS = "iljtfrI.,:;'|!()[] -", "mwMW@%&…", f"{MINUS}+=<>"


@dataclass(frozen=True)
class Row:
    """A bar or an interval with its label; `text` stands at its end, `dots` are single runs."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    dots: tuple[float, ...] = ()
    kind: str = "plain"
    text: str = ""


@dataclass(frozen=True)
class Line:
    """Points in order of x; `label` stands at the last one."""

    points: Sequence[tuple[float, float]]
    label: str = ""
    kind: str = "plain"


def minus(number: str) -> str:
    """A number in words, with a true minus."""
    return number.replace("-", MINUS)


def text_width(text: str, size: float = SIZE) -> float:
    """About how wide a text is, in px; of most sans-serif fonts rather more."""
    units = sum(
        0.4 if c in _THIN else 0.98 if c in _BROAD else 0.84 if c in _SIGNS or c.isupper() else 0.64 for c in text
    )
    return units * size


def fit(text: str, width: float, size: float = SIZE) -> str:
    """`text`, or as much of its start as `width` holds, with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def ticks(low: float, high: float, count: int) -> list[float]:
    """Two to `count` + 2 multiples of 1, 2 or 5 times a power of ten, which hold `low` and `high` between them."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Ticks as text, with as many decimals as their step needs."""
    step = values[1] - values[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [minus(f"{value or 0.0:,.{decimals}f}") for value in values]


@dataclass(frozen=True)
class Scale:
    """A linear axis: its round ticks, and where each value lies between px `start` and `end`."""

    ticks: list[float]
    labels: list[str]
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Px of a value."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def scale(values: Iterable[float], start: float, end: float, across: bool = True) -> Scale:
    """The axis that holds `values`, with as many ticks as leave room between their labels (beside or above another)."""
    found = [value for value in values if math.isfinite(value)]
    low, high = min(found, default=0.0), max(found, default=1.0)
    room = abs(end - start)
    for count in range(max(2, int(room // (70 if across else 34))), 0, -1):
        places = ticks(low, high, count)
        labels = tick_labels(places)
        needed = max(map(text_width, labels)) + 20 if across else SIZE + 6
        if needed <= room / (len(places) - 1):
            break
    return Scale(places, labels, start, end)


def svg(width: float, height: float, title: str, body: Iterable[str]) -> str:
    """The figure with its accessible name."""
    return (
        f'<svg role="img" aria-label="{escape(title)}" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><title>{escape(title)}</title>{"".join(body)}</svg>'
    )


def responsive(draw: Callable[[float], str], wide: float = WIDE, narrow: float = NARROW) -> str:
    """The chart drawn for a desktop and for a phone; style.py shows one of them."""
    return f'<div class="wide">{draw(wide)}</div><div class="narrow">{draw(narrow)}</div>'


def rows(data: Sequence[Row], width: float, title: str, filled: bool = True, axis: str = "") -> str:
    """A row each: a bar from zero (`filled`) or a point, with interval, dots and text; zero is always on the axis."""
    narrow = width < 0.8 * WIDE
    left = 2.0 if narrow else min(max((text_width(row.label) for row in data), default=0.0) + 10, 0.4 * width)
    right = 10.0 if narrow else max((text_width(row.text) for row in data), default=0.0) + 12
    height = 40 if narrow else 26
    values = [0.0, *(v for row in data for v in (row.value, row.low, row.high, *row.dots) if v is not None)]
    x = scale(values, left, width - max(right, 16.0))
    top, bottom = 4.0, 4.0 + height * len(data)
    body = [_grid_across(x, top, bottom, axis, width)]
    for place, row in enumerate(data):
        middle = top + height * place + (28 if narrow else height / 2)
        body.append(_row(row, x, middle, filled))
        if narrow:
            room = width - text_width(row.text) - 12
            body.append(text(fit(row.label, room), 2, middle - 14))
            body.append(text(row.text, width - 2, middle - 14, "end", "number"))
        else:
            body.append(text(fit(row.label, left - 10), left - 8, middle + 4, "end"))
            body.append(text(row.text, width - 2, middle + 4, "end", "number"))
    return svg(width, bottom + (36 if axis else 20), title, body)


def _row(row: Row, x: Scale, middle: float, filled: bool) -> str:
    words = f"{row.label}: {row.text or f'{row.value:.4g}'}"
    if row.low is not None and row.high is not None:
        words += f", from {row.low:.4g} to {row.high:.4g}"
    marks = [f"<title>{escape(words)}</title>"]
    if filled:
        start, end = sorted((x(0.0), x(row.value)))
        marks.append(
            f'<rect class="fill" x="{start:.1f}" y="{middle - 7:.1f}" width="{end - start:.1f}" height="14" rx="2"/>'
        )
    if row.low is not None and row.high is not None:
        marks.append(_segment("whisker", x(row.low), middle, x(row.high), middle))
        marks += [_segment("whisker", x(v), middle - 4, x(v), middle + 4) for v in (row.low, row.high)]
    marks += [f'<circle class="seed" cx="{x(dot):.1f}" cy="{middle:.1f}" r="3"/>' for dot in row.dots]
    if not filled:
        marks.append(f'<circle class="point" cx="{x(row.value):.1f}" cy="{middle:.1f}" r="5"/>')
    return f'<g class="{escape(row.kind)}">{"".join(marks)}</g>'


def text(words: str, x: float, y: float, anchor: str = "start", kind: str = "") -> str:
    """Escaped text at a place."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _segment(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _grid_across(x: Scale, top: float, bottom: float, axis: str, width: float) -> str:
    marks = []
    for value, label in zip(x.ticks, x.labels, strict=True):
        marks.append(_segment("zero" if value == 0 else "grid", x(value), top, x(value), bottom))
        half = text_width(label) / 2
        place = min(max(x(value), half), width - half)
        marks.append(text(label, place, bottom + 14, "middle", "tick"))
    if axis:
        marks.append(text(fit(axis, width), min(x.end, width), bottom + 30, "end", "tick"))
    return "".join(marks)


def _grid_down(y: Scale, left: float, right: float) -> str:
    return "".join(
        _segment("zero" if value == 0 else "grid", left, y(value), right, y(value))
        + text(label, left - 6, y(value) + 4, "end", "tick")
        for value, label in zip(y.ticks, y.labels, strict=True)
    )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart near the wanted ones, going down once and up once; within the ends if they fit."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    before = low - gap
    for index in order:
        before = placed[index] = max(wanted[index], before + gap)
    after = high + gap
    for index in reversed(order):
        after = placed[index] = min(placed[index], after - gap)
    return placed


def lines(
    data: Sequence[Line], size: tuple[float, float], title: str, axes: tuple[str, str], y_values: Sequence[float] = ()
) -> str:
    """Lines with their names at their ends. size: width, height; axes: names of x and y; y_values: held by y, too."""
    width, height = size
    ys = [point[1] for line in data for point in line.points]
    top, bottom = (24.0 if axes[1] else 8.0), height - (38 if axes[0] else 22)
    y = scale([*ys, *y_values], bottom, top, across=False)
    left = max(map(text_width, y.labels)) + 10
    right = width - max([14.0, *(text_width(line.label) + 10 for line in data if line.label)])
    x = scale([point[0] for line in data for point in line.points], left, right)
    body = [_grid_down(y, left, right), _x_labels(x, bottom, axes[0], width)]
    if axes[1]:
        body.append(text(fit(axes[1], width), 2, 12, "start", "tick"))
    for line in data:
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line.points)
        body.append(f'<polyline class="path {escape(line.kind)}" points="{path}"/>')
    named = [line for line in data if line.label and line.points]
    for line, place in zip(named, spread([y(line.points[-1][1]) for line in named], 15, top, bottom), strict=True):
        body.append(text(line.label, x(line.points[-1][0]) + 6, place + 4, "start", f"name {escape(line.kind)}"))
    return svg(width, height, title, body)


def _x_labels(x: Scale, bottom: float, axis: str, width: float) -> str:
    marks = [
        text(label, min(x(value), width - text_width(label) / 2), bottom + 18, "middle", "tick")
        for value, label in zip(x.ticks, x.labels, strict=True)
    ]
    return "".join(marks) + (text(axis, x.end, bottom + 33, "end", "tick") if axis else "")


def points(data: Sequence[tuple[float, float, float]], width: float, title: str, axes: tuple[str, str]) -> str:
    """Observed against predicted shares with the diagonal: (x, y, weight) each; the area of a point is its weight."""
    height = width * 0.72
    y = scale([0.0, 1.0], height - 38, 24, across=False)
    left = max(map(text_width, y.labels)) + 10
    x = scale([0.0, 1.0], left, width - 16)
    largest = max(weight for *_, weight in data)
    body = [_grid_down(y, left, x.end), _x_labels(x, y.start, axes[0], width), text(axes[1], 2, 12, "start", "tick")]
    body.append(_segment("diagonal", x(0), y(0), x(1), y(1)))
    for a, b, weight in data:
        words = f"<title>predicted {a:.2f}, observed {b:.2f}, {weight:.0f} pairs</title>"
        radius = 3 + 5 * math.sqrt(weight / largest)
        body.append(f'<circle class="le point" cx="{x(a):.1f}" cy="{y(b):.1f}" r="{radius:.1f}">{words}</circle>')
    return svg(width, height, title, body)


def ridges(
    data: Sequence[tuple[str, str, Sequence[float], float]], edges: Sequence[float], width: float, title: str, axis: str
) -> str:
    """Distributions one below the other on the same axes: (label, kind, share in each bin, median) each.

    edges: the B + 1 borders of the B bins.
    """
    height, gap = 74.0, 26.0
    x = scale((edges[0], edges[-1]), 8, width - 16)
    highest = max(max(shares) for _, _, shares, _ in data)
    bottom = (height + gap) * len(data)
    body = [_grid_across(x, 20, bottom, axis, width)]
    for place, (label, kind, shares, median) in enumerate(data):
        base = (height + gap) * (place + 1)
        path = [f"{x(edges[0]):.1f},{base:.1f}"]
        for start, end, share in zip(edges, edges[1:], shares, strict=False):
            top = base - height * share / highest
            path += [f"{x(start):.1f},{top:.1f}", f"{x(end):.1f},{top:.1f}"]
        path.append(f"{x(edges[-1]):.1f},{base:.1f}")
        body.append(f'<g class="{escape(kind)}"><polygon class="area" points="{" ".join(path)}"/>')
        body.append(_segment("median", x(median), base - height, x(median), base) + "</g>")
        words = minus(f"median {median:.2f}")
        body.append(text(fit(label, width - text_width(words) - 16), 2, base - height - 8))
        body.append(text(words, width - 2, base - height - 8, "end", "number"))
    return svg(width, bottom + 36, title, body)
