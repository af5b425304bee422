"""One prompt per state and one per action: the naive method to train the LE, beside the packed one.

In: a `Finetuning` whose lora phase is run. Out: how many times as many steps a second the packed method makes, over the
same batches from the same weights, and the largest difference of their losses.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lea_core.data.sequences import Sequences, Window
from lea_core.environment import model as environment
from lea_core.environment.batches import Steps
from lea_core.environment.finetune import Finetuning
from lea_core.environment.user_split import choose_users
from lea_core.llm import language_model
from lea_core.llm.packing import acting_events
from lea_core.llm.pooled_tokens import ItemTokens
from lea_core.params import Params

PROMPTS = 256  # per forward of the LLM


class PromptFinetuning(Finetuning):
    """Reads x_1 .. x_t for each state and x_1 .. x_t, a for each action, padded to the longest of a forward."""

    def read(self, batch: list[Window], actions: np.ndarray) -> Steps | None:
        """The steps of these windows, as `Finetuning.read` gives them."""
        events, prompts = [], []
        for window in batch:
            items = self.train.user_items(window.user)[window.start : window.end]
            first = self.train.offsets[window.user] + window.start
            for time_ in range(max(window.new - window.start - 1, 0), window.length - 1):
                history = items[: time_ + 1]
                events.append(first + time_)
                candidates = [items[time_ + 1], *actions[first + time_]]
                prompts += [history, *(np.append(history, action) for action in candidates)]
        if not events:
            return None
        last = self._last_states(prompts).reshape(len(events), 2 + actions.shape[1], -1)
        rows = np.array(events)
        return Steps(torch.from_numpy(rows), last[:, 0], torch.from_numpy(actions[rows]), last[:, 1:])

    def _last_states(self, prompts: list[np.ndarray]) -> Tensor:
        """(P, H): the hidden state at the end of each prompt."""
        parts = []
        model = self.environment.llm
        for start in range(0, len(prompts), PROMPTS):
            part = prompts[start : start + PROMPTS]
            lengths = torch.tensor([len(prompt) for prompt in part])
            items = torch.zeros(len(part), int(lengths.max()), dtype=torch.int64)
            for row, prompt in enumerate(part):
                items[row, : len(prompt)] = torch.from_numpy(prompt)
            vectors = self.environment.token[items].to(model.dtype)  # right padding: nothing real looks at it
            hidden = model.decoder(inputs_embeds=vectors, use_cache=False).last_hidden_state
            parts.append(hidden[torch.arange(len(part)), lengths - 1].float())
        return torch.cat(parts)


def speed_up(folder: Path, sequences: Sequences, tokens: ItemTokens, wanted: Params, batches: int) -> dict[str, float]:
    """{"speedup", "packed_steps_per_second", "prompt_steps_per_second", "loss_difference"} over so many batches."""
    heads = wanted.finetune_le.heads.model_copy(update={"dropout": 0.0, "epochs": 0})
    p = wanted.finetune_le.model_copy(update={"heads": heads, "selection_events": 1})
    train = sequences.train()
    users, unseen = choose_users(train, p.users_share, np.random.default_rng(p.seed))
    losses: dict[str, list[list[float]]] = {}
    seconds, steps = {}, 0
    for name, kind in (("packed", Finetuning), ("prompt", PromptFinetuning)):
        le = environment.new(language_model.load(folder, wanted.llm.layers), tokens, p)
        training = kind(le, train, users, unseen, p)
        training.start(1)
        epoch = training.lora_epoch()
        losses[name] = [next(epoch)]  # the first batch warms up
        started = time.perf_counter()
        losses[name] += [next(epoch) for _ in range(batches)]
        seconds[name] = time.perf_counter() - started
        steps = sum(
            len(acting_events(train, batch, training.chosen)) for batch in training.window_batches(0)[1 : batches + 1]
        )
    difference = np.abs(np.array(losses["packed"]) - np.array(losses["prompt"])).max()
    return {
        "speedup": seconds["prompt"] / seconds["packed"],
        "packed_steps_per_second": steps / seconds["packed"],
        "prompt_steps_per_second": steps / seconds["prompt"],
        "loss_difference": float(difference),
    }
