"""Whether the trainings converged: cautions for a reader who compares their scores.

In: validation scores by epoch, of every variant and seed. Out: sentences. Three problems make a comparison unfair: a
variant still improved when `train.epochs` ended its training; early stopping ended a seed on the plateau where a policy
has learned only popularity; an actor-critic was best in its warm-up, of which no checkpoint is kept, and overfitted
later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FALLEN = 0.5  # share of the best seed's score; seeds that converged differ by far less
LOST = 0.02  # share of the best validation score that the kept checkpoint may lack

Curves = Mapping[str, Mapping[int, Sequence[float]]]


def cautions(curves: Curves, kept: Mapping[str, Sequence[float]]) -> list[str]:
    """A sentence for each problem, variant by variant; none for a variant without a curve.

    curves: by variant and seed, the scores in the order of the epochs.  kept: by variant of a method with a warm-up,
    the scores of the checkpoints that were kept, one per seed.
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
        peak, own = (sum(scores) / len(scores) for scores in (best.values(), kept.get(name, best.values())))
        if own < (1.0 - LOST) * peak:
            found.append(
                f"{name}: on validation it was best within its warm-up ({peak:.4f}), which is no checkpoint, and has "
                f"{own:.4f} after it: lower its method's `warmup_epochs`."
            )
        top = max(best.values())
        found += [
            f"{name}: seed {seed} ended at {value:.4f} on validation where the best seed has {top:.4f}, so its mean "
            "says little: raise `train.patience`."
            for seed, value in best.items()
            if value < FALLEN * top
        ]
    return found
