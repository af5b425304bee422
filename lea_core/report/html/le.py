"""The sections on the LE by itself: its yardsticks, and its rewards of logged, sampled and proposed actions.

In: data/le_quality/, data/le_curve.csv, data/rewards/le.parquet, data/actions/le.parquet. Out: a section each, or the
line that says why it is not there.
"""

from __future__ import annotations

import numpy as np

from lea_core.common.tables import ACTIONS, REWARDS, read_table, to_numpy
from lea_core.report.environment_table import le_note
from lea_core.report.html import charts
from lea_core.report.html.charts import Line, Row, minus
from lea_core.report.html.html import figure, grid, missing, paragraph, section, table
from lea_core.report.html.source import Source, number, read_csv

BINS = 48
OUTSIDE = 0.005  # share of all rewards beyond each end of the histograms' axis
UNUSED = "no variant uses a signal of the LE."
RUN = "measure_le did not run: run `dvc repro`."


def yardsticks(source: Source) -> str:
    """Each role of the LE beside cheap replacements, and its training."""
    if not source.le:
        return missing("le", "The LE by itself", UNUSED)
    figures = [
        part
        for part in (
            _states(source),
            _proposals(source),
            _rewards(source),
            _reliability(source),
            _curve(source, "ndcg10", "state", "NDCG@10", 0.0),
            _curve(source, "reward_accuracy", "reward", "accuracy", 0.5),
        )
        if part
    ]
    title = "The LE by itself"
    if not figures:
        return missing("le", title, RUN)
    users = (source.json("le_quality/summary.json") or {}).get("users")
    lead = "Each of its roles beside what costs less, "
    lead += f"on {users:,} users that it did not learn from." if users else "on users that it did not learn from."
    return section("le", title, grid(figures), lead)


def _bars(name: str, found: list[tuple[str, float]], note: str, decimals: int = 4) -> str:
    """Bars of methods, the LE in its colour, the best first."""
    rows = [
        Row(
            "LE" if method.lower() == "le" else method.replace("_", " "),
            value,
            kind="le" if method.lower() == "le" else "baseline",
            text=f"{value:.{decimals}f}",
        )
        for method, value in sorted(found, key=lambda pair: -pair[1])
    ]
    numbers = table(["", name], [[row.label, row.text] for row in rows])
    return figure(name, charts.responsive(lambda width: charts.rows(rows, width, name)), numbers, note)


def _states(source: Source) -> str:
    entries = read_csv(source.data / "le_quality/state.csv") or []
    found = [
        (str(row["method"]), value)
        for row in entries
        if (value := number(row, "ndcg10")) is not None and not str(row["method"]).endswith("_unmasked")
    ]
    note = le_note(source.json("le_quality/quality.json") or {}, source.protocol["items"])
    return _bars("State: NDCG@10 of the next item (test)", found, note) if found else ""


def _rewards(source: Source) -> str:
    """How well rewards tell taken from other items: a block of bars for each kind of other items."""
    summary = (source.json("le_quality/summary.json") or {}).get("test", {})
    found = [
        Row(
            f"{name.removeprefix('reward AUC against ').rpartition(', ')[0]}: {name.rpartition(', ')[2]}",
            value,
            kind="le" if name.endswith(", LE") else "baseline",
            text=f"{value:.3f}",
        )
        for name, value in sorted(summary.items())
        if name.startswith("reward AUC against ")
    ]
    if not found:
        return ""
    title = "Reward: how often the taken item has more than another (AUC, test)"
    numbers = table(["", "AUC"], [[row.label, row.text] for row in found])
    return figure(
        title,
        charts.responsive(lambda width: charts.rows(found, width, title)),
        numbers,
        "By how the other item was drawn: as popular as the taken one, of similar text, or uniformly. 0.5 is chance; "
        "the content start is the LE before its training.",
    )


def _reliability(source: Source) -> str:
    entries = read_csv(source.data / "le_quality/reliability.csv")
    if not entries:
        return ""
    data = [tuple(number(row, key) or 0.0 for key in ("predicted", "observed", "count")) for row in entries]
    title = "Reward: do its probabilities hold?"
    numbers = table(
        ["predicted", "observed", "pairs"], [[f"{a:.3f}", f"{b:.3f}", f"{c:,.0f}"] for a, b, c in data], left=0
    )
    axes = ("predicted share of pairs", "observed share")
    return figure(
        title,
        charts.responsive(lambda width: charts.points(data, width, title, axes), 440),  # type: ignore[arg-type]
        numbers,
        "Points on the dashed line keep what they promise; larger ones hold more pairs.",
    )


