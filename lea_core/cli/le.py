"""`lea forecast` and `lea inspect`: what the LE's inference runs will cost, and the LE's answers for one history.

In: params.yaml, data/. Out: tables on stdout.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from lea_core.cli.printing import one_line, pipeline, print_table, say
from lea_core.common.progress import amount, duration

if TYPE_CHECKING:
    from lea_core.environment.inspect import Action

INTERACTIONS, LLM, TOKENS, LE = (
    Path(f"data/{name}") for name in ("interactions", "llm", "item_tokens/items.parquet", "le")
)
HISTORY = 10  # events of a history that are shown


@pipeline
def forecast() -> None:
    """Estimate the cost of annotate and augment by a short trial: tokens, seconds, bytes."""
    import psutil

    from lea_core.annotation.cost_estimate import estimate
    from lea_core.params import load

    params = load()
    found = estimate(Path(), params, psutil.Process().create_time())
    cells = [
        [run.name, f"{run.tokens:,}", f"{run.left:,}", duration(run.seconds), amount(run.bytes)] for run in found.runs
    ]
    print_table("The LLM's inference runs", ["stage", "tokens", "to read", "time", "to write"], cells, left=1)
    workers = f"{found.workers} worker{'s' if found.workers > 1 else ''} of this machine"
    say(f"{found.tokens_per_second:,.0f} tokens/s tried with {workers}; the cache folder takes as many bytes again.")


@pipeline
def inspect(
    user: Annotated[str, typer.Option(help="The user's id in the data.")],
    position: Annotated[
        int | None,
        typer.Option(help="Which event to predict, from 0; default: the test event, else validation, else the last."),
    ] = None,
    actions: Annotated[int, typer.Option(min=1, help="How many of the LE's actions to show.")] = 10,
) -> None:
    """Show the LE's predictions for one history: the best actions, their rewards, and the item that came next."""
    import numpy as np

    from lea_core.common import tables
    from lea_core.data.leaks import training_events
    from lea_core.data.sequences import SPLITS, read_sequences
    from lea_core.environment import inspect
    from lea_core.environment import model as environment
    from lea_core.environment.user_split import choose_users
    from lea_core.llm import language_model
    from lea_core.params import load

    params = load()
    p = params.finetune_le
    sequences = read_sequences(INTERACTIONS)
    ids = tables.read_table(INTERACTIONS / "users.parquet", tables.USERS)["user_id"].to_pylist()
    texts = tables.read_table(INTERACTIONS / "items.parquet", tables.ITEMS)["text"].to_pylist()
    index = inspect.find_user(ids, user)
    place = inspect.choose_position(sequences, index, position)
    subset, _ = choose_users(training_events(sequences), p.users_share, np.random.default_rng(p.seed))
    le = environment.load(LE, language_model.load(LLM, params.llm.layers), environment.read_item_tokens(TOKENS))
    found = inspect.inspect(le, sequences, index, place, actions)

    first = sequences.offsets[index]
    splits = [SPLITS[code] for code in sequences.split[first : first + place + 1]]
    shown = range(max(place - HISTORY, 0), place)
    more = f", the {len(shown)} newest of {place}" if place > len(shown) else ""
    history: list[list[str | Text]] = [
        [str(event), splits[event], one_line(texts[found.history[event]])] for event in shown
    ]
    print_table(f"History of user {user}{more}", ["position", "split", "item"], history, left=3)
    print_table(
        f"The LE's best actions at position {place} and, below the line, what came next ({splits[place]})",
        ["rank", "item", "probability", "reward", "later"],
        [_action(action, texts) for action in found.top],
        left=2,
        last=_action(found.logged, texts),
    )
    say(
        f"Ranks and probabilities are among all {sequences.num_items} items, a history's own among them; chance is "
        f"{_share(1 / sequences.num_items)}. Only differences of rewards mean something. "
        "Later in n: the user interacts with it n events later."
    )
    if place + 1 == sequences.offsets[index + 1] - first:
        say("It is the user's last event: no later one is known.")
    if found.read < place:
        say(f"The LLM reads the {found.read} newest events.")
    if index not in subset:
        say(f"The LE did not learn from user {user}: it would do the same for a new user.")
    else:
        event = "from this very event too" if splits[place] == "train" else "though not from this event"
        say(f"The LE learned from user {user}, {event}: look also at users that it did not learn from.")


def _action(action: Action, texts: Sequence[str]) -> list[str | Text]:
    later = {None: "-", 1: "next"}.get(action.later, f"in {action.later}")
    return [
        f"{action.rank:g}",
        one_line(texts[action.item]),
        _share(action.probability),
        f"{action.reward:.2f}",
        later,
    ]


def _share(value: float) -> str:
    return f"{100 * value:.3f} %" if value >= 5e-6 else "< 0.001 %"
