"""One pass of an LLM over packed windows, and whether the LLM keeps them apart.

In: a decoder and what it reads, as packing.py lays it out. Out: the hidden states of all tokens.

The mask keeps windows and candidate actions apart in softmax attention alone. A recurrent state or a convolution runs
over the whole row whatever the mask says, and some attention counts places in the row instead of position ids. So
`check_independence` tries an LLM on a small row before it is used: it changes tokens and looks at the states of those that
must not see them, and compares a window with the same window alone. One that fails is refused, though a row for each
window would do for some: every candidate action would need a row of its own too, and whether that is worth its time was
not measured.
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
# Relative change of a hidden state, float32 and 16 bits. What a token must not see changes nothing, to the bit, but in
# mixtures of experts, where a matrix product may round otherwise for other rows. Alone, all rounds otherwise.
CHANGE = (1e-5, 2e-3)
ALONE = (1e-3, 2e-1)
SOFTMAX = {"full_attention", "sliding_attention", "chunked_attention"}


def forward_packed(decoder: Any, vectors: Tensor, packed: Packed, use_prefix_attention: bool = False) -> Tensor:
    """Last hidden states (B, N, H) of input vectors (B, N, H) in the decoder's number format.

    `use_prefix_attention` says that the decoder's attention is that of prefix_attention.py.
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
    """Raise `LeaError` where packed windows and actions see each other, or are not read as they are alone."""
    name = f"llm.source: {type(llm.causal).__name__}"
    kinds = sorted(set(getattr(llm.decoder.config, "layer_types", None) or ()) - SOFTMAX)
    why = f" (layers of type {', '.join(kinds)})" if kinds else ""
    mend = "use a model with softmax attention by position ids in all layers"
    short = next(llm.decoder.parameters()).dtype != torch.float32
    if "local" in getattr(llm.decoder.config, "attention_layers", ()):
        raise LeaError(f"{name} has local attention that goes by places in the row: {mend}")
    try:
        by_others, by_packing = changed_by_others(llm), changed_by_packing(llm)
    except Exception as error:  # whatever a model that takes no such mask raises
        raise LeaError(f"{name} reads no packed windows ({reason(error)}): {mend}") from None
    if not by_others <= CHANGE[short]:
        raise LeaError(
            f"{name} lets packed windows and candidate actions see each other{why}: {mend} (a hidden state changes by "
            f"{by_others:.1g} of its length)"
        )
    if not by_packing <= ALONE[short]:
        raise LeaError(
            f"{name} reads packed windows otherwise than alone{why}: {mend} (a hidden state differs by "
            f"{by_packing:.1g} of its length)"
        )


def is_independent(llm: LanguageModel, use_prefix_attention: bool) -> bool:
    """Whether no token changes by what it must not see."""
    return changed_by_others(llm, use_prefix_attention) <= CHANGE[next(llm.decoder.parameters()).dtype != torch.float32]


@torch.no_grad()
def changed_by_others(llm: LanguageModel, use_prefix_attention: bool = False) -> float:
    """The largest relative change of a hidden state by tokens that it must not see.

    Changed are all events of the first window; of the last one, the last event, which only its own state may see, and
    an action of its first event.
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
    """The relative difference of the second window's hidden states, and one of its actions', to these alone."""
    packed, (vectors, _) = _trial(llm)
    events = packed.cells[EVENTS[0] : EVENTS[:2].sum() - 1]  # but the last, in whose place the action stands
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
    # like item tokens: of the size of words' embeddings, and none of them
    return packed, table(ids).mean(dim=0).to(next(llm.decoder.parameters()).dtype)


def _relative(found: Tensor, expected: Tensor) -> float:
    return float(((found.float() - expected.float()).norm(dim=-1) / expected.float().norm(dim=-1)).max())
