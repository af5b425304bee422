"""Whether trainings ended where they should have: what a reader must know before comparing their scores.

In: validation scores by epoch, of every variant and seed. Out: sentences. Two mistakes make a comparison unfair and
look like a result: a variant that still rose when `train.epochs` ended it, and a seed that early stopping ended on the
plateau where a policy knows popularity and nothing else yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FALLEN = 0.5  # of the best seed's score: seeds that have learned differ by far less

Curves = Mapping[str, Mapping[int, Sequence[float]]]


def cautions(curves: Curves) -> list[str]:
    """What is doubtful, variant by variant; nothing of one without a curve.

    curves: by variant and seed, the scores in the order of the epochs.
    """
    found = []
    for name, seeds in curves.items():
        if not seeds:
            continue
        best = {seed: max(scores) for seed, scores in seeds.items()}
        rising = [seed for seed, scores in seeds.items() if scores.index(best[seed]) == len(scores) - 1]
        if 2 * len(rising) > len(seeds):
            found.append(
                f"{name}: {len(rising)} of {len(seeds)} seeds were best at their last epoch, so it may not have "
                "learned all it can: raise `train.epochs` or `train.learning_rate`."
            )
        top = max(best.values())
        found += [
            f"{name}: seed {seed} ended at {value:.4f} on validation where the best seed has {top:.4f}, so its mean "
            "says little: raise `train.patience`."
            for seed, value in best.items()
            if value < FALLEN * top
        ]
    return found
