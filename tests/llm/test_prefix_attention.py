"""Attention by the prefix alone: equal to attention under the full mask, and used only where it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

from lea_core.data.sequences import learning_steps, windows
from lea_core.llm import prefix_attention
from lea_core.llm.packing import fitted_packs
from tests.llm.test_packing import CASES, distinct
from tests.support.tiny_le import make, sequences, shake


@given(CASES)
def test_equals_attention_under_the_full_mask(case: tuple[list[int], int, int, int, int]) -> None:
    lengths, history, budget, actions, _ = case
    train = distinct(lengths)
    cut = windows(train, np.arange(len(lengths)), history)
    generator = torch.Generator().manual_seed(0)
    for packed in fitted_packs(train, cut, budget, actions, learning_steps(train)):
        rows, tokens = packed.items.shape
        query = torch.randn(rows, 4, tokens, 8, generator=generator)
        key, value = torch.randn(2, rows, 2, tokens, 8, generator=generator)
        repeated = (part.repeat_interleave(2, dim=1) for part in (key, value))
        mask = packed.mask(torch.float32, torch.device("cpu"))
        expected = F.scaled_dot_product_attention(query, *repeated, attn_mask=mask).transpose(1, 2)
        with prefix_attention.use(packed.prefix(torch.device("cpu"))):
            found, _ = prefix_attention.attend(torch.nn.Identity(), query, key, value, None)
        real = torch.from_numpy(packed.windows >= 0)
        torch.testing.assert_close(found[real], expected[real])


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_a_hastened_le_judges_as_before(tmp_path: Path, kind: str) -> None:
    le, train = shake(make(tmp_path, kind, history=4)), sequences([3, 5, 1, 8, 0, 2], [6], [2, 2, 7])
    (packed,) = fitted_packs(train, windows(train, np.arange(3), 4), 999, 2, learning_steps(train))
    actions = np.arange(2 * len(packed.acting)).reshape(-1, 2) % 9
    with torch.no_grad():
        before = le.predict(train, packed, actions)
        le.optimize_for_inference()
        after = le.predict(train, packed, actions)
    assert le.use_prefix_attention
    for name in ("states", "rewards", "logged_rewards"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), atol=1e-4, rtol=1e-4)


def test_a_model_whose_attention_is_its_own_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    le, train = shake(make(tmp_path)), sequences([3, 5, 1, 8], [6, 2])
    (packed,) = fitted_packs(train, windows(train, np.arange(2), 6), 999, 1, learning_steps(train))
    before = le.read(packed)[0]
    le.llm.decoder.set_attn_implementation = lambda _: None  # as models do that know no attention interface
    le.optimize_for_inference()
    assert not le.use_prefix_attention
    assert torch.equal(le.read(packed)[0], before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "keeps the LLM's sdpa attention, slower than prefix attention on a CPU: "
        "LlamaModel does not use transformers' attention interface"
    )


def test_an_unknown_error_of_the_trial_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(prefix_attention, "attend", broken)
    with pytest.raises(ValueError, match="a mistake of ours"):
        make(tmp_path).optimize_for_inference()