def _proposals(source: Source) -> str:
    entries = read_csv(source.data / "le_quality/actions.csv") or []
    found = [(str(row["source"]), value) for row in entries if (value := number(row, "share5")) is not None]
    note = "Share of the first five proposals that the user takes later on."
    own = (source.json("le_quality/quality.json") or {}).get("actions", {}).get("le", {})
    if "history1" in own:
        note += f" Of the LE's first ones the user has had {100 * own['history1']:.1f} %; of the steps "
        note += f"{100 * own['steps_that_repeat']:.1f} % repeat an item."
    return _bars("Actions: proposals that come true", found, note, 3) if found else ""


def _curve(source: Source, column: str, role: str, axis: str, floor: float) -> str:
    """Validation of a role by epoch of the LE's training; `floor` is on the axis."""
    entries = read_csv(source.data / "le_curve.csv")
    entries = [row for row in entries or [] if number(row, column) is not None]
    if not entries:
        return ""
    phases = list(dict.fromkeys(str(row["phase"]) for row in entries))
    data = [(number(row, "epoch") or 0.0, number(row, column) or 0.0) for row in entries]
    title = f"Its training: {role}, validation {axis} by epoch"
    numbers = table(
        ["phase", "epoch", axis],
        [
            [str(row["phase"]), f"{number(row, 'epoch') or 0:.0f}", f"{number(row, column) or 0.0:.4f}"]
            for row in entries
        ],
    )
    note = f"Phases: {', then '.join(phases)}. Epoch 0 is the start from the item texts alone."
    drawn = charts.responsive(
        lambda width: charts.lines([Line(data, "LE", "le")], (width, 250), title, ("epoch", axis), [floor])
    )
    return figure(title, drawn, numbers, note)


def rewards(source: Source) -> str:
    """How the LE's rewards are spread, of what was taken, of items drawn at random and of its own proposals."""
    title = "The LE's rewards"
    if not source.le:
        return missing("rewards", title, UNUSED)
    path = source.data / "rewards" / "le.parquet"
    if not path.exists():
        return missing("rewards", title, "no data/rewards/le.parquet: no variant uses the LE's rewards.")
    read = read_table(path, REWARDS, columns=("reward", "sampled_rewards"))
    logged, sampled = to_numpy(read, "reward"), to_numpy(read, "sampled_rewards")
    if not len(logged):
        return missing("rewards", title, "data/rewards/le.parquet has no row.")
    groups = [("Logged: what the user took next", "plain", logged)]
    groups.append(("Sampled: any other item", "baseline", sampled.ravel()))
    path = source.data / "actions" / "le.parquet"
    if path.exists():
        proposed = to_numpy(read_table(path, ACTIONS, columns=("rewards",)), "rewards").ravel()
        groups.append(("Proposed: the LE's own actions", "le", proposed))
    groups = [(name, kind, found[np.isfinite(found)]) for name, kind, found in groups]
    low, high = np.quantile(np.concatenate([found for *_, found in groups]), [OUTSIDE, 1 - OUTSIDE])
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    data = []
    for name, kind, found in groups:
        shares = np.histogram(found, edges)[0] / max(len(found), 1)
        data.append((name, kind, shares.tolist(), float(np.median(found))))
    wins = float((logged[:, None] > sampled).mean())
    numbers = table(
        ["", "count", "5 %", "25 %", "median", "75 %", "95 %"],
        [
            [name.partition(":")[0], f"{len(found):,}"]
            + [minus(f"{v:.2f}") for v in np.quantile(found, [0.05, 0.25, 0.5, 0.75, 0.95])]
            for name, _, found in groups
        ],
        hidden=[1, 2, 6],
    )
    name = "Distribution of the rewards of training positions"
    drawn = charts.responsive(lambda width: charts.ridges(data, edges.tolist(), width, name, "reward"))
    note = f"{100 * OUTSIDE:g} % of all rewards lie beyond each end of the axis. Only differences mean something."
    words = paragraph(
        f"The logged action has more reward than an item sampled at the same position in {100 * wins:.1f} % of the "
        "pairs; half would be chance. These positions are the training data, the LE's own learning users among them."
    )
    whole = figure(name, drawn, note=note)
    return section("rewards", title, words + grid([whole, figure("The same in numbers", numbers)]))
