"""On which test events of the benchmark a system is good: NDCG@10 by bands of users and items.

In: the folder of a data set, once its items have tokens; kept results (store.py). Out: the bands of its test
events, events.parquet beside the results (EVENTS: a row for each event, in the order of theirs, with the place of its
band in every slice) and events.json (what the bands are called, of which parameters); and the table of benchmark.md.

The best variant with signals of the LE stands there beside its supervised baseline, the best baseline without the LLM,
text neighbours and the LE. Intervals are over users and seeds and not corrected: with so many bands one or two exclude
zero by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.paper.inputs import data_of
from benchmarks.paper.store import KEPT, Kept
from benchmarks.support.written import table
from lea_core.common.artifacts import read_json, write_json
from lea_core.common.errors import LeaError
from lea_core.common.tables import Schema, read_table, to_numpy, write_table
from lea_core.evaluation.comparisons import read_log, scores_by_user
from lea_core.evaluation.significance import over_users_and_seeds
from lea_core.evaluation.slices import FEW, TITLES, Slices, slices
from lea_core.metrics.ranking import by_name
from lea_core.params import Params

METRIC = "NDCG@10"
EVENTS: Schema = {"user": pa.int32(), **dict.fromkeys(TITLES, pa.int8())}


@dataclass(frozen=True)
class Events:
    """The test events of a data set: whose they are, (N,), and their bands."""

    users: np.ndarray
    bands: Slices


def parameters_of(params: Params) -> dict[str, Any]:
    """All that the bands depend on."""
    return {**data_of(params), "finetune_le": params.finetune_le.model_dump(include={"users_share", "seed"})}


def keep_events(params: Params, folder: Path, store: Path) -> None:
    """Write the bands of the test events in `folder`, where it is so far."""
    data = folder / "data"
    if not (data / "item_tokens" / "items.parquet").exists():
        return
    log = read_log(data, params.finetune_le.users_share, params.finetune_le.seed)
    users, positions = log.sequences.targets("test")
    bands = slices(log.sequences, users, positions, log.counts, log.le_users)
    places = {name: pa.array(place, pa.int8()) for name, (_, place) in bands.items()}
    write_table(store / "events.parquet", pa.table({"user": pa.array(users, pa.int32()), **places}), EVENTS)
    names = {name: words for name, (words, _) in bands.items()}
    write_json(store / "events.json", {"parameters": parameters_of(params), "bands": names})


def read_events(params: Params, store: Path) -> Events | None:
    """The kept bands with the present parameters; None where there are none."""
    path = store / "events.json"
    note = read_json(path) if path.exists() else {}
    if not note or note["parameters"] != parameters_of(params):
        return None
    kept = read_table(path.with_suffix(".parquet"), EVENTS)
    bands = {name: (words, to_numpy(kept, name).astype(np.int64)) for name, words in note["bands"].items()}
    return Events(to_numpy(kept, "user"), bands)


def event_scores(kept: Kept, events: Events) -> np.ndarray:
    """NDCG@10 of every test event, (S, N). Raises `LeaError` where a result is of other events."""
    ranks = read_table(kept.result.ranks, KEPT)
    if not np.array_equal(to_numpy(ranks, "user"), events.users):
        raise LeaError(f"{kept.result.ranks}: is of other events than events.parquet: delete both and run them again")
    return by_name(METRIC, to_numpy(ranks, "ranks").T)


def band_rows(systems: Mapping[str, Kept], events: Events) -> list[dict[str, Any]]:
    """Of every band with FEW events or more: the systems' NDCG@10, and how the first differs from each other one.

    Slices of which one such band is left have no row.
    """
    scores = {name: event_scores(kept, events) for name, kept in systems.items()}
    first, *others = systems
    rows = []
    for name, (words, places) in events.bands.items():
        enough = [place for place in range(len(words)) if np.count_nonzero(places == place) >= FEW]
        for place in enough if len(enough) > 1 else []:
            own = places == place
            users = {
                system: scores_by_user(kept.result, scores[system][:, own], events.users[own])
                for system, kept in systems.items()
            }
            means = {system: float(scores[system][:, own].mean()) for system in systems}
            row = {"slice": name, "band": words[place], "events": int(own.sum()), "scores": means}
            row["differences"] = {
                other: (
                    means[first] - means[other],
                    *over_users_and_seeds(users[first].scores, users[other].scores, users[first].events)[:2],
                )
                for other in others
            }
            rows.append(row)
    return rows


def by_events(systems: Mapping[str, Kept], events: Events, beside: list[str]) -> list[str]:
    """The table of benchmark.md; the first system's difference is shown from those `beside`."""
    first = next(iter(systems))
    rows = []
    for row in band_rows(systems, events):
        found = (row["differences"][name] for name in beside)
        differences = [f"{mean:+.4f} ({low:+.4f} to {high:+.4f})" for mean, low, high in found]
        scores = [f"{score:.4f}" for score in row["scores"].values()]
        rows.append([f"{TITLES[row['slice']]}: {row['band']}", f"{row['events']:,}", *scores, *differences])
    if not rows:
        return []
    return [
        "### For which events",
        "",
        f"{METRIC} by bands of the test events of which there are {FEW} or more, mean over the events of each; {first} "
        "minus others, with 95 % intervals over users and seeds, not corrected.",
        "",
        *table(" | >".join(["test events", "number", *systems, *(f"over {name}" for name in beside)]), rows),
        "",
    ]
