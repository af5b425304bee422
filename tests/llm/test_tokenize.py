"""Learned, mixed and amortised item tokens: their loss by hand, on their own, and through a kill."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lea_core.common import tables
from lea_core.common.artifacts import read_tensors
from lea_core.environment.model import read_item_tokens
from lea_core.llm import amortised_tokens, learned_tokens
from lea_core.llm.amortised_tokens import encode
from lea_core.llm.language_model import LanguageModel, fingerprint
from lea_core.llm.learned_tokens import Learner, mean_loss, text_losses
from lea_core.llm.tokenize import Tokenised, _basis, _identity, tokenise
from lea_core.params import AmortisedTokens, LearnedTokens, TokenParams
from stages import tokenize_items
from tests.support import tiny_llm
from tests.support.lane import PARAMS, change_params

TEXTS = ["alien robot", "love war jazz sea", "", "ghost", "king cat dog", "sea ghost love"]


def settings(method: str, items: int = 4, **learned: float) -> TokenParams:
    chosen = {"steps": 20, "tolerance": 0.01, "learning_rate": 1.0, "batch_tokens": 6, "mix": 0.25, **learned}
    return TokenParams(
        method=method,
        layer=2,
        text_tokens=4,
        content_width=3,
        statistics=None,
        learned=LearnedTokens(**chosen),
        amortised=AmortisedTokens(items=items, epochs=20, learning_rate=0.05, width=8),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return tiny_llm.load(tmp_path_factory.mktemp("llm"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEA_CACHE", str(tmp_path))
    monkeypatch.setattr(amortised_tokens, "BATCH_ITEMS", 2)
    return tmp_path / "resume"


def run(model: LanguageModel, method: str, texts: list[str] = TEXTS, items: int = 4, **learned: float) -> Tokenised:
    return tokenise(lambda _: model, texts, settings(method, items, **learned))


def test_text_loss_is_the_mean_surprise_of_each_word(model: LanguageModel) -> None:
    token = torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[3, 5]])
    one = model.causal(inputs_embeds=token[:, None]).logits[0, -1].log_softmax(-1)[3]
    sequence = torch.cat([token[:, None], model.decoder.get_input_embeddings()(ids[:, :1])], dim=1)
    two = model.causal(inputs_embeds=sequence).logits[0, -1].log_softmax(-1)[5]
    expected = -(one + two)[None] / 2
    torch.testing.assert_close(text_losses(model, token, ids, torch.ones(1, 2)), expected)
    padded = text_losses(model, token, torch.tensor([[3, 5, 0]]), torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(padded, expected)


def test_adam_is_torchs(model: LanguageModel) -> None:
    ours, mean, square = torch.tensor([1.0, -2.0]), torch.zeros(2), torch.zeros(2)
    theirs = ours.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.1)
    for step in range(1, 6):
        theirs.grad = torch.tensor([0.3 * step, -1.0 / step])
        learned_tokens.adam_step(ours, theirs.grad.clone(), mean, square, torch.tensor(step), 0.1)
        optimiser.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_learned_tokens_make_the_text_likelier_and_depend_on_no_other_item(model: LanguageModel, cache: Path) -> None:
    result = run(model, "learned")
    assert result.measured["text_loss_after"] < result.measured["text_loss_before"] - 0.05
    present = np.array([0, 1, 3, 4, 5])
    rows = model.tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    assert mean_loss(model, rows, result.tokens.token, present) == pytest.approx(result.measured["text_loss_after"])
    # A token makes its own text likelier than the token of another item does: by hand, each under the next one's.
    order = np.random.default_rng(0).permutation(present)
    token = result.tokens.token
    pairs = zip(order, np.roll(order, 1), strict=True)
    others = [mean_loss(model, [rows[item]], token[[other]], np.array([0])) for item, other in pairs]
    assert result.measured["text_loss_swapped"] == pytest.approx(np.mean(others), abs=1e-5)
    assert result.measured["text_loss_swapped"] > result.measured["text_loss_after"] + 0.05
    pooled = run(model, "pooled").tokens
    assert mean_loss(model, rows, pooled.token, present) == pytest.approx(result.measured["text_loss_before"])
    np.testing.assert_array_equal(result.tokens.token[2], pooled.token[2])
    shutil.rmtree(cache.parent / "texts")
    alone = run(model, "learned", ["alien robot", "ghost", "jazz", "sea dog", "king"], batch_tokens=100)
    np.testing.assert_allclose(alone.tokens.token[0], result.tokens.token[0], atol=1e-5)


def test_an_item_is_done_when_its_own_loss_stalls(model: LanguageModel) -> None:
    learners = {}
    for tolerance in (0.0001, 0.05):
        found = settings("learned", tolerance=tolerance, steps=60).learned
        rows = model.tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
        learner = Learner(model, rows, run(model, "pooled").tokens.token, found)
        learner.run(learned_tokens.Checkpoint("test", "lea_core.llm.learned_tokens", {"tolerance": tolerance}))
        learners[tolerance] = learner.of_all
    strict, lax = learners[0.0001], learners[0.05]
    assert strict["steps"][2] == lax["steps"][2] == 0
    assert (lax["steps"] <= strict["steps"]).all()
    assert lax["steps"].sum() < strict["steps"].sum()
    assert len(set(lax["steps"].tolist())) > 2  # each at its own time
    # What more steps would have brought in the end is little, for no item left while it still fell fast.
    assert (strict["after"] <= lax["after"]).all()


class KilledError(Exception):
    """Stands for a kill: nothing of the run survives but its checkpoint."""


class Counter:
    """Text losses, counted; the one after `last` kills the run."""

    def __init__(self, last: int | None = None) -> None:
        self.count, self.last = 0, last

    def __call__(self, *arguments: Any) -> torch.Tensor:
        if self.count == self.last:
            raise KilledError
        self.count += 1
        return text_losses(*arguments)


@pytest.mark.parametrize("method", ["learned", "amortised"])
def test_a_killed_run_goes_on_to_the_same_tokens(
    model: LanguageModel, method: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lea_core.common.checkpoints.PAUSE", 0)
    results, counts = [], []
    for last in (None, 7, None):
        counter = Counter(last)
        for module in (learned_tokens, amortised_tokens):
            monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
            monkeypatch.setattr(module, "text_losses", counter)
        with contextlib.suppress(KilledError):
            results.append(run(model, method))
        counts.append(counter.count)
        if last is None:
            checkpoint = results[-1].checkpoint
            assert checkpoint is not None
            checkpoint.remove()
            shutil.rmtree(cache.parent / "texts")
        else:
            assert len(list(cache.iterdir())) == 1
    whole, again = results
    assert counts == [counts[0], 7, counts[0] - 7]
    np.testing.assert_array_equal(again.tokens.token, whole.tokens.token)
    for result in results:
        assert result.measured.pop("seconds_per_1000_items") > 0.0
    assert again.measured == whole.measured


def test_mixed_tokens_lie_between(model: LanguageModel) -> None:
    pooled, learned, mixed = (run(model, method) for method in ("pooled", "learned", "mixed"))
    expected = 0.25 * learned.tokens.token + 0.75 * pooled.tokens.token
    np.testing.assert_allclose(mixed.tokens.token, expected, atol=1e-6)
    assert mixed.measured["text_loss_learned"] == learned.measured["text_loss_after"]
    assert mixed.measured["text_loss_after"] != learned.measured["text_loss_after"]
    assert mixed.tokens.token.dtype == np.float32


def test_the_encoder_starts_at_the_pooled_token_and_makes_texts_likelier(model: LanguageModel) -> None:
    pooled = run(model, "pooled").tokens.token
    start = amortised_tokens.first_weights(pooled, np.array([0, 1, 3]), 8, 0.1)
    np.testing.assert_array_equal(encode({name: w.numpy() for name, w in start.items()}, pooled), pooled)
    result = run(model, "amortised")
    np.testing.assert_array_equal(encode(result.encoder, pooled), result.tokens.token)
    assert {name: array.shape for name, array in result.encoder.items()} == {
        "mean": (16,),
        "deviation": (16,),
        "scale": (1,),
        "first.weight": (8, 16),
        "first.bias": (8,),
        "second.weight": (16, 8),
        "second.bias": (16,),
    }
    assert (result.measured["encoder_items"], result.measured["text_loss_items"]) == (4, 1)
    rows = model.tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    present = np.array([0, 1, 3, 4, 5])
    assert mean_loss(model, rows, result.tokens.token, present) < mean_loss(model, rows, pooled, present) - 0.05


def test_bfloat16_will_do(model: LanguageModel, tmp_path: Path) -> None:
    half = tiny_llm.load(tmp_path / "half")
    half.causal.bfloat16()
    for method in ("learned", "amortised"):
        measured = run(half, method, items=9).measured  # all are in the sample, so that it is measured on them
        assert measured["text_loss_after"] < measured["text_loss_before"]
    assert run(half, "learned").tokens.token.dtype == np.float32


def test_any_other_input_starts_anew(model: LanguageModel, tmp_path: Path) -> None:
    rows, pooled = [[1, 2], [3]], np.ones((2, 16), dtype=np.float32)
    wanted = _basis(model, settings("learned"))
    identity = _identity(wanted, rows, pooled)
    assert wanted == _basis(model, settings("mixed", mix=0.5))
    assert identity != _identity(wanted, [[1, 2], [4]], pooled)
    assert identity != _identity(wanted, rows, pooled + 1.0)
    assert wanted != _basis(model, settings("learned", steps=21))
    assert wanted != _basis(model, settings("amortised"))
    other = tiny_llm.load(tmp_path / "other")
    assert fingerprint(other) == fingerprint(model)
    other.causal.lm_head.weight.data[0, 0] += 1.0
    assert wanted != _basis(other, settings("learned"))


def test_the_stage_publishes_the_encoder_and_forgets_its_checkpoint(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_llm.load(tmp_path / "data")
    numbers = pa.array(range(len(TEXTS)), pa.int32())
    items = {"item": numbers, "item_id": [str(n) for n in numbers], "text": TEXTS, "train_count": numbers}
    tables.write_table(tmp_path / "data/interactions/items.parquet", pa.table(items), tables.ITEMS)
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    wanted = settings("amortised").model_dump()
    change_params(tmp_path, {f"tokenize_items.{key}": value for key, value in wanted.items()})
    tokenize_items.main([])
    published = tmp_path / "data" / "item_tokens"
    weights = read_tensors(published / "encoder.safetensors")
    tokens = read_item_tokens(published / "items.parquet").token
    pooled = run(tiny_llm.load(tmp_path / "data"), "pooled").tokens.token
    np.testing.assert_array_equal(encode(weights, pooled), tokens)
    assert json.loads((published / "measured.json").read_text())["encoder_items"] == 4
    assert list(cache.iterdir()) == []
