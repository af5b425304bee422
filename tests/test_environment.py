"""environment.py: the LE starts as content similarity, and one masked pass equals one prompt per state and action."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lea_core import environment, le_losses
from lea_core.environment import Environment, Shape, prefix_mask
from lea_core.errors import LeaError
from lea_core.item_tokens import ItemTokens
from tests import tiny_llm


def make(folder: Path, kind: str = "llama", **changes: object) -> Environment:
    """An LE over nine items with a random LLM and random content."""
    rng = np.random.default_rng(0)
    content = rng.normal(size=(9, 4)).astype(np.float32)
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    tokens = ItemTokens(
        token=rng.normal(size=(9, 16)).astype(np.float32),
        pooled=rng.normal(size=(9, 16)).astype(np.float32),
        content=content,
    )
    targets = ["c_attn"] if kind == "gpt2" else ["q_proj", "v_proj"]
    shape = Shape(2, 6, 2, 0.5, 0.25, 2, 4, targets)
    torch.manual_seed(0)
    return Environment(tiny_llm.load(folder, 2, kind), tokens, Shape(**{**vars(shape), **changes}))


def shake(le: Environment) -> Environment:
    """Give every trainable part a random value, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in [*le.adapter().values(), *le.parameters()]:
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return le


def test_untrained_le_is_the_content_similarity_of_recent_items(tmp_path: Path) -> None:
    le = make(tmp_path)
    items = torch.tensor([[3, 5, 1]])
    judged = le.judge(items.numpy(), np.array([[[0], [7], [2]]]))
    content = le.content
    # After items 3, 5, 1 with two recent items and decay 1/2: b = norm(c_1 + c_5 / 2).
    expected = F.normalize(content[1] + 0.5 * content[5], dim=0)
    torch.testing.assert_close(judged.state[0, 2], expected)
    torch.testing.assert_close(judged.scores[0, 2], content @ expected / 0.25)
    torch.testing.assert_close(judged.action_rewards[0, 2, 0], content[2] @ expected / 0.25)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_one_masked_pass_equals_one_prompt_per_state_and_action(tmp_path: Path, kind: str) -> None:
    le = shake(make(tmp_path, kind))
    items = torch.tensor([[3, 5, 1, 8], [2, 0, -1, -1]])
    actions = torch.tensor([[[0, 7], [2, 2], [4, 6], [1, 3]], [[5, 6], [1, 8], [0, 0], [0, 0]]])
    with torch.no_grad():
        hidden, action_hidden = le.hidden_with_actions(items, actions)
        for row, time in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]:
            prefix = items[row : row + 1, : time + 1]
            torch.testing.assert_close(hidden[row, time], le.hidden(prefix)[0, -1], atol=1e-5, rtol=1e-4)
            for index in range(2):
                prompt = torch.cat([prefix, actions[row : row + 1, time, index : index + 1]], dim=1)
                torch.testing.assert_close(
                    action_hidden[row, time, index], le.hidden(prompt)[0, -1], atol=1e-5, rtol=1e-4
                )


def test_prefix_mask_by_hand() -> None:
    sees = prefix_mask(2, 1, torch.float32, torch.device("cpu"))[0, 0] == 0
    # Rows and columns: item 0, item 1, action after item 0, action after item 1.
    assert sees.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1]]


def test_saved_le_gives_the_same_judgement(tmp_path: Path) -> None:
    le = shake(make(tmp_path))
    items, actions = np.array([[3, 5, 1]]), np.array([[[0], [7], [2]]])
    before = le.judge(items, actions)
    le.save(tmp_path / "le", {"events": 1})
    tokens = ItemTokens(le.token.numpy(), le.pooled.numpy(), le.content.numpy())
    after = environment.load(tmp_path / "le", tiny_llm.load(tmp_path, 2), tokens).judge(items, actions)
    assert torch.equal(before.state, after.state)
    assert torch.equal(before.action_rewards, after.action_rewards)
    narrow = ItemTokens(tokens.token, tokens.pooled, tokens.content[:, :3])
    with pytest.raises(LeaError, match=r"le: (action|state)_head\.\w+ fits neither this LLM nor these item tokens"):
        environment.load(tmp_path / "le", tiny_llm.load(tmp_path, 2), narrow)


def test_unknown_lora_target_is_named(tmp_path: Path) -> None:
    with pytest.raises(LeaError, match=r"finetune_le\.lora\.targets: .*nowhere"):
        make(tmp_path, lora_targets=["nowhere"])


def test_le_losses_by_hand() -> None:
    # softmax of (0, ln 3) is (1/4, 3/4): the surprise of the second is ln 4/3.
    scores = torch.tensor([[0.0, np.log(3.0)]])
    assert float(le_losses.state_loss(scores, torch.tensor([1]))) == pytest.approx(np.log(4 / 3))
    # Differences 0 and ln 3: -log sigmoid gives ln 2 and ln 4/3.
    logged, sampled = torch.tensor([[1.0]]), torch.tensor([[1.0, 1.0 - np.log(3.0)]])
    assert float(le_losses.reward_loss(logged, sampled)) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    assert float(le_losses.reward_centre(torch.tensor([[1.0]]), torch.tensor([[3.0, 2.0]]))) == pytest.approx(4.0)
