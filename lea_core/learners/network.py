"""What a learner trains: the policy that ships, and beside it what stays at home.

In: recommender states (R, D) and the LE's states (R, C) of R events. Out: Q values and predictions of the LE's state.

The critic may see the LE's state (a privileged critic: it works at training time only); the policy never does.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lea_core.params import TrainParams
from lea_core.policy import Policy


class Network(nn.Module):
    """A policy and, where `le_width` is given, a linear map from its states to the LE's."""

    def __init__(self, policy: Policy, aligned_width: int | None) -> None:
        super().__init__()
        self.policy = policy
        self.alignment = nn.Linear(policy.width, aligned_width) if aligned_width else None


class CriticNetwork(Network):
    """A policy with a critic on its states, which may see the LE's states of width C too."""

    def __init__(self, policy: Policy, aligned_width: int | None, le_width: int | None, state_width: int) -> None:
        super().__init__(policy, aligned_width)
        self.projection = nn.Sequential(nn.LayerNorm(le_width), nn.Linear(le_width, state_width)) if le_width else None
        self.critic = nn.Linear(policy.width + (state_width if le_width else 0), policy.config.num_items)

    def critic_states(self, states: Tensor, le_states: Tensor | None) -> Tensor:
        """(R, D) and (R, C) -> [s ; projection(LayerNorm(s^LE))] (R, D + W), or s alone."""
        if self.projection is None or le_states is None:
            return states
        return torch.cat([states, self.projection(le_states)], dim=1)

    def q_values(self, critic_states: Tensor) -> Tensor:
        """Q(s, .) of all items: (R, I)."""
        values: Tensor = self.critic(critic_states)
        return values

    def q_of(self, critic_states: Tensor, actions: Tensor) -> Tensor:
        """Q(s, a_k) of (P, A) actions alone: (P, A)."""
        rows = F.embedding(actions, self.critic.weight)  # (P, A, D + W)
        return torch.bmm(rows, critic_states[:, :, None]).squeeze(2) + self.critic.bias[actions]


def adamw(network: Network, train: TrainParams) -> torch.optim.Optimizer:
    """The optimiser of all methods."""
    return torch.optim.AdamW(network.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay, fused=True)


def descend(loss: Tensor, network: Network, optimiser: torch.optim.Optimizer, clip: float) -> None:
    """One optimiser step down `loss`, the gradient's norm clipped."""
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimiser.step()


def target_of(network: CriticNetwork) -> CriticNetwork:
    """A copy that gives targets: without dropout or gradient."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def polyak(target: CriticNetwork, online: CriticNetwork, rate: float) -> None:
    """Move every weight: target <- target + rate * (online - target)."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, rate)
