import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from lea_core.common.errors import LeaError
from lea_core.common.registry import BACKBONES
from lea_core.models.policy_network import REPEAT_STEP, PolicyConfig, PolicyNetwork, load_network, read_items

# The first test case of each backbone as policy.json has it, of width 8.
SETTINGS = {name: asdict(BACKBONES.load(name).CASES[0]) | {"width": 8} for name in BACKBONES.names}
HISTORIES = np.array([[-1, -1, 3, 4], [1, 2, 3, 4]])


def policy(backbone: str = "sasrec", num_items: int = 6) -> PolicyNetwork:
    torch.manual_seed(0)
    return PolicyNetwork(PolicyConfig(backbone, SETTINGS[backbone], num_items, history=3))


@pytest.mark.parametrize("backbone", sorted(SETTINGS))
def test_what_is_saved_scores_the_same(backbone: str, tmp_path: Path) -> None:
    one = policy(backbone)
    one.save(tmp_path)
    two = load_network(tmp_path)
    assert two.config == one.config
    assert torch.equal(one.scores(HISTORIES), two.scores(HISTORIES))
    assert one.scores(HISTORIES).shape == (2, 6)
    assert one.training  # scoring, which has no dropout, does not end the training


def test_only_the_last_items_count() -> None:
    scores = policy().scores(np.array([[0, 2, 3, 4], [5, 2, 3, 4]]))
    assert torch.equal(scores[0], scores[1])


@pytest.mark.parametrize(
    ("histories", "message"),
    [(np.array([[3, 4], [-1, -1]]), "a history is empty"), (np.array([[3, 6]]), "item 6 is unknown.*items 0 to 5")],
)
def test_bad_histories(histories: np.ndarray, message: str) -> None:
    with pytest.raises(LeaError, match=message):
        policy().scores(histories)


def test_broken_folders(tmp_path: Path) -> None:
    with pytest.raises(LeaError, match=r"policy\.json: not found"):
        load_network(tmp_path)
    policy().save(tmp_path)
    weights = tmp_path / "policy.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(LeaError, match=r"policy\.safetensors: broken safetensors file"):
        load_network(tmp_path)
    policy(num_items=7).save(tmp_path)
    weights.write_bytes(whole)
    with pytest.raises(LeaError, match=r"policy\.safetensors: weights of another policy"):
        load_network(tmp_path)
    (tmp_path / "policy.json").write_text('{"backbone": "lstm", "settings": {}, "num_items": 6, "history": 3}')
    with pytest.raises(LeaError, match=r"policy\.json: not a policy's description \(no backbone is called 'lstm'"):
        load_network(tmp_path)


def test_it_needs_no_language_model() -> None:
    code = (
        "import sys, lea_core.models.policy_network; "
        "print(sorted({'transformers', 'peft', 'lea_core.environment', 'lea_core.llm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_items_that_are_read_by_hand() -> None:
    """Of each event its row up to it, every item once, padding wherever it stands left out."""
    items = torch.tensor([[-1, 4, 2, 4], [3, 3, -1, -1]])
    owner, read = read_items(items, torch.tensor([3, 1, 5, 4]))
    pairs = sorted(zip(owner.tolist(), read.tolist(), strict=True))
    assert pairs == [(0, 2), (0, 4), (1, 4), (2, 3), (3, 3)]


def test_the_repeat_bias_moves_what_was_read_and_nothing_else() -> None:
    one = policy()
    config = PolicyConfig("sasrec", SETTINGS["sasrec"], 6, 3, repeat_bias=True)
    two = PolicyNetwork(config)
    two.load_state_dict(one.state_dict() | {"repeat_bias": torch.tensor(-0.7)})
    expected = one.scores(HISTORIES).clone()
    expected[0, [3, 4]] -= 0.7 * REPEAT_STEP
    expected[1, [2, 3, 4]] -= 0.7 * REPEAT_STEP  # item 1 is beyond what is read
    torch.testing.assert_close(two.scores(HISTORIES), expected)
    two.scored(two(torch.tensor([[1, 1]]))[:, -1], torch.tensor([[1, 1]]), torch.tensor([1])).log_softmax(1)[
        0, 2
    ].backward()
    assert two.repeat_bias is not None
    assert float(two.repeat_bias.grad) < 0  # item 2, never read, gets likelier as the bias falls
