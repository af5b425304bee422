"""Shard planning alone, for stages.py to measure: `python -m benchmarks.scale.plan`.

In: data/interactions and params.yaml of the working folder. Out: one line on stdout, what the plan holds. It imports
what planning needs and no more: its memory is planning's.
"""

from __future__ import annotations

from pathlib import Path

from lea_core import params
from lea_core.annotation import shards

HISTORY = 50


def main() -> None:
    """Plan, and say how much there is to do."""
    plan = shards.plan(Path("data") / "interactions", params.load().annotate.shard_events, HISTORY)
    events, tokens = sum(shard.events for shard in plan), sum(shard.tokens for shard in plan)
    print(f"{len(plan):,} shards of {events:,} training events; {tokens:,} tokens of histories")


if __name__ == "__main__":
    main()
