"""pooled_tokens.py: pooling by hand, whitening by its property, texts that the LLM cannot read."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from lea_core.common.artifacts import write_tensors
from lea_core.common.errors import LeaError
from lea_core.llm.pooled_tokens import fit, pooled_tokens, read_statistics, text_ids, whiten
from tests.llm.test_tokenize import TEXTS
from tests.support import tiny_llm

LIMITS = (3, 3)  # text_tokens, content_width


def test_pooled_tokens_are_means_and_an_empty_text_resembles_nothing(tmp_path: Path) -> None:
    model = tiny_llm.load(tmp_path, 2)
    pooled = pooled_tokens(model, TEXTS, *LIMITS)
    tokens, rows = pooled.tokens, pooled.rows
    embeddings = model.decoder.get_input_embeddings().weight.detach().numpy()
    word = {name: index for index, name in enumerate(tiny_llm.WORDS)}
    assert rows[0] == [word["alien"], word["robot"]]
    np.testing.assert_allclose(tokens.token[0], embeddings[[word["alien"], word["robot"]]].mean(axis=0), rtol=1e-5)
    # The second text is cut after three of its four words.
    np.testing.assert_allclose(
        tokens.token[1], embeddings[[word["love"], word["war"], word["jazz"]]].mean(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(tokens.token[2], tokens.token[[0, 1, 3, 4, 5]].mean(axis=0), rtol=1e-5)
    assert not tokens.content[2].any()
    np.testing.assert_allclose(np.linalg.norm(tokens.content[[0, 1, 3, 4, 5]], axis=1), 1.0, rtol=1e-5)
    assert pooled.measured == {"items": 6, "without_text": 1, "texts_cut": 1}


def test_a_tokenizer_without_a_padding_token_will_do(tmp_path: Path) -> None:
    with_one = pooled_tokens(tiny_llm.load(tmp_path, 2), TEXTS, *LIMITS).tokens
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.pad_token = None
    model = tiny_llm.load(tmp_path, 2)
    model = tiny_llm.language_model.LanguageModel(**{**vars(model), "tokenizer": tokenizer})
    assert model.tokenizer.pad_token_id is None
    np.testing.assert_array_equal(pooled_tokens(model, TEXTS, *LIMITS).tokens.token, with_one.token)


def test_a_text_that_the_llm_cannot_read_is_refused(tmp_path: Path) -> None:
    model = tiny_llm.load(tmp_path)
    long = "sea " * 200
    assert text_ids(model, ["ghost", long], 128)[1] == 1
    with pytest.raises(
        LeaError, match="text_tokens 150 leaves an item text of 150 tokens, but the LLM reads at most 128"
    ):
        text_ids(model, ["ghost", long], 150)
    text_ids(model, ["ghost"], 150)
    model.tokenizer.add_tokens(["new"])
    with pytest.raises(LeaError, match="the tokenizer has tokens beyond the model's 14"):
        text_ids(model, ["ghost", "new"], 150)


def test_whitening_gives_equal_variance_to_every_direction() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 6)) * np.array([9.0, 5.0, 3.0, 1.0, 0.5, 0.1]) + 4.0
    statistics = fit(vectors, vectors, 4)
    white = whiten(vectors, statistics)
    # Rows are scaled to unit length afterwards, so compare directions: mean about 0, second moments about 1/4 each.
    np.testing.assert_allclose(white.T @ white / 400, np.eye(4) / 4, atol=0.03)
    with pytest.raises(LeaError, match="content_width 7 is more than the 6 directions"):
        fit(vectors, vectors, 7)


def test_the_map_whitens_as_the_left_singular_vectors_do() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 32)) * np.geomspace(100.0, 0.01, 32) + 4.0
    left, _, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    left = left[:, :24] * np.sign(left[np.abs(left).argmax(axis=0), np.arange(32)])[:24]
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    statistics = fit(vectors, vectors, 24)
    assert np.abs(whiten(vectors, statistics) - left).max() < 1e-6
    # A row's numbers are its own, to the last bit, whatever is whitened beside it.
    np.testing.assert_array_equal(whiten(vectors[3:40:5], statistics), whiten(vectors, statistics)[3:40:5])


def test_statistics_of_another_width_are_named_with_the_mend(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    file = tmp_path / "statistics.safetensors"
    write_tensors(file, vars(fit(vectors, vectors, 4)))
    assert read_statistics(file, 6, 4).map.shape == (6, 4)
    for width, columns in ((8, 4), (6, 5)):
        with pytest.raises(LeaError) as caught:
            read_statistics(file, width, columns)
        assert str(caught.value) == (
            f"{file}: statistics of an LLM of width 6 and a content_width of 4, but they are {width} and {columns} "
            "here: name the statistics.safetensors of a run with this LLM and layer in tokenize_items.statistics, or "
            "set it to null to fit anew"
        )
    write_tensors(file, {"mean": vectors})
    with pytest.raises(LeaError, match=r"statistics\.safetensors: holds no statistics of item texts: name the"):
        read_statistics(file, 6, 4)
    file.write_bytes(b"no such thing")
    with pytest.raises(LeaError, match=r"statistics\.safetensors: holds no statistics of item texts: name the"):
        read_statistics(file, 6, 4)
