"""Policies as ONNX graphs: the same answers as torch's, ties, exclusion, 8-bit integers, and life without torch."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from lea_core.common.artifacts import write_json
from lea_core.common.errors import DEBUG, LeaError
from lea_core.common.registry import BACKBONES
from lea_core.models.policy_network import PolicyNetwork
from lea_core.serving import Policy, onnx_export
from lea_core.serving.folder import seal
from lea_core.serving.onnx_export import export, export_folder, quiet
from lea_core.serving.onnx_parity import check_parity, ndcg
from lea_core.serving.onnx_policy import GRAPH, OnnxPolicy
from lea_core.serving.recommender import Recommender
from tests.models.test_policy_network import SETTINGS
from tests.support.tiny_policy import write_policy

ITEMS, HISTORY = 40, 6
IDS = [f"i{item}" for item in range(ITEMS)]
LIMIT = 1e-5


def random_histories(count: int, longest: int) -> list[list[str]]:
    """Of 1 to `longest` items, some twice: each is drawn from ten."""
    rng = np.random.default_rng(count)
    lengths = [1, longest, *rng.integers(1, longest + 1, count)][:count]
    return [[IDS[item] for item in rng.choice(rng.permutation(ITEMS)[:10], length)] for length in lengths]


# One graph of each backbone, and one without the repeat bias.
NO_BIAS = BACKBONES.names[0]


@pytest.fixture(scope="module", params=BACKBONES.names)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, OnnxPolicy]:
    """A policy of every backbone and its graph."""
    folder = tmp_path_factory.mktemp("policy")
    written = write_policy(folder, request.param, IDS, HISTORY)
    config = replace(written.config, repeat_bias=request.param != NO_BIAS)
    network = PolicyNetwork(config).eval()
    for weight in network.parameters():  # scores of about 1, which float32 knows to 1e-7
        torch.nn.init.normal_(weight, std=0.3)
    network.save(folder)
    write_json(folder / "provenance.json", {"params": {"mask_seen": False}})
    seal(folder)
    # What was traced before changes nothing: torch keeps how it traced the first GRU of a process.
    with quiet():
        torch.export.export(torch.nn.GRU(2, 2), (torch.zeros(1, 2, 2),))
    export_folder(folder, folder / "onnx", 10, False)
    return Policy.load(folder), OnnxPolicy.load(folder / "onnx")


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
    if not exclude_seen:  # as the policy was evaluated
        assert graph.recommend(histories, k=7).items == policy.recommend(histories, k=7).items == found.items
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
    assert str(Path(__file__).parents[2]).encode() not in content


def test_it_serves_without_torch(folder: Path) -> None:
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "onnx", "onnxscript", "pandas", "polars", "rich", "typer"):
            raise ImportError(f"{{name}} is not there")
sys.meta_path.insert(0, Block())
from lea_core.serving.onnx_policy import OnnxPolicy
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


def test_int8_is_smaller_and_says_what_it_costs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG, "1")
    ids = [str(item) for item in range(3000)]
    write_policy(tmp_path / "policy", ids=ids, history=HISTORY)
    lines = export_folder(tmp_path / "policy", tmp_path / "small", 10, True)
    added = 3000 - ITEMS  # to a graph of float32; the tables of embeddings and actor are what grows
    size = (tmp_path / "small" / GRAPH).stat().st_size - (folder / "onnx" / GRAPH).stat().st_size
    assert size < 1.5 * added * 2 * SETTINGS["sasrec"]["width"]  # bytes, where float32 takes four times as many
    made = json.loads((tmp_path / "small" / "onnx.json").read_text())
    assert 0.7 < made["int8_overlap"] < 1
    assert "int8, on random histories: scores differ by" in lines[1]
    assert "LeaError: interactions/items.parquet: not found" in capsys.readouterr().err.replace(f"{tmp_path}/", "")
    assert OnnxPolicy.load(tmp_path / "small").recommend([["5", "6"]], 2999).indices.shape == (1, 2999)  # any k


# ---- what is no policy's graph


class Wrong(Recommender):
    """A runtime whose answers are a policy's, changed. change: what it makes of items (B, k) and scores (B, k)."""

    def __init__(self, policy: Policy, change: Callable[[np.ndarray, np.ndarray], object]) -> None:
        super().__init__(policy.vocabulary)
        self.policy, self.change = policy, change
        self.scores_at_once = policy.scores_at_once

    def _best(self, *given: Any) -> tuple[np.ndarray, np.ndarray]:
        items, scores = self.policy._best(*given)
        self.change(items, scores)
        return items, scores


