"""Training-time modules: the policy, the critic (which may see the LE's state) and the alignment head.

In: recommender states (R, D) and the LE's states (R, C) of R events. Out: Q values and predictions of the LE's state;
and, for the methods with a critic, which network is updated at a step and which gives its targets. Only the policy is
exported.

The critic may see the LE's state (a privileged critic: it works at training time only); the policy never does.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lea_core.learners.batches import Batch
from lea_core.learners.sparse import RowAdamW, RowPolyak, clip_gradients
from lea_core.models.policy_network import PolicyNetwork, table_rows
from lea_core.params import QParams, TrainParams

ITEM_TABLES = (
    "policy.backbone.item_embedding.weight",
    "policy.actor.weight",
    "policy.actor.bias",
    "critic.weight",
    "critic.bias",
)


class Network(nn.Module):
    """A policy and, where `aligned_width` is given, a linear map from its states to the LE's."""

    def __init__(self, policy: PolicyNetwork, aligned_width: int | None) -> None:
        super().__init__()
        self.policy = policy
        self.alignment = nn.Linear(policy.width, aligned_width) if aligned_width else None


class CriticNetwork(Network):
    """A policy with a critic on its states, which may see the LE's states of width C too."""

    def __init__(
        self, policy: PolicyNetwork, aligned_width: int | None, le_width: int | None, state_width: int
    ) -> None:
        super().__init__(policy, aligned_width)
        self.projection = nn.Sequential(nn.LayerNorm(le_width), nn.Linear(le_width, state_width)) if le_width else None
        self.critic = nn.Linear(policy.width + (state_width if le_width else 0), policy.config.num_items)

    def critic_states(self, states: Tensor, le_states: Tensor | None) -> Tensor:
        """(R, D) and (R, C) -> [s ; projection(LayerNorm(s^LE))] (R, D + W), or s alone."""
        if self.projection is None or le_states is None:
            return states
        return torch.cat([states, self.projection(le_states)], dim=1)

    def greedy(self, critic_states: Tensor, candidates: Tensor | None) -> Tensor:
        """The action of the highest Q(s, .): (R, 1). candidates: (K,) items to look at; None: all.

        The best of a sample is no better than the best of all, so targets are then lower.
        """
        if candidates is None:
            return F.linear(critic_states, self.critic.weight, self.critic.bias).argmax(dim=1, keepdim=True)
        values = F.linear(critic_states, self.critic.weight[candidates], self.critic.bias[candidates])  # (R, K)
        return candidates[values.argmax(dim=1, keepdim=True)]

    def q_of(self, critic_states: Tensor, actions: Tensor) -> Tensor:
        """Q(s, a_k) of (P, A) actions alone: (P, A)."""
        weight, bias = table_rows(self.critic, actions, self.policy.sparse)  # (P, A, D + W), (P, A)
        return torch.bmm(weight, critic_states[:, :, None]).squeeze(2) + bias


def adamw(network: Network, train: TrainParams, learning_rate: float | None = None) -> torch.optim.Optimizer:
    """The optimiser of all methods."""
    rate = train.learning_rate if learning_rate is None else learning_rate
    kind = RowAdamW if train.sparse else torch.optim.AdamW
    return kind(network.parameters(), lr=rate, weight_decay=train.weight_decay, fused=True)


def descend(
    loss: Tensor, network: Network, optimiser: torch.optim.Optimizer, clip: float, target: RowPolyak | None = None
) -> None:
    """One optimiser step down `loss`, the gradient's norm clipped; a target that follows by rows goes with it."""
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    clip_gradients(network.parameters(), clip)
    if target is None:
        optimiser.step()
        return
    target.before_step()
    optimiser.step()
    target.after_step()


class Solo:
    """A policy without a critic, and its optimiser."""

    def __init__(self, network: Network, train: TrainParams) -> None:
        self.network, self.train = network, train
        self.optimiser = adamw(network, train)

    def learn(self, loss: Tensor) -> None:
        """One optimiser step down the loss."""
        descend(loss, self.network, self.optimiser, self.train.gradient_clip)


class Critics:
    """Two critic networks: the first holds the policy that is exported.

    With a target rate the first is updated, and the second follows it by Polyak averaging (Lillicrap et al., ICLR'16).
    With rate None they are two independent networks, each with an optimiser: each step a random one is updated and the
    other gives the targets (double Q; SA2C paper, Alg. 1).
    """

    def __init__(self, first: CriticNetwork, second: CriticNetwork, settings: QParams, train: TrainParams) -> None:
        self.networks = (first, second)
        self.settings, self.train = settings, train
        self.optimisers: list[torch.optim.Optimizer] = []
        self.renew(None)
        self.by_rows: RowPolyak | None = None
        if settings.target_rate is not None:
            second.requires_grad_(False)
            if train.sparse:
                self.by_rows = RowPolyak(second, first, ITEM_TABLES, settings.target_rate)

    def renew(self, learning_rate: float | None) -> None:
        """Begin anew with the optimisers' moments, at this learning rate; None: that of the training."""
        learning = self.networks if self.settings.target_rate is None else self.networks[:1]
        self.optimisers = [adamw(network, self.train, learning_rate) for network in learning]

    def set_learning_rate(self, learning_rate: float) -> None:
        """Go on with another learning rate, moments kept."""
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = learning_rate

    def turn(self, batch: Batch) -> tuple[CriticNetwork, CriticNetwork]:
        """Which network is updated by the batch, and which gives its targets; both in the mode that they need."""
        first, second = self.networks
        if self.by_rows is not None:
            if batch.greedy_items is None:
                raise ValueError("a target that follows by rows needs to know which are read: give train.greedy_items")
            self.by_rows.catch_up("policy.backbone.item_embedding.weight", batch.items[batch.items >= 0])
            for name in ("critic.weight", "critic.bias"):
                self.by_rows.catch_up(name, batch.greedy_items)
        if self.settings.target_rate is None and torch.rand(()).item() < 0.5:
            first, second = second, first
        return first.train(), second.train(self.settings.target_dropout)

    def learn(self, loss: Tensor, online: CriticNetwork) -> None:
        """One optimiser step of `online` down the loss; a Polyak target then follows."""
        optimiser = self.optimisers[self.networks.index(online)]
        descend(loss, online, optimiser, self.train.gradient_clip, self.by_rows)
        if self.settings.target_rate is not None and self.by_rows is None:
            polyak(self.networks[1], online, self.settings.target_rate)


def target_of(network: CriticNetwork) -> CriticNetwork:
    """A copy that gives targets and gets no gradient."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def polyak(target: CriticNetwork, online: CriticNetwork, rate: float) -> None:
    """Move every weight: target <- target + rate * (online - target)."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, rate)
