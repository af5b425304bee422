"""Policies as ONNX graphs: the same answers as torch's, ties, exclusion, 8-bit integers, and life without torch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from lea_core.errors import LeaError
from lea_core.policy import Policy, onnx_parity
from lea_core.policy.folder import seal
from lea_core.policy.onnx_export import export, export_folder
from lea_core.policy.onnx_parity import ndcg
from lea_core.policy.onnx_policy import GRAPH, OnnxPolicy
from lea_core.policy_network import PolicyNetwork, load_network
from tests.test_policy import write_policy
from tests.test_policy_network import SETTINGS

ITEMS, HISTORY = 40, 6
IDS = [f"i{item}" for item in range(ITEMS)]
LIMIT = 1e-5


def random_histories(count: int, longest: int) -> list[list[str]]:
    """Of 1 to `longest` items, some twice: each is drawn from ten."""
    rng = np.random.default_rng(count)
    lengths = [1, longest, *rng.integers(1, longest + 1, count)][:count]
    return [[IDS[item] for item in rng.choice(rng.permutation(ITEMS)[:10], length)] for length in lengths]


@pytest.fixture(scope="module", params=[*sorted(SETTINGS), "without repeat bias", "two layers"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, OnnxPolicy]:
    """A policy of every backbone and its graph."""
    folder = tmp_path_factory.mktemp("policy")
    backbone = request.param if request.param in SETTINGS else "sasrec"
    network = write_policy(folder, backbone, IDS, HISTORY)
    if request.param == "without repeat bias":
        network = change(folder, repeat_bias=False)
    if request.param == "two layers":
        network = change(folder, settings={**SETTINGS["sasrec"], "layers": 2})
    for weight in network.parameters():  # scores of about 1, which float32 knows to 1e-7
        torch.nn.init.normal_(weight, std=0.3)
    network.save(folder)
    seal(folder)
    export_folder(folder, folder / "onnx", 10, False)
    return Policy.load(folder), OnnxPolicy.load(folder / "onnx")


def change(folder: Path, **changes: Any) -> PolicyNetwork:
    """A new network of a changed description."""
    return PolicyNetwork(replace(load_network(folder).config, **changes)).eval()


@pytest.mark.parametrize("count", [1, 33])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_graph_answers_as_the_network(pair: tuple[Policy, OnnxPolicy], count: int, exclude_seen: bool) -> None:
    """Against every score of the training code's network, sorted; a row at a time."""
    policy, graph = pair
    histories = random_histories(count, 3 * HISTORY)
    found = graph.recommend(histories, k=7, exclude_seen=exclude_seen)
    for row, history in enumerate(histories):
        items = torch.tensor([[IDS.index(item) for item in history[-HISTORY:]]])
        with torch.inference_mode():
            last = torch.tensor([items.shape[1] - 1])
            scores = policy.network.scored(policy.network(items)[:, -1], items, last)[0].numpy()
        candidates = [item for item in range(ITEMS) if not (exclude_seen and IDS[item] in history)]
        best = sorted(candidates, key=lambda item: -scores[item])[:7]
        assert found.indices[row].tolist() == best
        np.testing.assert_allclose(found.scores[row], scores[best], rtol=0, atol=LIMIT)
    torch_answer = policy.recommend(histories, k=7, exclude_seen=exclude_seen)
    assert torch_answer.items == found.items
    np.testing.assert_allclose(torch_answer.scores, found.scores, rtol=0, atol=LIMIT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that likes all items the same, and its graph for three best."""
    folder = tmp_path_factory.mktemp("equal")
    network = write_policy(folder, ids=IDS, history=HISTORY)
    for weight in (network.actor.weight, network.actor.bias, network.repeat_bias):
        assert weight is not None
        torch.nn.init.zeros_(weight)
    network.save(folder)
    seal(folder)
    export_folder(folder, folder / "onnx", 3, False)
    return folder


def test_equal_scores_go_by_the_lower_item(folder: Path) -> None:
    graph = OnnxPolicy.load(folder / "onnx")
    for k in (1, 3, 17, ITEMS, ITEMS + 5):
        assert (
            graph.recommend([["i1", "i20"]], k).indices[0].tolist()
            == ([item for item in range(ITEMS) if item not in (1, 20)] + [-1, -1])[:k]
        )


def test_what_is_excluded_and_what_is_left(folder: Path) -> None:
    """All but three items seen, most of them long before what the network reads; none at all; item 0 is no padding."""
    graph = OnnxPolicy.load(folder / "onnx")
    found = graph.recommend([IDS[:-3], IDS, ["i5"], []], k=4)
    assert found.indices[:3].tolist() == [[37, 38, 39, -1], [-1] * 4, [0, 1, 2, 3]]
    assert np.isnan(found.scores[0]).tolist() == [False, False, False, True]
    assert found.fallback.tolist() == [False, False, False, True]
    assert found.items[3] == Policy.load(folder).recommend([[]], k=4).items[0]


def test_the_graph_alone(folder: Path) -> None:
    """For other runtimes: k may be left out; a row without items has an answer; nothing of this machine is in it."""
    path = folder / "onnx" / GRAPH
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    best, scores = session.run(None, {"items": np.array([[4, -1], [-1, -1]]), "seen": np.array([[0], [-1]])})
    assert best.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert (best.dtype, scores.dtype) == (np.int64, np.float32)
    content = path.read_bytes()
    assert b".py" not in content
    assert str(Path(__file__).parent.parent).encode() not in content


def test_it_serves_without_torch(folder: Path) -> None:
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "onnx", "onnxscript", "pandas", "polars", "rich", "typer"):
            raise ImportError(f"{{name}} is not there")
sys.meta_path.insert(0, Block())
from lea_core.policy.onnx_policy import OnnxPolicy
print(OnnxPolicy.load({str(folder / "onnx")!r}).recommend([["i0"], []], k=2).items)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(Policy.load(folder).recommend([["i0"], []], k=2).items)


def test_the_command_takes_the_graph_too(folder: Path) -> None:
    """Without torch, and with the answers of the policy."""
    code = f"""
import sys
sys.modules["torch"] = None
from lea_core.cli import app
app(["recommend", {str(folder / "onnx")!r}, "-k", "2"])
"""
    given = '["i0"]\n[]\n'
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True)
    items = [json.loads(line)["items"] for line in done.stdout.splitlines()]
    assert items == Policy.load(folder).recommend([["i0"], []], k=2).items


def test_int8_is_smaller_and_says_what_it_costs(tmp_path: Path) -> None:
    ids = [str(item) for item in range(3000)]
    write_policy(tmp_path / "policy", ids=ids, history=HISTORY)
    export_folder(tmp_path / "policy", tmp_path / "whole", 10, False)
    lines = export_folder(tmp_path / "policy", tmp_path / "small", 10, True)
    sizes = [(tmp_path / name / GRAPH).stat().st_size for name in ("whole", "small")]
    tables = 2 * 3000 * SETTINGS["sasrec"]["width"]
    assert sizes[0] - sizes[1] > 2.5 * tables  # three of four bytes of both tables, less what is added
    made = json.loads((tmp_path / "small" / "onnx.json").read_text())
    assert 0.7 < made["int8_overlap"] < 1
    assert "int8, on random histories: scores differ by" in lines[1]
    assert OnnxPolicy.load(tmp_path / "small").recommend([["5", "6"]], 2999).indices.shape == (1, 2999)  # any k


def test_a_graph_that_answers_otherwise_is_not_published(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_parity, "TOLERANCE", -1.0)
    with pytest.raises(LeaError, match="the graph does not answer as the policy does: scores differ by 0"):
        export_folder(folder, tmp_path / "out", 3, False)
    assert not list(tmp_path.iterdir())


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LeaError, match=r"has no policy\.onnx: make such a folder with `lea export --onnx`"):
        OnnxPolicy.load(folder)
    with pytest.raises(LeaError, match=r"has no policy\.safetensors"):
        Policy.load(folder / "onnx")
    with pytest.raises(LeaError, match="k is 41: give 1 to 40"):
        export(Policy.load(folder), tmp_path / "policy.onnx", 41)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (folder / "onnx").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / GRAPH).write_bytes(b"no graph")
    with pytest.raises(LeaError, match=r"policy\.onnx: has changed"):
        OnnxPolicy.load(broken)
    seal(broken)
    with pytest.raises(LeaError, match=r"policy\.onnx: no graph that this onnxruntime can run"):
        OnnxPolicy.load(broken)


def test_ndcg_by_hand() -> None:
    lists = np.array([[3, 1, 2], [0, 4, -1], [5, 6, 7]])
    assert ndcg(lists, np.array([3, 4, 9])) == pytest.approx((1 + 1 / np.log2(3)) / 3)
