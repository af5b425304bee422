"""The behaviour policy: the probability of a user's next item, estimated from training events.

In: the sequences. Out: a `Behaviour`, beta(a | history) of any event. It is a mixture of two counts (linear
interpolation, Jelinek & Mercer, 1980), with the weight that maximises the likelihood of the validation events:

    popularity   p(a)      = (n_a + smoothing) / (n + smoothing I)          n_a: training events of a, n: all of them
    transitions  t(a | x)  = n_xa / n_x                                     n_xa: a follows x, n_x = sum_a n_xa
    mixture      m(a | x)  = lambda t(a | x) + (1 - lambda) p(a)            x: the last item; p alone where n_x = 0
    beta(a | h)            = m(a | x) / (1 - sum of m(b | x) over b in h)   without repeats; with them, m itself

It is a model of what users interacted with. The data have no log of recommendations: which items were shown without an
interaction is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, batches
from lea_core.metrics.ranking import seen_items

MIXTURES = np.arange(100) / 100.0  # lambda; not 1, where what never followed an item would have probability 0
PAIRS_AT_ONCE = 2**21  # of an event and an item of its history


@dataclass(frozen=True)
class Parts:
    """The terms of beta for N events, (N,) each; `p` of popularity, `t` of transitions."""

    p: np.ndarray  # of the event's item
    t: np.ndarray
    p_seen: np.ndarray  # of the distinct items of the history together; zeros where items may be repeated
    t_seen: np.ndarray
    candidates: np.ndarray  # items that can come next
    known: np.ndarray  # bool: in training something follows the last item

    def mixed(self, mixture: float) -> np.ndarray:
        """The probabilities beta for this lambda: (N,)."""
        share = mixture * self.known
        own = share * self.t + (1.0 - share) * self.p
        beta: np.ndarray = own / (1.0 - share * self.t_seen - (1.0 - share) * self.p_seen)
        return beta


@dataclass(frozen=True)
class Behaviour:
    """Counts of the training events as probabilities, and their mixture."""

    popularity: np.ndarray  # (I,)
    pairs: np.ndarray  # (M,) int64, sorted: item * I + the item after it, of every transition that there is
    shares: np.ndarray  # (M,) of this among the transitions of its first item
    known: np.ndarray  # (I,) bool: items that have a transition
    repeats: bool
    mixture: float = 0.0

    def of(self, sequences: Sequences, users: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Probabilities (N,) of the events at (users, positions), (N,) both, given the history before each, not empty.

        Without repeats it is meaningless for an item that the history holds.
        """
        return self.parts(sequences, users, positions).mixed(self.mixture)

    def parts(self, sequences: Sequences, users: np.ndarray, positions: np.ndarray) -> Parts:
        """The terms that `of` mixes. At most PAIRS_AT_ONCE items of histories are in memory, or those of one event."""
        rows = sequences.offsets[users] + positions
        item, last = sequences.items[rows], sequences.items[rows - 1]
        p_seen, t_seen, seen = np.zeros((3, len(rows)))
        if not self.repeats:
            for part in batches(len(rows), PAIRS_AT_ONCE // int(positions.max(initial=1))):
                owner, items = seen_items(sequences, users[part], positions[part])  # each once
                size = part.stop - part.start
                p_seen[part] = np.bincount(owner, self.popularity[items], size)
                t_seen[part] = np.bincount(owner, self._transitions(last[part][owner], items), size)
                seen[part] = np.bincount(owner, minlength=size)
        candidates = len(self.popularity) - seen
        return Parts(self.popularity[item], self._transitions(last, item), p_seen, t_seen, candidates, self.known[last])

    def _transitions(self, last: np.ndarray, items: np.ndarray) -> np.ndarray:
        """t(item | last), (N,) of (N,) each."""
        wanted = last * len(self.popularity) + items
        place = np.searchsorted(self.pairs, wanted).clip(max=max(len(self.pairs) - 1, 0))
        return (
            np.where(self.pairs[place] == wanted, self.shares[place], 0.0) if len(self.pairs) else np.zeros(len(items))
        )


def count(train: Sequences, smoothing: float, repeats: bool) -> Behaviour:
    """Popularity and transitions of the training sequences; lambda is 0, popularity alone."""
    size = train.num_items
    counts = np.bincount(train.items, minlength=size) + smoothing
    _, positions = train.users_and_positions()
    later = np.flatnonzero(positions > 0)
    pairs, number = np.unique(train.items[later - 1] * size + train.items[later], return_counts=True)
    followed = np.bincount(pairs // size, number, size)  # (I,)
    return Behaviour(counts / counts.sum(), pairs, number / followed[pairs // size], followed > 0, repeats)


def fit(sequences: Sequences, smoothing: float, repeats: bool) -> Behaviour:
    """Count the training events, and choose lambda by the likelihood of the validation events.

    Raises `LeaError` where no validation event has a beta (see `events`).
    """
    behaviour = count(sequences.train(), smoothing, repeats)
    users, positions = events(sequences, "valid", repeats)
    if not len(users):
        raise LeaError(
            "data/interactions: no validation event to choose the behaviour policy by: mend preprocess.split"
        )
    parts = behaviour.parts(sequences, users, positions)
    likelihoods = [np.log(parts.mixed(mixture)).mean() for mixture in MIXTURES]
    return replace(behaviour, mixture=float(MIXTURES[int(np.argmax(likelihoods))]))


def events(sequences: Sequences, split: str, repeats: bool) -> tuple[np.ndarray, np.ndarray]:
    """Users and positions of the events of a split that have a beta.

    Another event precedes them and, without repeats, none of the same item.
    """
    users, positions = sequences.targets(split)
    if repeats or not len(users):
        return users, positions
    keep = np.ones(len(users), dtype=bool)
    for part in batches(len(users), PAIRS_AT_ONCE // int(positions.max())):
        owner, items = seen_items(sequences, users[part], positions[part])
        again = items == sequences.items[sequences.offsets[users[part]] + positions[part]][owner]
        keep[part.start + owner[again]] = False
    return users[keep], positions[keep]


def log_likelihoods(behaviour: Behaviour, sequences: Sequences, split: str) -> dict[str, float]:
    """Mean log-probability (nats) of a split's events under the mixture, popularity alone and the uniform policy."""
    parts = behaviour.parts(sequences, *events(sequences, split, behaviour.repeats))
    return {
        "mixture": float(np.log(parts.mixed(behaviour.mixture)).mean()),
        "popularity": float(np.log(parts.mixed(0.0)).mean()),
        "uniform": float(-np.log(parts.candidates).mean()),
    }
