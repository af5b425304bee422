"""The losses of the LE: pure functions of tensors, one equation each.

In: the LE's scores and rewards at N steps. Out: one value per step, (N,), so that parts of a batch can be summed, also
over processes. The caption of the paper's figure 2 says that L_sm is about the similarity of state and actions, and
L_rm about which of two actions a user prefers. A reader's note mentions positive and negative actions in L_sm. The
formulas are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def state_loss(scores: Tensor, logged: Tensor, excluded: Tensor, log_inclusion: Tensor | None = None) -> Tensor:
    """L_sm = -log softmax(score(s_t, .))[x_{t+1}], InfoNCE with the M candidates as negatives.

    scores: (N, M). logged: (N,) int64, the column of the next item. excluded: (N, M) bool, the items of the history,
    which are no candidates at this step; the logged item always is one. log_inclusion: (M,), the log probability that
    an item is among M drawn candidates; subtracting it corrects for popular items being drawn more often.
    """
    if log_inclusion is not None:
        scores = scores - log_inclusion
    excluded = excluded.scatter(1, logged[:, None], False)
    return F.cross_entropy(scores.masked_fill(excluded, -torch.inf), logged, reduction="none")


def reward_loss(logged: Tensor, sampled: Tensor) -> Tensor:
    """L_rm = -log sigmoid(R(s_t, x_{t+1}) - R(s_t, a_k)), Bradley-Terry, mean over the sampled actions.

    logged: (N,). sampled: (N, A).
    """
    return -F.logsigmoid(logged[:, None] - sampled).mean(dim=1)


def reward_centre(logged: Tensor, sampled: Tensor) -> Tensor:
    """(R(s_t, x_{t+1}) + R(s_t, a_k))^2, mean over the sampled actions. Shapes as in `reward_loss`.

    A pairwise loss does not determine the mean reward; this term makes it zero (Eisenstein et al., arXiv 2312.09244).
    """
    return ((logged[:, None] + sampled) ** 2).mean(dim=1)
