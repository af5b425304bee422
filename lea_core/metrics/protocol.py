"""How an evaluation was measured, and the sentence that states it next to every table of its numbers.

In: metrics.json of an evaluation. Out: a `Protocol`; `Misses`, the events that are misses whatever the scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lea_core.common.errors import warn


@dataclass(frozen=True)
class Misses:
    """How many events of a split are misses whatever the scores, because items of the history are excluded.

    repeated: the item is in the history.  no_candidate: of those, the events of users who had every item before.
    few: for each cutoff, the other events with no more candidates than the cutoff; otherwise any scores would give a
    hit.
    """

    repeated: int
    no_candidate: int
    few: Mapping[str, int]

    def in_words(self, events: int) -> str:
        """Of `events` in all, how many and why; empty where there are none."""
        said = []
        if self.repeated:
            whole = f" ({self.no_candidate:,} by users who had every item)" if self.no_candidate else ""
            said.append(f"{self.repeated:,} are of an item that the user had before{whole}")
        said += [
            f"{count:,} have no more than {cutoff} items left to rank (misses at {cutoff})"
            for cutoff, count in self.few.items()
            if count
        ]
        if not said:
            return ""
        reason = "as items of the history are left out"
        return f"Counted as misses, {reason}: of the {events:,} events {' and '.join(said)}."


NO_MISSES = Misses(0, 0, {})


@dataclass(frozen=True)
class Protocol:
    """What a mean is over, that is test events and their users; and which items were ranked.

    items: size of the catalogue; None where that was not kept.  mask_seen: whether the items of each event's history
    were left out.
    """

    events: int
    users: int
    items: int | None
    mask_seen: bool
    misses: Misses = NO_MISSES

    @property
    def short(self) -> str:
        """The unit, the candidates and the rule for ties, for the title of a table."""
        seen = "those of the user's history left out" if self.mask_seen else "those of the user's history too"
        items = "all items" if self.items is None else f"all {self.items:,} items"
        return (
            f"mean over {self.events:,} test events of {self.users:,} users, {items} ranked, {seen}, equal scores at "
            "their mean rank"
        )

    @property
    def sentence(self) -> str:
        """`short` as a sentence."""
        return f"{self.short[0].upper()}{self.short[1:]}."

    @property
    def in_words(self) -> str:
        """The sentence, and what is counted as a miss."""
        return f"{self.sentence} {self.misses.in_words(self.events)}".rstrip()


def read_protocol(part: Mapping[str, Any], items: int, mask_seen: bool) -> Protocol:
    """Of the test events in a part of metrics.json, the whole or one type of events. Raises `KeyError`, `TypeError`."""
    misses = Misses(**part["misses"]["test"])
    return Protocol(part["events"]["test"], part["users"]["test"], items, mask_seen, misses)


def warn_of(name: str, metrics: Mapping[str, Any]) -> None:
    """Warn of test events that are misses whatever the scores. metrics: metrics.json of `name`."""
    if said := Misses(**metrics["misses"]["test"]).in_words(metrics["events"]["test"]):
        warn(f"{name}: {said}")


def mixed(repeats: bool, mask_seen: bool) -> str:
    """A caution if users may repeat items but seen ones are masked, or the other way round; else an empty text."""
    if repeats and mask_seen:
        return (
            "Users may take an item again (preprocess.repeats is true), but items of the history are left out of the "
            "ranking (evaluate.mask_seen is true): an event whose item its user had before is a miss whatever the "
            "scores. That is meant where only new items are to be recommended."
        )
    if not repeats and not mask_seen:
        return (
            "Users do not take an item again (preprocess.repeats is false), but items of the history stay in the "
            "ranking (evaluate.mask_seen is false): a policy loses by ranking high what can never be right. That is "
            "meant where a published protocol is followed that ranks all items."
        )
    return ""
