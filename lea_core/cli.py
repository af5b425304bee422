"""`lea`, the command line for people; the stages stay plain `python -m stages.<name>`.

In: params.yaml, data/. Out: tables on the screen; a mistake is one line and exit status 1.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lea_core.artifacts import read_json
from lea_core.errors import LeaError, run
from lea_core.params import load
from lea_core.progress import amount, duration

if TYPE_CHECKING:
    from lea_core.inspect_le import Action

REPORT = Path("data/report")
INTERACTIONS, LLM, TOKENS, LE = (
    Path(f"data/{name}") for name in ("interactions", "llm", "item_tokens/items.parquet", "le")
)
HISTORY = 10  # events of a history that are shown
app = typer.Typer(
    help="Recommenders trained with reinforcement learning on a language model's judgement.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def report() -> None:
    """Print the report's table: every variant against its supervised twin, and the LE by itself."""
    from lea_core.report import event_types, le_table

    path = REPORT / "table.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise LeaError(f"{path}: not found: run `dvc repro` to make it") from None
    headline = rows[0]["metric"]
    cutoff = headline[headline.index("@") :]
    others = [name for name in rows[0] if name.endswith(cutoff) and ", " not in name and name != headline]
    cells = [
        [row["variant"], row["le"], *_scores(row, row["value"], others), _seconds(row["train_seconds"])] for row in rows
    ]
    _print("Test split", ["variant", "LE", headline, "change", *others, "train"], cells, left=2)
    for event in event_types(rows[0]):
        of_type = [event_types(row)[event] for row in rows]
        cells = [
            [row["variant"], row["le"], *_scores(own, own[headline], others)]
            for row, own in zip(rows, of_type, strict=True)
        ]
        title = f"Test split, {event or 'no event type'}: {of_type[0]['events']} events"
        _print(title, ["variant", "LE", headline, "change", *others], cells, left=2)
    _print(*le_table(read_json(Path("data/le_quality/summary.json"))), left=1)
    Console().print(f"Change: {headline} against the supervised twin. More: {REPORT}/report.md and chart.png")


@app.command()
def check() -> None:
    """Validate params.yaml and say what each variant uses."""
    params = load()
    cells = [
        [name, variant.backbone, variant.method, variant.state, variant.reward, variant.actions]
        for name, variant in params.variants.items()
    ]
    title = f"{params.dataset.name}, seeds {', '.join(map(str, params.train.seeds))}"
    _print(title, ["variant", "backbone", "method", "state", "reward", "actions"], cells, left=6)


@app.command()
def forecast() -> None:
    """Say what annotate and augment will cost, from a short trial: tokens, seconds, bytes."""
    import psutil

    from lea_core.forecast import forecast as price

    params = load()
    found = price(Path(), params, psutil.Process().create_time())
    cells = [
        [price.name, f"{price.tokens:,}", f"{price.left:,}", duration(price.seconds), amount(price.bytes)]
        for price in found.prices
    ]
    _print("The LLM's passes", ["pass", "tokens", "to read", "time", "to write"], cells, left=1)
    workers = f"{found.workers} worker{'s' if found.workers > 1 else ''} of this machine"
    _say(f"{found.tokens_per_second:,.0f} tokens/s tried with {workers}; the cache folder takes as many bytes again.")


@app.command()
def inspect(
    user: Annotated[str, typer.Option(help="The user's id in the data.")],
    position: Annotated[
        int | None,
        typer.Option(help="Which event to predict, from 0; default: the test event, else validation, else the last."),
    ] = None,
    actions: Annotated[int, typer.Option(min=1, help="How many of the LE's actions to show.")] = 10,
) -> None:
    """Show what the LE makes of one history: its best actions, their rewards, and the item that came next."""
    import numpy as np

    from lea_core import environment, inspect_le, llm, tables
    from lea_core.le_users import choose_users
    from lea_core.leaks import training_events
    from lea_core.sequences import SPLITS, read_sequences

    params = load()
    p = params.finetune_le
    sequences = read_sequences(INTERACTIONS)
    ids = tables.read_table(INTERACTIONS / "users.parquet", tables.USERS)["user_id"].to_pylist()
    texts = tables.read_table(INTERACTIONS / "items.parquet", tables.ITEMS)["text"].to_pylist()
    index = inspect_le.find_user(ids, user)
    place = inspect_le.choose_position(sequences, index, position)
    subset, _ = choose_users(training_events(sequences), p.users_share, np.random.default_rng(p.seed))
    le = environment.load(LE, llm.load(LLM, params.llm.layers), environment.read_item_tokens(TOKENS))
    found = inspect_le.inspect(le, sequences, index, place, actions)

    first = sequences.offsets[index]
    splits = [SPLITS[code] for code in sequences.split[first : first + place + 1]]
    shown = range(max(place - HISTORY, 0), place)
    more = f", the {len(shown)} newest of {place}" if place > len(shown) else ""
    history: list[list[str | Text]] = [
        [str(event), splits[event], _text(texts[found.history[event]])] for event in shown
    ]
    _print(f"History of user {user}{more}", ["position", "split", "item"], history, left=3)
    _print(
        f"The LE's best actions at position {place} and, below the line, what came next ({splits[place]})",
        ["rank", "item", "probability", "reward", "taken"],
        [_action(action, texts) for action in found.top],
        left=2,
        last=_action(found.logged, texts),
    )
    _say(
        f"Ranks and probabilities are among all {sequences.num_items} items, a history's own among them; chance is "
        f"{_share(1 / sequences.num_items)}. Only differences of rewards mean something. "
        "Taken in n: n events on."
    )
    if place + 1 == sequences.offsets[index + 1] - first:
        _say("It is the user's last event: nothing later is known to be taken.")
    if found.read < place:
        _say(f"The LLM reads the {found.read} newest events.")
    if index not in subset:
        _say(f"The LE did not learn from user {user}: what it does here, it does for a new user.")
    else:
        event = "from this very event too" if splits[place] == "train" else "though not from this event"
        _say(f"The LE learned from user {user}, {event}: see how it does on users that it did not learn from.")