def other_items(items: np.ndarray, _: np.ndarray) -> None:
    items[:] = (items + 1) % ITEMS


def reverse(items: np.ndarray, _: np.ndarray) -> None:
    items[:] = items[:, ::-1].copy()


def no_scores(_: np.ndarray, scores: np.ndarray) -> None:
    scores[:] = np.nan


def other_items_without_scores(items: np.ndarray, scores: np.ndarray) -> None:
    other_items(items, scores)
    no_scores(items, scores)


def one_less(items: np.ndarray, scores: np.ndarray) -> None:
    items[0, -1], scores[0, -1] = -1, np.nan


def no_item_with_a_score(items: np.ndarray, _: np.ndarray) -> None:
    items[0, -1] = -1


def twice(items: np.ndarray, _: np.ndarray) -> None:
    items[0, 1] = items[0, 0]


@pytest.mark.parametrize(
    "change", [other_items, reverse, no_scores, other_items_without_scores, one_less, no_item_with_a_score]
)
def test_answers_that_are_not_the_policys(change: Callable[[np.ndarray, np.ndarray], object], tmp_path: Path) -> None:
    write_policy(tmp_path, ids=IDS, history=HISTORY)
    policy = Policy.load(tmp_path)
    with pytest.raises(LeaError, match="the graph does not answer as the policy does: scores differ by"):
        check_parity(policy, Wrong(policy, change))
    found = check_parity(policy, Wrong(policy, lambda *_: None))
    assert (found.overlap, found.difference) == (1, pytest.approx(0, abs=1e-5))


def test_items_of_equal_scores_may_change_places_but_not_come_twice(folder: Path) -> None:
    policy = Policy.load(folder)
    assert check_parity(policy, Wrong(policy, reverse)).difference == 0
    # The first random history is of one item, and of equal scores the first items come first.
    message = "after i34 it names 'i0' twice: nothing was published"
    with pytest.raises(LeaError, match=message):
        check_parity(policy, Wrong(policy, twice))


def test_another_policys_graph_is_not_published(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_policy(tmp_path / "policy", ids=IDS, history=HISTORY)
    monkeypatch.setattr(onnx_export, "export", lambda _, path, __: shutil.copyfile(folder / "onnx" / GRAPH, path))
    with pytest.raises(
        LeaError, match=r"does not answer as the policy does: scores differ by \d.* are allowed: nothing"
    ):
        export_folder(tmp_path / "policy", tmp_path / "out", 3, False)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


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
    made = json.loads((broken / "onnx.json").read_text())
    assert made["exclude_seen"] is True
    write_json(broken / "onnx.json", {**made, "exclude_seen": "no"})
    seal(broken)
    with pytest.raises(LeaError, match=r"onnx\.json: exclude_seen is 'no', not true or false"):
        OnnxPolicy.load(broken)
    (broken / GRAPH).write_bytes(b"no graph")
    with pytest.raises(LeaError, match=r"policy\.onnx: has changed"):
        OnnxPolicy.load(broken)
    write_json(broken / "onnx.json", {name: made[name] for name in ("num_items", "history")})
    seal(broken)
    with pytest.raises(LeaError, match=r"policy\.onnx: no graph that this onnxruntime can run"):
        OnnxPolicy.load(broken)


def test_ndcg_by_hand() -> None:
    lists = np.array([[3, 1, 2], [0, 4, -1], [5, 6, 7]])
    assert ndcg(lists, np.array([3, 4, 9])) == pytest.approx((1 + 1 / np.log2(3)) / 3)
