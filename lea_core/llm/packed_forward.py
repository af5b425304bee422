"""One forward pass of an LLM over packed windows, and a check that the windows are independent of each other.

In: a decoder and its inputs, as packing.py arranges them. Out: the hidden states of all tokens.

The mask makes windows and candidate actions independent in softmax attention only. A recurrent state or a convolution
runs over the whole row and ignores the mask, and some attention uses positions in the row instead of position ids. So
`check_independence` tries an LLM on a small row before it is used. It changes tokens and compares the states of tokens
that must not see them; and it compares a window in the row with the same window alone. An LLM that fails is refused.
Some of these could work with one row for each window, but every candidate action would then need its own row too. The
time that this takes was not measured.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lea_core.common.errors import LeaError, reason
from lea_core.data.sequences import Sequences, learning_steps, windows
from lea_core.llm import prefix_attention
from lea_core.llm.language_model import LanguageModel
from lea_core.llm.packing import Packed, packs

EVENTS = np.array([6, 5, 6])  # of the trial's windows
ACTIONS = 2
# Allowed relative change of a hidden state, in float32 and in 16 bits. Tokens that a token must not see change nothing,
# except in mixtures of experts, where matrix products of other rows may round differently. A window alone also rounds
# differently, so the second limits are wider.
MAX_CHANGE_BY_OTHERS = (1e-5, 2e-3)
MAX_CHANGE_BY_PACKING = (1e-3, 2e-1)
SOFTMAX = {"full_attention", "sliding_attention", "chunked_attention"}


def forward_packed(decoder: Any, vectors: Tensor, packed: Packed, use_prefix_attention: bool = False) -> Tensor:
    """Last hidden states (B, N, H) of input vectors (B, N, H) in the decoder's number format.

    use_prefix_attention: whether the decoder uses the attention of prefix_attention.py.
    """
    device = vectors.device
    with contextlib.ExitStack() as stack:
        if use_prefix_attention:
            prefix = packed.prefix(device)
            stack.enter_context(prefix_attention.use(prefix))
        hidden: Tensor = decoder(
            inputs_embeds=vectors,
            attention_mask=prefix.mask if use_prefix_attention else packed.mask(vectors.dtype, device),
            position_ids=torch.from_numpy(packed.positions).to(device),
            use_cache=False,
        ).last_hidden_state
    return hidden


def check_independence(llm: LanguageModel) -> None:
    """Raise `LeaError` where packed windows and actions depend on each other, or are not read as they are alone."""
    name = f"llm.source: {type(llm.causal).__name__}"
    kinds = sorted(set(getattr(llm.decoder.config, "layer_types", None) or ()) - SOFTMAX)
    why = f" (layers of type {', '.join(kinds)})" if kinds else ""
    mend = "use a model with softmax attention by position ids in all layers"
    short = next(llm.decoder.parameters()).dtype != torch.float32
    if "local" in getattr(llm.decoder.config, "attention_layers", ()):
        raise LeaError(f"{name} has local attention by positions in the row: {mend}")
    try:
        by_others, by_packing = changed_by_others(llm), changed_by_packing(llm)
    except Exception as error:  # models that do not accept this mask raise all kinds of errors; the reason is shown
        raise LeaError(f"{name} reads no packed windows ({reason(error)}): {mend}") from None
    if not by_others <= MAX_CHANGE_BY_OTHERS[short]:
        raise LeaError(
            f"{name} lets packed windows and candidate actions see each other{why}: {mend} (a hidden state changes by "
            f"{by_others:.1g} of its length)"
        )
    if not by_packing <= MAX_CHANGE_BY_PACKING[short]:
        raise LeaError(
            f"{name} reads packed windows otherwise than alone{why}: {mend} (a hidden state differs by "
            f"{by_packing:.1g} of its length)"
        )


def is_independent(llm: LanguageModel, use_prefix_attention: bool) -> bool:
    """Whether no token depends on tokens that it must not see."""
    short = next(llm.decoder.parameters()).dtype != torch.float32
    return changed_by_others(llm, use_prefix_attention) <= MAX_CHANGE_BY_OTHERS[short]


@torch.no_grad()
def changed_by_others(llm: LanguageModel, use_prefix_attention: bool = False) -> float:
    """The largest relative change of a hidden state when tokens change that it must not see.

    These tokens change: all events of the first window; the last event of the last window, which only its own state may
    see; and an action at the first event of that window.
    """
    packed, (vectors, others) = _trial(llm)
    action = packed.action_cells[packed.acting == EVENTS[:2].sum(), 0]
    moved = np.isin(np.arange(packed.items.size), [*packed.cells[: EVENTS[0]], packed.cells[-1], *action])
    changed = torch.where(torch.from_numpy(moved).to(llm.device)[:, None], others, vectors)
    before, after = (forward_packed(llm.decoder, each, packed, use_prefix_attention)[0] for each in (vectors, changed))
    may_see = (packed.mask(torch.float32, torch.device("cpu"))[0, 0].numpy() == 0)[:, moved].any(axis=1)  # (N,)
    return _relative(after[~may_see], before[~may_see])


@torch.no_grad()
def changed_by_packing(llm: LanguageModel) -> float:
    """The largest relative difference of hidden states, in the row and alone, of the second window and an action."""
    packed, (vectors, _) = _trial(llm)
    events = packed.cells[EVENTS[0] : EVENTS[:2].sum() - 1]  # without the last event: the action takes its position
    cells = [*events, packed.action_cells[packed.acting < EVENTS[:2].sum()][-1, -1]]
    alone = llm.decoder(inputs_embeds=vectors[:, cells], use_cache=False).last_hidden_state[0]
    return _relative(forward_packed(llm.decoder, vectors, packed)[0, cells].flatten(), alone.flatten())


def _trial(llm: LanguageModel) -> tuple[Packed, Tensor]:
    """Windows in one row of N tokens, and for each token two input vectors: (2, 1, N, H)."""
    ends = np.append(0, EVENTS.cumsum())
    trial = Sequences(np.arange(ends[-1]), np.zeros(ends[-1], np.int8), ends, int(ends[-1]))
    cut = windows(trial, np.arange(len(EVENTS)), int(EVENTS.max()))
    (packed,) = packs(trial, cut, 10**6, ACTIONS, learning_steps(trial))
    table = llm.decoder.get_input_embeddings()
    shape = (2, 2, 1, packed.items.size)
    ids = torch.randint(len(table.weight), shape, generator=torch.Generator().manual_seed(0)).to(llm.device)
    # like item tokens: as large as word embeddings, but equal to none of them
    return packed, table(ids).mean(dim=0).to(next(llm.decoder.parameters()).dtype)


def _relative(found: Tensor, expected: Tensor) -> float:
    return float(((found.float() - expected.float()).norm(dim=-1) / expected.float().norm(dim=-1)).max())
