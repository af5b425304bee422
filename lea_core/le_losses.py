"""The losses of the LE: pure functions of tensors, one equation each.

In: the LE's scores and rewards at N steps. Out: means, (). Figure 2 of the paper says that L_sm compares the state's
similarity with the next item against other items and that L_rm compares rewards in pairs; the formulas are ours.

They stand apart from the learners' losses so that an edit there runs no LLM stage.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def state_loss(scores: Tensor, logged: Tensor) -> Tensor:
    """L_sm = -log softmax(score(s_t, .))[x_{t+1}], InfoNCE with all other items as negatives.

    scores: (N, I). logged: (N,) int64, the next items.
    """
    return F.cross_entropy(scores, logged)


def reward_loss(logged: Tensor, sampled: Tensor) -> Tensor:
    """L_rm = -log sigmoid(R(s_t, x_{t+1}) - R(s_t, a_k)), Bradley-Terry, over all steps and sampled actions.

    logged: (N, 1). sampled: (N, A).
    """
    return -F.logsigmoid(logged - sampled).mean()


def reward_centre(logged: Tensor, sampled: Tensor) -> Tensor:
    """(mean R)^2: a pairwise loss leaves the zero of the reward free, this fixes it. Shapes as in `reward_loss`."""
    return torch.cat([logged, sampled], dim=1).mean() ** 2