@app.command()
def use(file: Annotated[Path, typer.Argument(help="An overlay, such as settings/faithful.yaml.")]) -> None:
    """Set the keys of params.yaml that a file of settings names; comments stay, and a mistake changes nothing."""
    from lea_core.params.overlay import use as merge

    changes = merge(file)
    for change in changes:
        _say(change)
    kept = "`git checkout params.yaml` brings the committed ones back, `dvc repro` runs what depends on it."
    _say(f"{len(changes)} of params.yaml's keys changed: {kept}" if changes else "params.yaml has all of this already.")


@app.command()
def tune(
    variants: Annotated[list[str] | None, typer.Argument(help="Which to tune; default: all of params.yaml.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for tuning.csv and tuned.yaml.")] = Path("tuning"),
) -> None:
    """Try settings of the variants on validation, the same number for each, as params.yaml's section tune says."""
    from lea_core import tune as tuning

    params = load()
    studies = tuning.tune(params, Path("data"), variants or list(params.variants), params.dataset.name)
    tuning.publish(params, studies, params.dataset.name, out)
    cells = [
        [
            name,
            f"{trials[0].score:.4f}",
            f"{tuning.best(trials).score:.4f}",
            duration(sum(trial.seconds for trial in trials)),
            tuning.words(tuning.best(trials).values),
        ]
        for name, trials in studies.items()
    ]
    title = f"Validation {tuning.SCORE}, {params.tune.trials} trials each"
    _print(title, ["variant", "now", "best", "time", "best settings"], cells, left=1)
    _say(f"To take the best settings: lea use {out / 'tuned.yaml'}")


def _action(action: Action, texts: Sequence[str]) -> list[str | Text]:
    taken = {None: "-", 1: "next"}.get(action.later, f"in {action.later}")
    return [
        f"{action.rank:g}",
        _text(texts[action.item]),
        _share(action.probability),
        f"{action.reward:.2f}",
        taken,
    ]


def _text(text: str) -> Text:
    """A text of the data: no markup, one line, cut to the screen."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return Text(" ".join(printable.split()), no_wrap=True, overflow="ellipsis")


def _share(value: float) -> str:
    return f"{100 * value:.3f} %" if value >= 5e-6 else "< 0.001 %"


def _say(message: str) -> None:
    Console().print(message, markup=False, highlight=False)


def _scores(row: Mapping[str, str], headline: str, others: Iterable[str]) -> list[str]:
    found = [_score(headline, row["sd"]), _percent(row["change_percent"])]
    return found + [f"{float(row[name]):.4f}" for name in others]


def _score(mean: str, sd: str) -> str:
    return f"{float(mean):.4f} ± {float(sd):.4f}" if sd else f"{float(mean):.4f}"


def _seconds(value: str) -> str:
    return f"{float(value):.0f} s" if value else "-"


def _percent(value: str) -> str:
    return f"{float(value):+.1f} %" if value else "-"


def _print(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    left: int,
    last: Sequence[str | Text] | None = None,
) -> None:
    """Print a table whose first `left` columns are text and whose others are numbers; `last` comes below a line."""
    table = Table()
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place < left else "right", no_wrap=place >= left)
    for row in rows:
        table.add_row(*row)
    if last:
        table.add_section()
        table.add_row(*last)
    console = Console()
    console.print(title, style="bold", markup=False)
    console.print(table)


def main() -> None:
    """Entry point of `lea`."""
    run(lambda argv: app(argv))


if __name__ == "__main__":
    main()
