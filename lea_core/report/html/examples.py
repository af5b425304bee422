"""Example users in words: what they took, what came next, and what the twin and the best LEA variant would have shown.

In: ranks.parquet of both, item texts, the LE's rewards and proposals. Out: examples.json, and its section of the page.
The users are chosen by rule: as many where the LE's variant is far ahead, where the twin is, and by lot.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lea_core.common.tables import ACTIONS, ITEMS, REWARDS, USERS, Schema, read_table, to_numpy
from lea_core.data.sequences import Sequences, read_sequences
from lea_core.report.html.html import grid, missing, section, signed
from lea_core.report.html.source import Source, read_test_ranks

HISTORY, TOP, EACH = 8, 5, 2
RULES = (
    "The LE's variant is far ahead",
    "The twin is far ahead",
    "Drawn by lot",
)


def examples(source: Source) -> dict[str, Any]:
    """What examples.json holds: `variants` by role, `seed` and `users`; without users the reason, `why`."""
    chosen = source.verdicts["lea"], source.verdicts["twin"]
    if None in chosen:
        return {"users": [], "why": "no variant uses the LE and has a supervised twin with the same backbone."}
    tables = {}
    for role, name in zip(("lea", "twin"), chosen, strict=True):
        path = source.evaluation(name) / "ranks.parquet"
        table = read_test_ranks(path)
        tables[role] = table.filter(pc.field("seed") == pc.min(table["seed"]))
    if not tables["lea"].num_rows:
        return {"users": [], "why": "there is no test event."}
    looked_up = _Texts(source)
    ranks = {role: to_numpy(table, "rank") for role, table in tables.items()}
    tops = {role: to_numpy(table, "top")[:, :TOP] for role, table in tables.items()}
    users = []
    for rule, event in pick(ranks["lea"], ranks["twin"]):
        row = {key: tables["lea"][key][event].as_py() for key in ("user", "position", "item")}
        lists = {
            role: {
                "rank": float(ranks[role][event]) if np.isfinite(ranks[role][event]) else None,
                "top": [looked_up.recommended(item, row) for item in tops[role][event].tolist() if item >= 0],
            }
            for role in ("lea", "twin")
        }
        users.append({"rule": rule, **looked_up.history(row), **lists})
    return {
        "variants": {"lea": chosen[0], "twin": chosen[1]},
        "seed": int(to_numpy(tables["lea"], "seed")[0]),
        "users": users,
    }


def pick(lea: np.ndarray, twin: np.ndarray) -> list[tuple[str, int]]:
    """Events to show by their ranks (N,) under both: (rule, index), EACH of every rule, none twice.

    Far ahead is the greatest difference of 1 / rank, of equals the first; a rule shows fewer where nobody is ahead.
    """
    ahead = 1 / lea - 1 / twin
    found: list[tuple[str, int]] = []
    for rule, score in zip(RULES, (ahead, -ahead), strict=False):
        found += [(rule, int(event)) for event in np.argsort(-score, kind="stable")[:EACH] if score[event] > 0]
    taken = {event for _, event in found}
    drawn = np.random.default_rng(0).permutation(len(lea)).tolist()
    return found + [(RULES[-1], event) for event in drawn if event not in taken][:EACH]


class _Texts:
    """Items and users in words, and what the LE said of a user's items."""

    def __init__(self, source: Source) -> None:
        data = source.data
        self._texts = read_table(data / "interactions" / "items.parquet", ITEMS)["text"].to_pylist()
        self._ids = read_table(data / "interactions" / "users.parquet", USERS)["user_id"].to_pylist()
        self._sequences: Sequences = read_sequences(data / "interactions")
        self._rewards = _optional(data / "rewards" / "le.parquet", REWARDS) if source.le else None
        self._actions = _optional(data / "actions" / "le.parquet", ACTIONS) if source.le else None

    def history(self, row: Mapping[str, int]) -> dict[str, Any]:
        """The newest items before the event, with the LE's reward where it gave one, and what came next."""
        user, position = row["user"], row["position"]
        items = self._sequences.user_items(user)
        rewards = {}
        if self._rewards is not None:
            own = self._rewards.filter(pc.field("user") == user)
            given = zip(own["position"].to_pylist(), own["reward"].to_pylist(), strict=True)
            rewards = {place + 1: reward for place, reward in given}  # the action is the next event's item
        shown = range(max(position - HISTORY, 0), position)
        return {
            "user": self._ids[user],
            "events": position,
            "history": [{"text": self._texts[items[place]], "reward": _rounded(rewards.get(place))} for place in shown],
            "next": {"text": self._texts[row["item"]], "reward": _rounded(rewards.get(position))},
        }

    def recommended(self, item: int, row: Mapping[str, int]) -> dict[str, Any]:
        """An item of a list: whether it is the one that came next, and the reward of the LE's newest proposal of it."""
        found = {"text": self._texts[item], "hit": item == row["item"], "reward": None}
        if self._actions is not None:
            own = self._actions.filter(pc.field("user") == row["user"])
            places, slots = np.nonzero(to_numpy(own, "actions") == item)
            if len(places):
                found["reward"] = _rounded(float(to_numpy(own, "rewards")[places[-1], slots[-1]]))
                found["events_ago"] = row["position"] - 1 - own["position"][int(places[-1])].as_py()
        return found


def _optional(path: Path, schema: Schema) -> pa.Table | None:
    return read_table(path, schema) if path.exists() else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def examples_section(found: Mapping[str, Any]) -> str:
    """The section of examples.json."""
    title = "Six users in words"
    if not found["users"]:
        return missing("examples", "Users in words", str(found["why"]))
    names = found["variants"]
    cards = []
    for user in found["users"]:
        older = user["events"] - len(user["history"])
        columns = [_list("Newest events, the last one last" + (f" ({older} older)" if older else ""), user["history"])]
        columns += [
            _list(f"{names[role]}: next item {_place(user[role]['rank'])}", user[role]["top"])
            for role in ("twin", "lea")
        ]
        cards.append(
            f'<article class="card"><h3>User {escape(user["user"])} <span>{escape(user["rule"])}</span></h3>'
            f'<p class="next">Came next: <b>{escape(user["next"]["text"])}</b></p>'
            f'<div class="lists">{"".join(columns)}</div></article>'
        )
    lead = (
        f"The first {TOP} items of {names['twin']} and of {names['lea']}, the LE's best variant on validation, at "
        f"a test event; seed {found['seed']}. Chosen by rule, not by hand. A number is the LE's reward "
        "of that item: in the history when it was taken, in the lists when the LE last proposed it."
    )
    return section("examples", title, grid(cards, "cards"), lead)


def _place(rank: float | None) -> str:
    return "not ranked: had before" if rank is None else f"at rank {rank:g}"


def _list(title: str, items: list[dict[str, Any]]) -> str:
    lines = []
    for item in items:
        reward = item.get("reward")
        ago = f", {item['events_ago']} events ago" if item.get("events_ago") else ""
        small = "" if reward is None else f"<small>{signed(reward, 2)}{ago}</small>"
        kind = "hit" if item.get("hit") else ""
        lines.append(f'<li class="{kind}"><span>{escape(item["text"])}</span>{small}</li>')
    return f'<div><h4>{escape(title)}</h4><ol class="items">{"".join(lines)}</ol></div>'
