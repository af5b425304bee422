"""model.py, heads.py, losses.py: the LE starts as content similarity; what is added to it, by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lea_core.common.artifacts import write_json
from lea_core.common.errors import LeaError
from lea_core.data.sequences import Sequences, learning_steps, windows
from lea_core.environment import model as environment
from lea_core.environment.batches import Candidates, Steps, draw_candidates, step_losses
from lea_core.environment.heads import Heads
from lea_core.environment.losses import reward_centre, reward_loss, state_loss
from lea_core.environment.model import Environment, Predictions
from lea_core.llm.language_model import fingerprint
from lea_core.llm.packing import packs
from lea_core.llm.pooled_tokens import ItemTokens
from tests.support import tiny_llm
from tests.support.tiny_le import item_tokens, make, sequences, settings, shake

LOG = sequences([3, 5, 1, 8, 0, 2, 4, 3, 6, 5, 7], [2], [0, 7, 7, 1])


def predict(le: Environment, log: Sequences, actions: list[list[int]], history: int = 6) -> Predictions:
    """What the LE says of a log in one batch."""
    (packed,) = packs(log, windows(log, np.arange(log.num_users), history), 999, 2, learning_steps(log))
    with torch.no_grad():
        return le.predict(log, packed, np.array(actions))


def alone(le: Environment, items: list[int]) -> Tensor:
    """The LLM's last hidden state over these item tokens, without mask, position ids or company."""
    return le.llm.decoder(inputs_embeds=le.token[torch.tensor([items])], use_cache=False).last_hidden_state[0, -1]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_one_packed_pass_equals_one_prompt_per_state_and_action(tmp_path: Path, kind: str) -> None:
    le, rng = shake(make(tmp_path, kind)), np.random.default_rng(0)
    cut = packs(LOG, windows(LOG, np.arange(3), 4), 40, 2, learning_steps(LOG))  # the longest user has five windows
    assert len(cut) > 1
    close = {"atol": 1e-5, "rtol": 0.0}
    for packed in cut:
        actions = rng.integers(0, 9, size=(len(packed.acting), 2))
        with torch.no_grad():
            hidden, action_hidden = le.read(packed, actions)
            prompt: list[int] = []
            for state, event in enumerate(packed.events.tolist()):
                prompt.append(int(LOG.items[event]))
                torch.testing.assert_close(hidden[state], alone(le, prompt), **close)
                for row in np.flatnonzero(packed.acting == state):
                    for number, action in enumerate(actions[row].tolist()):
                        torch.testing.assert_close(action_hidden[row, number], alone(le, [*prompt, action]), **close)
                if packed.following[state] < 0:
                    prompt = []


def plain_heads(temperature: float = 0.5) -> Heads:
    """Heads over three items whose content lies in a plane, untrained; the older of two recent items counts half."""
    content = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=np.float32)
    tokens = ItemTokens(np.zeros((3, 3), np.float32), np.arange(9, dtype=np.float32).reshape(3, 3), content)
    return Heads(tokens, 2, 2, 0.5, temperature, 0.0).eval()


def test_untrained_heads_are_the_content_similarity_by_hand() -> None:
    heads = plain_heads()
    content, inputs = heads.inputs(torch.tensor([[1, 0], [2, -1]]), torch.randn(2, 3))
    # b = norm(c_1 + c_0 / 2) = norm(1/2, 1), then c_2 alone; divided by the temperature 1/2.
    scores = heads.scores(heads.state(content, inputs))
    root = 1.25**0.5
    torch.testing.assert_close(
        scores, 2 * torch.tensor([[0.5 / root, 1.0 / root, 1.1 / root], [0.6, 0.8, 1.0]]), atol=1e-6, rtol=0.0
    )
    rewards = heads.rewards(content, inputs, torch.tensor([[0, 2], [1, 1]]), torch.randn(2, 2, 3))
    torch.testing.assert_close(rewards, 2 * torch.tensor([[0.5 / root, 1.1 / root], [0.8, 0.8]]), atol=1e-6, rtol=0.0)


