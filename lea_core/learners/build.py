"""A variant's policy and its learner, ready for the first step.

In: a variant, its parameters and supervision. Out: what the loop trains.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from lea_core.common.errors import LeaError
from lea_core.common.registry import METHODS
from lea_core.learners.batches import Batch
from lea_core.learners.critics import CriticNetwork, Critics, Network, Solo, target_of
from lea_core.learners.supervision import Supervision
from lea_core.models.policy_network import PolicyNetwork
from lea_core.params import Params, QParams, TrainParams, Variant


class Learner(Protocol):
    """A method: it holds its networks and optimiser, and knows one step."""

    def update(self, batch: Batch, epoch: int, /) -> dict[str, Tensor]:
        """Train on one batch; returns its mean losses, numbers on the device."""


def build_learner(variant: Variant, params: Params, policy: PolicyNetwork, supervision: Supervision) -> Learner:
    """The variant's method around `policy`."""
    train, device = params.train, policy.actor.weight.device
    settings = getattr(params.methods, variant.method)
    if train.sparse:
        policy.use_sparse_gradients()
    le_width = None if supervision.le_states is None else supervision.le_states.shape[1]
    aligned_width = le_width if train.le.state_alignment > 0 else None

    def critic(own: PolicyNetwork) -> CriticNetwork:
        return CriticNetwork(own, aligned_width, le_width, train.le.state_width).to(device)

    trained: Solo | Critics
    if not isinstance(settings, QParams):
        trained = Solo(Network(policy, aligned_width).to(device), train)
    elif settings.target_rate is not None:
        first = critic(policy)
        trained = Critics(first, target_of(first), settings, train)
    else:
        first = critic(policy)
        other = PolicyNetwork(policy.config)  # the papers' second network, with weights of its own
        start_items(other, supervision, train)
        if train.sparse:
            other.use_sparse_gradients()
        trained = Critics(first, critic(other), settings, train)
    learner: Learner = METHODS.load(variant.method).Learner(settings, train, trained)
    return learner


@torch.no_grad()
def start_items(policy: PolicyNetwork, supervision: Supervision, train: TrainParams) -> None:
    """Give embeddings and actor the first D numbers of the item vectors, where the variant has any, to start from."""
    vectors = supervision.item_vectors
    if vectors is None:
        return
    if vectors.shape[1] < policy.width:
        raise LeaError(
            f"params.yaml: the backbone's width {policy.width} is more than the {vectors.shape[1]} numbers of an item "
            "vector: lower it, or raise tokenize_items.content_width"
        )
    start = vectors[:, : policy.width].to(policy.actor.weight.device)
    start = start * (train.le.item_scale / start.std())
    policy.backbone.item_embedding.weight.copy_(start)
    policy.actor.weight.copy_(start)
    policy.backbone.item_embedding.weight.requires_grad_(not train.le.freeze_items)
