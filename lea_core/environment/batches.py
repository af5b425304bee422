"""Training batches of the LE: steps from one event to the next, sampled actions, and the losses of the steps.

In: packed training sequences, the LE. Out: `Steps`, the hidden states and sampled actions of N steps; two losses each.

The state loss compares the logged item with all items, or, with `state_negatives`, with the logged items of the batch
and this number of items drawn by popularity. The reward loss compares it with items drawn in three ways
(`reward_negatives`): uniformly, among equally popular items, and among its text neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lea_core.common.progress import bar
from lea_core.data.sequences import Sequences, Window, sample_actions, seen_pairs
from lea_core.environment.losses import reward_centre, reward_loss, state_loss
from lea_core.environment.model import Environment
from lea_core.environment.negatives import log_popularity, popularity_matched, text_hard
from lea_core.llm.packing import Packed, packs
from lea_core.params import RewardNegatives


@dataclass(frozen=True)
class Steps:
    """N steps with raw hidden states. While the LLM is frozen, no head reads the actions' hidden states: None then."""

    events: Tensor  # (N,) int64: row of x_t among the training events; x_{t+1} is the next row
    hidden: Tensor  # (N, H): h_t
    actions: Tensor  # (N, A) int64: sampled ones
    action_hidden: Tensor | None = None  # (N, 1 + A, H): h_{t,a} of the logged action, then of the sampled ones


def sampled_actions(
    train: Sequences,
    events: np.ndarray,
    counts: np.ndarray,
    neighbours: np.ndarray,
    wanted: RewardNegatives,
    rng: np.random.Generator,
) -> np.ndarray:
    """Negatives for the logged actions: (N, A) for the steps at `events` (N,).

    counts: (I,) training events. neighbours: (I, K) by text, see `negatives.text_neighbours`.
    """
    logged = train.items[events + 1]
    kinds = [
        sample_actions(logged, wanted.uniform, train.num_items, rng),
        popularity_matched(logged, counts, rng, wanted.popular),
        text_hard(neighbours, logged, rng, wanted.text),
    ]
    return np.concatenate(kinds, axis=1)


def read_steps(environment: Environment, packed: Packed, actions: np.ndarray) -> Steps:
    """The steps of a packed batch, by one forward pass of the LLM. actions: (R, A)."""
    hidden, action_hidden = environment.read(packed, actions)
    acting = packed.acting
    logged_hidden = hidden[packed.following[acting]]  # the next event's token also serves as the logged action's token
    return Steps(
        events=torch.from_numpy(packed.events[acting]).to(hidden.device),
        hidden=hidden[acting],
        actions=torch.from_numpy(actions).to(hidden.device),
        action_hidden=torch.cat([logged_hidden[:, None], action_hidden], dim=1),
    )


class FrozenStates:
    """h of every chosen event of these windows under the present LLM, computed once and kept as float16.

    events: (N,), ascending rows of the sequences.  hidden: (N, H).
    """

    @torch.inference_mode()
    def __init__(
        self, environment: Environment, train: Sequences, cut: list[Window], chosen: np.ndarray, batch_tokens: int
    ) -> None:
        cut_packs = packs(train, cut, batch_tokens)
        total = sum(packed.tokens for packed in cut_packs)
        events, hidden = [], []
        with bar(total, "frozen states", "token") as progress:
            for packed in cut_packs:
                keep = packed.owned & chosen[packed.events]
                events.append(packed.events[keep])
                hidden.append(environment.read(packed)[0][keep].half())
                progress.update(packed.tokens)
        order = np.argsort(np.concatenate(events))
        device = environment.llm.device
        self.events = torch.from_numpy(np.concatenate(events)[order]).to(device)
        self.hidden = torch.cat(hidden)[torch.from_numpy(order).to(device)]


def join(parts: list[Steps]) -> Steps:
    """Concatenate steps that have hidden states of actions."""
    return Steps(*(torch.cat([getattr(part, name) for part in parts]) for name in Steps.__dataclass_fields__))


@dataclass(frozen=True)
class Candidates:
    """The M items that the state loss of a batch compares."""

    items: Tensor | None  # (M,) int64; None: all of the catalogue
    log_inclusion: Tensor | None  # (M,)

    def columns(self, items: Tensor, num_items: int) -> Tensor:
        """The column of each item: (...,), -1 for an item that is not a candidate."""
        if self.items is None:
            return items
        columns = torch.full((num_items,), -1, device=items.device)
        columns[self.items] = torch.arange(len(self.items), device=items.device)
        return columns[items]


def draw_candidates(
    logged: np.ndarray, counts: np.ndarray, wanted: int | None, rng: np.random.Generator, device: torch.device
) -> Candidates:
    """The logged items (N,) of a batch and `wanted` items drawn by popularity; all items where `wanted` is None.

    Over many batches, logged items are draws by popularity too. So one formula holds for both: an item of probability q
    per draw is a candidate with probability 1 - (1 - q)^draws.
    """
    if wanted is None:
        return Candidates(None, None)
    shares = np.exp(log_popularity(counts))
    items = np.unique(np.concatenate([logged, rng.choice(len(counts), size=wanted, p=shares)]))
    draws = len(logged) + wanted
    inclusion = -np.expm1(draws * np.log1p(-shares[items].clip(max=1.0 - 1e-12)))
    return Candidates(torch.from_numpy(items).to(device), torch.from_numpy(np.log(inclusion)).float().to(device))


def step_losses(
    environment: Environment, train: Sequences, steps: Steps, candidates: Candidates, reward_centring: float
) -> tuple[Tensor, Tensor]:
    """L_sm, and L_rm plus its centring term, of each step: (N,) both."""
    heads, device = environment.heads, steps.hidden.device
    events = steps.events.cpu().numpy()
    logged = torch.from_numpy(train.items[events + 1]).to(device)
    content, inputs = heads.inputs(environment.recent(train, events), steps.hidden)
    scores = heads.scores(heads.state(content, inputs), candidates.items)  # (N, M)
    correction = heads.leave_one_out_correction(
        logged
    )  # the counts hold the logged event; no real next event is in them
    column = candidates.columns(logged, train.num_items)[:, None]
    scores = scores.scatter_add(1, column, (heads.popularity * correction)[:, None])
    excluded = torch.zeros_like(scores, dtype=torch.bool)
    owner, seen = (torch.from_numpy(part).to(device) for part in seen_pairs(train, events))
    seen_column = candidates.columns(seen, train.num_items)
    known = seen_column >= 0
    excluded[owner[known], seen_column[known]] = True
    of_state = state_loss(scores, column[:, 0], excluded, candidates.log_inclusion)
    actions = torch.cat([logged[:, None], steps.actions], dim=1)
    rewards = heads.rewards(content, inputs, actions, steps.action_hidden)
    of_logged = rewards[:, 0] + heads.reward_popularity * correction
    of_reward = reward_loss(of_logged, rewards[:, 1:]) + reward_centring * reward_centre(of_logged, rewards[:, 1:])
    return of_state, of_reward
