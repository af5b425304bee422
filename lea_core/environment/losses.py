"""The losses of the LE: pure functions of tensors, one equation each.

In: the LE's scores and rewards at N steps. Out: a value per step, (N,), so that parts of a batch add up, also over
processes. By the caption of the paper's figure 2, L_sm is about the similarity of state and actions, L_rm about which
of two actions a user prefers; a reader's note has positive and negative actions in L_sm. The formulas are ours.

They stand apart from the learners' losses so that an edit there runs no LLM stage.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def state_loss(scores: Tensor, logged: Tensor, barred: Tensor, log_inclusion: Tensor | None = None) -> Tensor:
    """L_sm = -log softmax(score(s_t, .))[x_{t+1}], InfoNCE with the M candidates as negatives.

    scores: (N, M). logged: (N,) int64, the column of the next item. barred: (N, M) bool, no candidates at this step
    (the items of the history); the logged one always is a candidate. log_inclusion: (M,), log probability that a
    candidate stands among the M, where they were drawn; subtracting it undoes the draw's preference for popular items.
    """
    if log_inclusion is not None:
        scores = scores - log_inclusion
    barred = barred.scatter(1, logged[:, None], False)
    return F.cross_entropy(scores.masked_fill(barred, -torch.inf), logged, reduction="none")


def reward_loss(logged: Tensor, sampled: Tensor) -> Tensor:
    """L_rm = -log sigmoid(R(s_t, x_{t+1}) - R(s_t, a_k)), Bradley-Terry, mean over the sampled actions.

    logged: (N,). sampled: (N, A).
    """
    return -F.logsigmoid(logged[:, None] - sampled).mean(dim=1)


def reward_centre(logged: Tensor, sampled: Tensor) -> Tensor:
    """(R(s_t, x_{t+1}) + R(s_t, a_k))^2, mean over the sampled actions. Shapes as in `reward_loss`.

    A pairwise loss leaves the zero free, this fixes it (Eisenstein et al., arXiv 2312.09244).
    """
    return ((logged[:, None] + sampled) ** 2).mean(dim=1)
