"""New items by the trained text path: the fit, the larger network, the folder, the texts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lea_core import params
from lea_core.cli.new_items import add_items as command
from lea_core.common import tables
from lea_core.common.artifacts import write_tensors
from lea_core.common.errors import LeaError
from lea_core.llm import language_model
from lea_core.llm.pooled_tokens import pooled_tokens
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.serving import Policy
from lea_core.serving.folder import Vocabulary, check_folder, seal, write_vocabulary
from lea_core.serving.item_texts import export_item_path, read_new_items, vectors_of
from lea_core.serving.new_items import ITEM_PATH, add_items, check_ids, read_item_path, write_item_path
from lea_core.serving.text_projection import extend, fit_item_path, rows_of
from tests.models.test_policy_network import SETTINGS
from tests.support import tiny_llm
from tests.support.lane import PARAMS
from tests.support.tiny_project import log, write_log

ITEMS, WIDTH, COLUMNS = 60, 8, 12
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(ITEMS, COLUMNS)).astype(np.float32)
COUNTS = RNG.integers(1, 30, ITEMS)
HISTORIES = np.array([[-1, -1, 3], [1, 2, 3]])


def linear_world(backbone: str = "sasrec", noise: float = 0.0) -> tuple[PolicyNetwork, np.ndarray, np.ndarray]:
    """A policy whose rows are a linear map of the vectors, and the maps (COLUMNS + 1, WIDTH)."""
    torch.manual_seed(0)
    network = PolicyNetwork(PolicyConfig(backbone, SETTINGS[backbone], ITEMS, history=3)).eval()
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=(COLUMNS + 1, WIDTH)) for _ in range(2)]
    ones = np.concatenate([VECTORS, np.ones((ITEMS, 1))], axis=1)
    with torch.no_grad():
        for weight, map_ in zip((network.backbone.item_embedding.weight, network.actor.weight), maps, strict=True):
            weight.copy_(torch.from_numpy(ones @ map_ + noise * rng.normal(size=(ITEMS, WIDTH))))
        network.actor.bias.copy_(torch.linspace(-1, 1, ITEMS))
    return network, maps[0], maps[1]


def test_rows_that_are_a_linear_map_are_recovered() -> None:
    network, embedding, actor = linear_world()
    path = fit_item_path(network, VECTORS, COUNTS)
    new = RNG.normal(size=(5, COLUMNS)).astype(np.float32)
    ones = np.concatenate([new, np.ones((5, 1))], axis=1)
    found = rows_of(path, new)
    np.testing.assert_allclose(found[0], ones @ embedding, atol=0.02)  # the penalty shrinks a little
    np.testing.assert_allclose(found[1], ones @ actor, atol=0.02)
    assert path["explained"].min() > 0.999
    weights = COUNTS / (COUNTS + 10)
    assert path["bias"] == pytest.approx((weights * np.linspace(-1, 1, ITEMS)).sum() / weights.sum())


def test_a_row_that_training_left_where_it_started_is_given_exactly() -> None:
    network, _, _ = linear_world()
    with torch.no_grad():
        network.backbone.item_embedding.weight.copy_(torch.from_numpy(0.3 * VECTORS[:, :WIDTH]))
    path = fit_item_path(network, VECTORS, COUNTS)
    assert path["explained"][0] == pytest.approx(1.0)
    np.testing.assert_allclose(rows_of(path, VECTORS)[0], 0.3 * VECTORS[:, :WIDTH], atol=1e-6)


def test_rows_that_no_text_tells_end_at_their_mean() -> None:
    """Noise alone: what is predicted explains nothing, and stays near the mean of the rows."""
    network, _, _ = linear_world()
    rng = np.random.default_rng(2)
    with torch.no_grad():
        network.actor.weight.copy_(torch.from_numpy(5.0 + rng.normal(size=(ITEMS, WIDTH))))
    path = fit_item_path(network, VECTORS, COUNTS)
    assert path["explained"][1] < 0.1
    assert abs(rows_of(path, VECTORS)[1] - 5.0).mean() < 0.5


def test_items_without_events_or_text_have_no_say() -> None:
    network, _, _ = linear_world()
    expected = fit_item_path(network, VECTORS, np.where(np.arange(ITEMS) < 40, COUNTS, 0))
    vectors = VECTORS.copy()
    vectors[40:] = 0.0
    again = fit_item_path(network, vectors, COUNTS)
    assert all(np.array_equal(expected[name], again[name]) for name in expected)


@pytest.mark.parametrize("backbone", sorted(SETTINGS))
def test_known_items_keep_their_scores_and_a_twin_gets_its_neighbours(backbone: str) -> None:
    """In the linear world an item with a known text scores as that one does, but for its bias and the boost."""
    network, _, _ = linear_world(backbone)
    path = fit_item_path(network, VECTORS, COUNTS)
    larger = extend(network, path, VECTORS[[7, 20]], boost=0.5)
    before, after = network.scores(HISTORIES), larger.scores(HISTORIES)
    assert larger.config == replace(network.config, num_items=ITEMS + 2)
    assert torch.equal(before, after[:, :ITEMS])
    known = network.actor.bias.detach()[[7, 20]]
    twins = before[:, [7, 20]] - known + float(path["bias"]) + 0.5
    torch.testing.assert_close(after[:, ITEMS:], twins, atol=0.1, rtol=0.0)
    read = larger.scores(np.array([[1, 2, ITEMS]]))  # a history that ends with the twin reads as the known one's
    torch.testing.assert_close(read[:, :ITEMS], network.scores(np.array([[1, 2, 7]])), atol=0.1, rtol=0.02)


def test_what_is_added_beside_changes_no_row() -> None:
    network, _, _ = linear_world()
    path = fit_item_path(network, VECTORS, COUNTS)
    alone, together = rows_of(path, VECTORS[3:4]), rows_of(path, VECTORS)
    assert all(np.array_equal(one[0], many[3]) for one, many in zip(alone, together, strict=True))


def test_bad_vectors() -> None:
    network, _, _ = linear_world()
    path = fit_item_path(network, VECTORS, COUNTS)
    with pytest.raises(LeaError, match=r"\(2, 5\), but the policy's text path reads vectors of width 12"):
        extend(network, path, np.ones((2, 5)))
    with pytest.raises(LeaError, match="infinite or none"):
        extend(network, path, np.full((1, COLUMNS), np.nan))
    with pytest.raises(LeaError, match=r"item vectors \(59, 12\) and 60 counts are not of a policy of 60"):
        fit_item_path(network, VECTORS[1:], COUNTS)
    with pytest.raises(LeaError, match="9 items have text and training events"):
        fit_item_path(network, VECTORS, np.where(np.arange(ITEMS) < 9, COUNTS, 0))


def policy_folder(folder: Path, **reading: Any) -> Path:
    """A policy folder of the linear world, with its text path."""
    network, _, _ = linear_world()
    folder.mkdir()
    network.save(folder)
    write_vocabulary(folder, Vocabulary([f"i{item}" for item in range(ITEMS)], COUNTS))
    statistics = {"mean": np.zeros(5), "map": np.ones((5, COLUMNS))}
    said = {"llm": "a hash", "layer": 2, "text_tokens": 8, "text": "{title}"} | reading
    write_item_path(folder / ITEM_PATH, fit_item_path(network, VECTORS, COUNTS) | statistics, said)
    (folder / "README.md").write_text("# Card\n")
    (folder / "policy.onnx").write_text("of the former items")
    seal(folder)
    return folder


def test_a_folder_with_items_added(tmp_path: Path) -> None:
    one = policy_folder(tmp_path / "one")
    add_items(one, tmp_path / "two", ["new", "7"], VECTORS[[7, 8]])
    before, after = Policy.load(one), Policy.load(tmp_path / "two")
    assert after.item_ids == [*before.item_ids, "new", "7"]
    assert after.counts.tolist() == [*before.counts.tolist(), 0, 0]
    assert "policy.onnx" not in check_folder(tmp_path / "two")  # it holds the former items
    history = [["i1", "new"], [7]]
    assert after.recommend(history, k=ITEMS).unknown.tolist() == [0, 0]
    assert before.recommend(history).fallback.tolist() == [False, True]
    assert "2 items without interactions" in (tmp_path / "two" / "README.md").read_text()
    add_items(tmp_path / "two", tmp_path / "two", ["newer"], VECTORS[[9]], boost=2.0)  # in its own place
    notes = json.loads((tmp_path / "two" / "provenance.json").read_text())["added_items"]
    assert [(note["items"], note["boost"]) for note in notes] == [(2, 0.5), (1, 2.0)]
    assert Policy.load(tmp_path / "two").item_ids[-3:] == ["new", "7", "newer"]


@pytest.mark.parametrize(
    ("ids", "rows", "message"),
    [
        (["a", "i3"], [0, 1], "item 'i3' is known to the policy already"),
        (["a", "a"], [0, 1], "item 'a' is given twice"),
        (["a", ""], [0, 1], "new item 1 has an empty id"),
        (["a"], [0, 1], "1 item ids and 2 vectors"),
        ([], [], "0 item ids and 0 vectors"),
    ],
)
def test_items_that_are_refused(ids: list[str], rows: list[int], message: str, tmp_path: Path) -> None:
    one = policy_folder(tmp_path / "one")
    with pytest.raises(LeaError, match=message):
        add_items(one, tmp_path / "two", ids, VECTORS[rows])
    assert not (tmp_path / "two").exists()


def test_whole_numbers_with_a_point_are_ids_without_it() -> None:
    assert check_ids(["7.0", "8"], ["1", "2"]) == ["7", "8"]
    assert check_ids(["7.0", "8"], ["1", "2-beta"]) == ["7.0", "8"]  # not all are numbers
    for ids, known, message in (
        (["1.0"], ["1", "2"], "item '1' is known to the policy already"),
        (["x", "1.0"], ["1", "2"], "item '1' is known to the policy already"),
        (["7.0", "7"], ["1", "2"], "item '7' is given twice"),
    ):
        with pytest.raises(LeaError, match=message):
            check_ids(ids, known)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    one = policy_folder(tmp_path / "one")
    with pytest.raises(LeaError, match="item 'b' has no text"):
        add_items(one, tmp_path / "two", ["a", "b"], np.stack([VECTORS[0], 0 * VECTORS[0]]))
    for added in (None, 3, "x", {"a": 1}):
        (one / "provenance.json").write_text(json.dumps({"added_items": added}))
        seal(one)
        with pytest.raises(LeaError, match=r"provenance\.json: added_items is .*, not a list"):
            add_items(one, tmp_path / "two", ["a"], VECTORS[:1])
    for reading in ({"layer": None}, {"llm": 3}):
        with pytest.raises(LeaError, match=r"item_path\.safetensors: holds no text path"):
            read_item_path(policy_folder(tmp_path / next(iter(reading)), **reading))
    (tmp_path / "home").mkdir()
    with pytest.raises(LeaError, match="is there and no policy folder"):
        add_items(one, tmp_path / "home", ["a"], VECTORS[:1])
    write_tensors(one / ITEM_PATH, {"embedding": np.zeros((3, 2))})
    with pytest.raises(LeaError, match=r"item_path\.safetensors: has changed"):
        add_items(one, tmp_path / "two", ["a"], VECTORS[:1])
    seal(one)
    with pytest.raises(LeaError, match=r"item_path\.safetensors: holds no text path"):
        add_items(one, tmp_path / "two", ["a"], VECTORS[:1])
    (one / ITEM_PATH).unlink()
    seal(one)
    with pytest.raises(LeaError, match=r"items did not start from texts.*items: le"):
        add_items(one, tmp_path / "two", ["a"], VECTORS[:1])


def test_files_of_new_items(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,item_id\nA film,007\nNone,8\n")
    assert read_new_items(tmp_path / "a.csv") == (["007", "8"], ["A film", "None"])
    (tmp_path / "a.jsonl").write_text('{"item_id": 7, "text": "A film"}\n')
    assert read_new_items(tmp_path / "a.jsonl") == (["7"], ["A film"])
    pq.write_table(pa.table({"item_id": [7, 8], "text": ["A film", " "]}), tmp_path / "a.parquet")
    with pytest.raises(LeaError, match=r"a\.parquet: row 1: column 'text' is empty"):
        read_new_items(tmp_path / "a.parquet")
    pq.write_table(pa.table({"item_id": [7.0, 8.0], "text": ["A film", "B"]}), tmp_path / "a.parquet")
    assert read_new_items(tmp_path / "a.parquet")[0] == ["7", "8"]
    for ids, message in (
        ([7.0, 8.5], r"row 1: column 'item_id': item 8\.5 is neither text nor whole number"),
        ([7.0, None], r"row 1: column 'item_id' is empty"),
        ([[7], [8]], r"column 'item_id' holds list<.*>: give texts or whole numbers"),
    ):
        pq.write_table(pa.table({"item_id": ids, "text": ["A film", "B"]}), tmp_path / "a.parquet")
        with pytest.raises(LeaError, match=rf"a\.parquet: {message}"):
            read_new_items(tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("item_id\n7\n")
    with pytest.raises(LeaError, match=r"b\.csv: column 'text' is missing"):
        read_new_items(tmp_path / "b.csv")
    with pytest.raises(LeaError, match=r"c\.csv: not found"):
        read_new_items(tmp_path / "c.csv")
    with pytest.raises(LeaError, match=r"c\.txt: give a file that ends in"):
        read_new_items(tmp_path / "c.txt")
    (tmp_path / "d.parquet").write_text("no")
    with pytest.raises(LeaError, match=r"d\.parquet: cannot be read"):
        read_new_items(tmp_path / "d.parquet")


def test_from_texts_to_a_policy_that_knows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tiny LLM: a text of training gets its vector again, so a twin its row; another LLM is refused."""
    model = tiny_llm.load(tmp_path / "data", 2)
    sequences = log(users=60)
    words = tiny_llm.WORDS[1:11]
    texts = [f"{words[item % 10]} {words[item // 3]} {words[item % 7]}" for item in range(30)]
    made = pooled_tokens(model, texts, 8, 4)
    write_tensors(tmp_path / "data" / "item_tokens" / "statistics.safetensors", vars(made.statistics))
    write_log(tmp_path, sequences)
    table = pa.table({"item": np.arange(30, dtype=np.int32), "vector": tables.vectors(made.tokens.content)})
    made_from = tmp_path / "data" / "interactions" / "items.parquet"
    tables.write_parts(tmp_path / "data" / "items" / "le.parquet", [table], tables.ITEM_VECTORS, made_from=made_from)
    settings = {"width": 4, "layers": 1, "dropout": 0.0}
    network = PolicyNetwork(PolicyConfig("gru4rec", settings, 30, 5)).eval()
    with torch.no_grad():
        network.backbone.item_embedding.weight.copy_(torch.from_numpy(0.1 * made.tokens.content))
    raw = params.load(PARAMS).model_dump()
    raw["tokenize_items"] |= {"layer": 2, "text_tokens": 8, "content_width": 4}
    folder, counts = tmp_path / "policy", np.ones(30, dtype=np.int64)
    folder.mkdir()
    network.save(folder)
    write_vocabulary(folder, Vocabulary([f"i{item}" for item in range(30)], counts))
    export_item_path(folder / ITEM_PATH, network, counts, tmp_path / "data", params.Params.model_validate(raw))
    seal(folder)

    path = read_item_path(folder)
    np.testing.assert_allclose(
        vectors_of(texts[4:5], path, tmp_path / "data" / "llm"), made.tokens.content[4:5], atol=2e-3
    )
    (tmp_path / "new.csv").write_text(f"item_id,text\ntwin,{texts[4]}\n")
    command(tmp_path / "new.csv", tmp_path / "more", folder, tmp_path / "data" / "llm")
    rows = Policy.load(tmp_path / "more").network.backbone.item_embedding.weight
    torch.testing.assert_close(rows[30], rows[4], atol=1e-3, rtol=0.0)
    with pytest.raises(LeaError, match="item 'twin' is known to the policy already"):  # before the LLM is even found
        command(tmp_path / "new.csv", tmp_path / "again", tmp_path / "more", tmp_path / "nowhere")
    assert "1 items added" in capsys.readouterr().out.replace("\n", " ")
    language_model.fetch(
        str(tiny_llm.write(tmp_path / "other", "qwen2")), None, tmp_path / "cache", tmp_path / "data" / "llm"
    )
    with pytest.raises(LeaError, match="another LLM than the one"):
        command(tmp_path / "new.csv", tmp_path / "more", folder, tmp_path / "data" / "llm")
    export_item_path(folder / "none", network, (counts * (np.arange(30) < 9)), tmp_path / "data", params.Params(**raw))
    assert not (folder / "none").exists()
    assert "9 items have text and training events" in capsys.readouterr().err
