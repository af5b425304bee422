"""item_tokens.py: pooling by hand, whitening by its property, learned tokens by their loss."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lea_core.errors import LeaError
from lea_core.item_tokens import item_tokens, text_losses, whiten
from lea_core.params import LearnedTokens, TokenParams
from tests import tiny_llm

TEXTS = ["alien robot", "love war jazz sea", "", "ghost", "king cat dog", "sea ghost love"]


def settings(method: str) -> TokenParams:
    learned = LearnedTokens(steps=20, learning_rate=1.0, batch_items=2)
    return TokenParams(method=method, layer=2, text_tokens=3, content_width=3, learned=learned)


def test_pooled_tokens_are_means_and_an_empty_text_resembles_nothing(tmp_path: Path) -> None:
    tokens, measured = item_tokens(lambda layers: tiny_llm.load(tmp_path, layers), TEXTS, settings("pooled"))
    embeddings = tiny_llm.load(tmp_path).decoder.get_input_embeddings().weight.detach().numpy()
    word = {name: index for index, name in enumerate(tiny_llm.WORDS)}
    np.testing.assert_allclose(tokens.token[0], embeddings[[word["alien"], word["robot"]]].mean(axis=0), rtol=1e-5)
    # The second text is cut after three of its four words.
    np.testing.assert_allclose(
        tokens.token[1], embeddings[[word["love"], word["war"], word["jazz"]]].mean(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(tokens.token[2], tokens.token[[0, 1, 3, 4, 5]].mean(axis=0), rtol=1e-5)
    assert not tokens.content[2].any()
    np.testing.assert_allclose(np.linalg.norm(tokens.content[[0, 1, 3, 4, 5]], axis=1), 1.0, rtol=1e-5)
    assert measured == {"items": 6, "without_text": 1, "texts_cut": 1}


def test_whitening_gives_equal_variance_to_every_direction() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 6)) * np.array([9.0, 5.0, 3.0, 1.0, 0.5, 0.1]) + 4.0
    present = np.ones(400, dtype=bool)
    white = whiten(vectors, present, 4)
    # Rows are scaled to unit length afterwards, so compare directions: mean about 0, second moments about 1/4 each.
    np.testing.assert_allclose(white.T @ white / 400, np.eye(4) / 4, atol=0.03)
    with pytest.raises(LeaError, match="content_width 7 is more than the 6 directions"):
        whiten(vectors, present, 7)


def test_learned_tokens_make_the_text_likelier_and_depend_on_no_other_item(tmp_path: Path) -> None:
    def load(layers: int) -> tiny_llm.llm.LanguageModel:
        return tiny_llm.load(tmp_path, layers)

    tokens, measured = item_tokens(load, TEXTS, settings("learned"))
    assert measured["text_loss_after"] < measured["text_loss_before"] - 0.05
    alone, _ = item_tokens(load, ["alien robot", "ghost", "jazz", "sea dog", "king"], settings("learned"))
    np.testing.assert_allclose(alone.token[0], tokens.token[0], atol=1e-5)


def test_text_loss_is_the_mean_surprise_of_each_word(tmp_path: Path) -> None:
    model = tiny_llm.load(tmp_path)
    token = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[3, 5]])
    one = model.causal(inputs_embeds=token[:, None]).logits[0, -1].log_softmax(-1)[3]
    sequence = torch.cat([token[:, None], model.decoder.get_input_embeddings()(ids[:, :1])], dim=1)
    two = model.causal(inputs_embeds=sequence).logits[0, -1].log_softmax(-1)[5]
    loss = text_losses(model, token, ids, torch.ones(1, 2))
    torch.testing.assert_close(loss, -(one + two)[None] / 2)