def test_untrained_le_is_its_content_start(tmp_path: Path) -> None:
    le = make(tmp_path)
    predicted = predict(le, sequences([3, 5, 1]), [[0, 7], [2, 4]])
    content = le.heads.content
    # After items 3, 5 with decay 1/2; the logged next item is 1.
    expected = torch.nn.functional.normalize(content[5] + 0.5 * content[3], dim=0)
    torch.testing.assert_close(predicted.states[1, :4], expected)
    torch.testing.assert_close(predicted.rewards[1], content[[2, 4]] @ expected / 0.25)
    torch.testing.assert_close(predicted.logged_rewards[1], content[1] @ expected / 0.25)


def test_heads_follow_their_equations(tmp_path: Path) -> None:
    le = shake(make(tmp_path))
    heads = le.heads
    generator = torch.Generator().manual_seed(3)
    hidden, action_hidden = 3.0 * torch.randn(1, 16, generator=generator), torch.randn(1, 1, 16, generator=generator)
    hidden[0, 0] = 99.0  # clipped
    with torch.no_grad():
        content, inputs = heads.inputs(torch.tensor([[4, 6, 1]]), hidden)  # an item more than the LE looks at
        state = heads.state(content, inputs)
        scores = heads.scores(state)
        rewards = heads.rewards(content, inputs, torch.tensor([[8]]), action_hidden)
    part = {name: value.detach().double().numpy() for name, value in heads.state_dict().items()}
    vectors, pooled = (np.float64(value) for value in (heads.content.numpy(), item_tokens().pooled))

    def unit(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    def standard(vector: Tensor) -> np.ndarray:
        return 5.0 * unit(np.clip((vector.double().numpy() - 0.1) / 0.7, -5.0, 5.0))

    newest, older = np.exp(part["ages"])
    recent = unit(newest * vectors[4] + older * vectors[6])
    mean = (newest * unit(pooled[4]) + older * unit(pooled[6])) / (newest + older)
    u = np.concatenate([standard(hidden[0]), 5.0 * recent, 5.0 * mean])
    np.testing.assert_allclose(state[0], [*recent, *(part["state_map.weight"] @ u)], atol=1e-5)
    for item in range(9):
        v = 5.0 * np.concatenate([vectors[item], unit(pooled[item])])
        similarity, learned = recent @ vectors[item], (part["state_map.weight"] @ u) @ (part["action_map.weight"] @ v)
        popularity = np.log(item + 3.0)  # item n has n events
        expected = np.exp(part["sharpness"]) * similarity + learned + part["popularity"] * popularity
        assert float(scores[0, item]) == pytest.approx(float(expected), abs=1e-4)
    expected = (
        np.exp(part["reward_sharpness"]) * similarity
        + (part["reward_state_map.weight"] @ u) @ (part["reward_action_map.weight"] @ v)
        + part["reward_bias.weight"] @ v[4:]
        + part["reward_bias.bias"]
        + part["reward_popularity"] * popularity
        + part["reward_score.weight"] @ standard(action_hidden[0, 0])
    )
    assert float(rewards[0, 0]) == pytest.approx(float(expected[0]), abs=1e-4)


def test_repeats_get_their_share_of_the_ranking() -> None:
    heads = plain_heads()
    heads.set_statistics(torch.randn(5, 3), np.array([0, 0, 1]), repeats=1, steps=5)
    assert heads.counts.tolist() == [2, 1, 0]
    assert float(heads.repeat_share) == pytest.approx(1.5 / 6)
    scores = torch.tensor([[0.0, np.log(3.0), 0.0, np.log(2.0)], [1.0, 1.0, 1.0, 9.0]])
    seen = torch.tensor([[True, False, False, True], [True, True, True, True]])
    # New items share 3/4 as 3 to 1, seen ones 1/4 as 1 to 2.
    np.testing.assert_allclose(heads.ranking(scores, seen).exp()[0], [1 / 12, 9 / 16, 3 / 16, 1 / 6], rtol=1e-5)
    assert int(heads.ranking(scores, seen)[1].argmax()) == 3  # nothing is new: the scores decide


def test_left_out_takes_the_logged_event_from_its_item_count() -> None:
    heads = plain_heads()
    heads.set_statistics(torch.randn(5, 3), np.array([0, 0, 0, 0, 1]), 0, 3)
    np.testing.assert_allclose(
        heads.leave_one_out_correction(torch.tensor([0, 1, 2])), np.log([6 / 7, 3 / 4, 1.0]), atol=1e-6
    )


def test_losses_by_hand() -> None:
    scores, logged = torch.tensor([[0.0, np.log(3.0), np.log(4.0)]]), torch.tensor([1])
    # Item 2 excluded leaves (1/4, 3/4); the logged item cannot be excluded.
    for excluded in ([False, False, True], [False, True, True]):
        assert state_loss(scores, logged, torch.tensor([excluded])).tolist() == pytest.approx([np.log(4 / 3)])
    # An item that stands among the candidates half the times counts twice: 3 of 2 + 3.
    inclusion = torch.tensor([0.5, 1.0, 1.0]).log()
    assert float(state_loss(scores, logged, torch.tensor([[False, False, True]]), inclusion)) == pytest.approx(
        np.log(5 / 3)
    )
    # Differences 0 and ln 3: -log sigmoid gives ln 2 and ln 4/3.
    rewards, sampled = torch.tensor([1.0]), torch.tensor([[1.0, 1.0 - np.log(3.0)]])
    assert reward_loss(rewards, sampled).tolist() == pytest.approx([(np.log(2) + np.log(4 / 3)) / 2])
    assert reward_centre(torch.tensor([1.0, 2.0]), torch.tensor([[3.0, -2.0], [-2.0, 0.0]])).tolist() == [8.5, 2.0]


def steps_of(le: Environment, log: Sequences) -> Steps:
    events = np.flatnonzero(learning_steps(log))
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(len(events), 16, generator=generator)
    return Steps(torch.from_numpy(events), hidden, torch.zeros(len(events), 1, dtype=torch.int64))


def test_all_items_as_candidates_are_the_whole_softmax(tmp_path: Path) -> None:
    le, order = shake(make(tmp_path)), torch.tensor([4, 7, 0, 8, 2, 1, 3, 6, 5])
    steps = steps_of(le, LOG)
    with torch.no_grad():
        whole = step_losses(le, LOG, steps, Candidates(None, None), 0.0)
        drawn = step_losses(le, LOG, steps, Candidates(order, torch.zeros(9)), 0.0)
        torch.testing.assert_close(drawn[0], whole[0])
        # The same by hand for the step 3, 5 -> 1: items 3 and 5 are excluded, and item 1 has an event less.
        content, inputs = le.heads.inputs(torch.tensor([[5, 3]]), steps.hidden[1:2])
        scores = le.heads.scores(le.heads.state(content, inputs))[0]
        scores[1] += le.heads.popularity * np.log(3 / 4)
        expected = -scores[[0, 1, 2, 4, 6, 7, 8]].log_softmax(dim=0)[1]
        torch.testing.assert_close(whole[0][1], expected)


def test_drawn_candidates_stand_for_all_items() -> None:
    rng, counts = np.random.default_rng(0), np.array([20, 9, 4, 2, 1, 1])
    scores = np.array([0.5, -1.0, 1.0, 2.0, 0.0, 1.5])
    sums = []
    for _ in range(4000):
        logged = rng.choice(6, size=2, p=counts / counts.sum())
        drawn = draw_candidates(logged, counts, 3, rng, torch.device("cpu"))
        assert drawn.items is not None
        assert drawn.log_inclusion is not None
        assert set(logged) <= set(drawn.items.tolist())
        sums.append(np.exp(scores[drawn.items.numpy()] - drawn.log_inclusion.numpy()).sum())
    assert np.mean(sums) == pytest.approx(np.exp(scores).sum(), rel=0.03)


def test_saved_le_gives_the_same_judgement(tmp_path: Path) -> None:
    le, actions = shake(make(tmp_path)), [[0, 7], [2, 4]]
    before = predict(le, sequences([3, 5, 1]), actions)
    le.save(tmp_path / "le", {"events": 1})
    loaded = environment.load(tmp_path / "le", tiny_llm.load(tmp_path, 2), item_tokens())
    after = predict(loaded, sequences([3, 5, 1]), actions)
    for name in ("states", "rewards", "logged_rewards"):  # a loaded one has another, faster attention
        torch.testing.assert_close(getattr(after, name), getattr(before, name), atol=1e-4, rtol=1e-5)
    content = item_tokens().content
    narrow = ItemTokens(item_tokens().token, item_tokens().pooled, content[:, :3])
    for other in (narrow, item_tokens(width=12), item_tokens(items=8)):
        with pytest.raises(LeaError, match=r"le: heads\.\w+(\.weight)? fits neither this LLM nor these item tokens"):
            environment.load(tmp_path / "le", tiny_llm.load(tmp_path, 2), other)
    write_json(tmp_path / "le" / "le.json", {"layers": 2})
    with pytest.raises(LeaError, match=r"le\.json: an LE of another version"):
        environment.load(tmp_path / "le", tiny_llm.load(tmp_path, 2), item_tokens())


def test_unknown_lora_target_is_named(tmp_path: Path) -> None:
    with pytest.raises(LeaError, match=r"finetune_le\.lora\.targets: .*nowhere"):
        make(tmp_path, lora_targets=["nowhere"])


def test_a_history_that_the_llm_cannot_read_is_refused(tmp_path: Path) -> None:
    model, p = tiny_llm.load(tmp_path), settings(history=128)
    with pytest.raises(LeaError, match=r"finetune_le\.history 128 .* lower it to 127"):
        environment.new(model, item_tokens(), p)


def test_what_is_trained_of_the_llm(tmp_path: Path) -> None:
    adapter = make(tmp_path / "adapter").adapter()
    assert len(adapter) == 2 * 2 * 2  # two factors of two targets in two layers
    assert all(".lora_" in name for name in adapter)
    le = make(tmp_path / "whole", lora_rank=0)
    whole = set(le.adapter())
    assert {name for name, _ in le.llm.decoder.named_parameters()} - whole == {"embed_tokens.weight"}
    assert {"layers.0.self_attn.q_proj.weight", "layers.1.mlp.up_proj.weight", "norm.weight"} <= whole


@pytest.mark.parametrize("rank", [2, 0])
def test_the_given_llm_stays_as_it_is(tmp_path: Path, rank: int) -> None:
    """Two LEs on one LLM, trained and loaded for inference, change neither its weights nor its modules or attention."""
    model, p = tiny_llm.load(tmp_path), settings(lora_rank=rank)
    model.causal.bfloat16()  # the weights of an LE of rank 0 are float32

    def described() -> tuple[object, ...]:
        parameters = {name: (value.dtype, value.requires_grad) for name, value in model.causal.named_parameters()}
        return fingerprint(model), str(model.causal), model.causal.config._attn_implementation, parameters

    before = described()
    first, second = (environment.new(model, item_tokens(), p) for _ in range(2))
    shake(first).save(tmp_path / "le", {})
    loaded = environment.load(tmp_path / "le", model, item_tokens())
    assert loaded.use_prefix_attention
    assert described() == before
    assert first.llm.decoder is not second.llm.decoder
    shared = {value.data_ptr() for value in model.decoder.parameters()}
    frozen = [value for value in first.llm.decoder.parameters() if not value.requires_grad]
    assert rank == 0 or (len(frozen) == len(shared) and all(value.data_ptr() in shared for value in frozen))
