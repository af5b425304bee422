"""The policy that ships: its folder against damage and malice, histories of every kind, and what is recommended."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lea_core.common.artifacts import write_json
from lea_core.common.errors import LeaError
from lea_core.serving import Policy
from lea_core.serving.folder import Vocabulary, seal, write_vocabulary
from tests.models.test_policy_network import SETTINGS
from tests.support.tiny_policy import COUNTS, IDS, INDEX, write_policy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_policy(tmp_path / "policy")
    return tmp_path / "policy"


# ---- recommendations


@pytest.mark.parametrize("backbone", sorted(SETTINGS))
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_best_by_sorting_every_score(backbone: str, exclude_seen: bool, tmp_path: Path) -> None:
    """Row by row, whatever the others of the batch are."""
    network = write_policy(tmp_path / "policy", backbone)
    histories = [["a"], ["b", "c", "b"], ["12", "11", "10", "c", "a"], ["c", "c", "c", "c"]]
    found = Policy.load(tmp_path / "policy").recommend(histories, k=4, exclude_seen=exclude_seen)
    for row, history in enumerate(histories):
        scores = network.scores(np.array([[INDEX[item] for item in history]]))[0].tolist()
        candidates = [item for item in IDS if not (exclude_seen and item in history)]
        best = sorted(candidates, key=lambda item: -scores[INDEX[item]])[:4]
        assert found.items[row] == best
        np.testing.assert_allclose(
            found.scores[row, : len(best)], [scores[INDEX[i]] for i in best], rtol=2e-5, atol=1e-6
        )
    assert not found.fallback.any()


def test_equal_scores_go_by_the_lower_item(tmp_path: Path) -> None:
    network = write_policy(tmp_path / "policy")
    for weight in (network.actor.weight, network.actor.bias, network.repeat_bias):
        assert weight is not None
        torch.nn.init.zeros_(weight)
    network.save(tmp_path / "policy")
    seal(tmp_path / "policy")
    assert Policy.load(tmp_path / "policy").recommend([["b"]], k=3).items == [["a", "c", "10"]]


def test_a_history_without_a_known_item_gets_what_is_popular(folder: Path) -> None:
    found = Policy.load(folder).recommend([[], ["x", "y"], ["a", "x"]], k=3)
    assert found.fallback.tolist() == [True, True, False]
    assert found.unknown.tolist() == [0, 2, 1]
    assert found.items[0] == found.items[1] == ["b", "10", "a"]  # 9, 9 and 3 training events
    np.testing.assert_allclose(found.scores[0], np.log([10 / 30, 10 / 30, 4 / 30]), rtol=1e-6)


def test_more_than_there_is(folder: Path) -> None:
    policy = Policy.load(folder)
    found = policy.recommend([["a", "b"], []], k=1000)
    assert sorted(found.items[0]) == ["10", "11", "12", "c"]
    assert found.indices.shape == (2, 6)
    assert found.indices[0, 4:].tolist() == [-1, -1]
    assert np.isnan(found.scores[0, 4:]).all()
    assert sorted(found.items[1]) == sorted(IDS)
    assert found.missing.tolist() == [996, 994]
    assert policy.recommend([], k=2).items == []
    found = policy.recommend([IDS, IDS[1:], ["a"]], k=2)  # everything was seen, everything but one
    assert found.items[:2] == [[], ["a"]]
    assert found.missing.tolist() == [row["missing"] for row in found.rows()] == [2, 1, 0]
    assert policy.recommend([IDS], k=2, exclude_seen=False).missing.tolist() == [0]


@pytest.mark.parametrize("mask_seen", [None, True, False])
def test_seen_items_are_left_out_where_they_were_when_it_was_evaluated(folder: Path, mask_seen: bool | None) -> None:
    """Unless the caller says otherwise; a folder that does not tell leaves them out."""
    write_json(folder / "provenance.json", {"params": {} if mask_seen is None else {"mask_seen": mask_seen}})
    seal(folder)
    policy, excluded = Policy.load(folder), mask_seen is not False
    assert policy.exclude_seen is excluded
    best = [set(policy.recommend([IDS[:3]], 6, *more).items[0]) for more in ((), (True,), (False,))]
    assert best == [set(IDS[3:] if excluded else IDS), set(IDS[3:]), set(IDS)]
    write_json(folder / "provenance.json", {"params": {"mask_seen": "yes"}})
    seal(folder)
    with pytest.raises(LeaError, match=r"provenance\.json: params\.mask_seen is 'yes', not true or false"):
        Policy.load(folder)


def test_a_history_of_ten_thousand_items(tmp_path: Path) -> None:
    """The network reads the newest; all are left out."""
    ids = [str(number) for number in range(12_000)]
    write_policy(tmp_path / "policy", ids=ids)
    policy = Policy.load(tmp_path / "policy")
    found = policy.recommend([ids[:10_000], ids[9_997:10_000]], k=2_500)
    assert set(found.items[0]) == set(ids[10_000:])
    others = [item for item in found.items[1] if int(item) >= 10_000]
    assert [item for item in found.items[0] if item in set(others)] == others  # the same three newest, the same order


def test_the_batch_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy.load(folder)
    random = np.random.default_rng(0)
    histories = [[IDS[item] for item in random.integers(0, 6, size)] for size in random.integers(0, 6, 50)]
    whole = policy.recommend(histories, k=3)
    monkeypatch.setattr("lea_core.serving.torch_policy.SCORES_AT_ONCE", 24)
    parts = policy.recommend(histories, k=3)
    assert whole.items == parts.items
    assert whole.items == [policy.recommend([history], k=3).items[0] for history in histories]


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "3"])
def test_what_is_no_k(folder: Path, k: Any) -> None:
    with pytest.raises(LeaError, match=rf"k is {k!r}: give a whole number from 1"):
        Policy.load(folder).recommend([["a"]], k=k)


def test_as_rows_and_as_a_table(folder: Path) -> None:
    found = Policy.load(folder).recommend(pl.DataFrame({"user": [7, 8], "history": [["b", "a"], ["10"]]}), k=10)
    table = found.to_arrow()
    assert table.column_names == ["user", "items", "scores", "unknown", "fallback", "missing"]
    assert table.to_pylist() == found.rows()
    assert pl.DataFrame(pl.from_arrow(table))["items"].to_list() == found.items
    assert table["items"].type == pa.list_(pa.string())


# ---- the folder


def change_json(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        raw = json.loads((folder / name).read_text())
        for key, value in changes.items():
            raw = {**raw, key: value} if value is not ... else {k: v for k, v in raw.items() if k != key}
        (folder / name).write_text(json.dumps(raw))

    return change


def change_weights(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        save_file(change(load_file(folder / "policy.safetensors")), folder / "policy.safetensors")

    return apply


def huge_header(folder: Path) -> None:
    (folder / "policy.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")


def other_vocabulary(ids: list[str]) -> Callable[[Path], None]:
    return lambda folder: write_vocabulary(folder, Vocabulary(ids, np.resize(COUNTS, len(ids))))


SETTINGS_OF = SETTINGS["sasrec"]
HOSTILE: list[tuple[Callable[[Path], None], str]] = [
    (change_json("policy.json", backbone="os.system"), r"policy\.json: backbone 'os.system' is unknown"),
    (change_json("policy.json", backbone=["sasrec"]), r"policy\.json: backbone \['sasrec'\] is unknown"),
    (change_json("policy.json", num_items=10**12), r"num_items is 1000000000000, not a whole number from 1 to"),
    (change_json("policy.json", num_items=2**31 - 1), r"actor\.bias is float32 \(6,\), not float32 \(2147483647,\)"),
    (change_json("policy.json", num_items="6"), r"num_items is '6', not a whole number"),
    (change_json("policy.json", history=True), r"history is True, not a whole number"),
    (change_json("policy.json", history=4), r"position_embedding\.weight is float32 \(3, 8\), not float32 \(4, 8\)"),
    (change_json("policy.json", settings={**SETTINGS_OF, "layers": 10**9}), r"settings\.layers is 1000000000, not"),
    (change_json("policy.json", settings={**SETTINGS_OF, "heads": 3}), r"policy\.json: describes no network that runs"),
    (
        change_json("policy.json", settings={"width": 8}),
        r"settings are not those of sasrec, width, layers, heads, drop",
    ),
    (change_json("policy.json", settings={**SETTINGS_OF, "dropout": "0"}), r"settings\.dropout is '0', not between"),
    (change_json("policy.json", settings={**SETTINGS_OF, "width": []}), r"settings\.width has 0 entries"),
    (change_json("policy.json", repeat_bias=1), r"repeat_bias is 1, not true or false"),
    (change_json("policy.json", repeat_bias=False), r"policy\.safetensors: has repeat_bias, unlike the network"),
    (change_json("policy.json", history=...), r"policy\.json: not a policy's description, but backbone, num_items"),
    (lambda folder: (folder / "policy.json").write_text("[" * 100_000) and None, r"policy\.json: no readable JSON"),
    (huge_header, r"policy\.safetensors: broken safetensors file"),
    (change_weights(lambda w: {**w, "more": w["actor.bias"]}), r"policy\.safetensors: has more, unlike the network"),
    (change_weights(lambda w: {k: v for k, v in w.items() if k != "actor.bias"}), r"lacks actor\.bias, unlike"),
    (
        change_weights(lambda w: {**w, "actor.bias": w["actor.bias"].astype(np.float64)}),
        r"actor\.bias is float64 \(6,\)",
    ),
    (
        change_weights(lambda w: {**w, "actor.bias": w["actor.bias"] + np.inf}),
        r"actor\.bias holds a number that is inf",
    ),
    (other_vocabulary(IDS[:5]), r"vocabulary\.parquet: names 5 items, but the network has 6"),
    (other_vocabulary([*IDS[:5], "a"]), r"vocabulary\.parquet: column 'item_id' names an item twice"),
    (
        lambda folder: (folder / "vocabulary.parquet").write_bytes(b"PAR1") and None,
        r"vocabulary\.parquet: broken Parquet",
    ),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_a_folder_made_to_deceive(change: Callable[[Path], None], message: str, folder: Path) -> None:
    """With hashes that hold: it is refused in a line, and fast."""
    change(folder)
    seal(folder)
    with pytest.raises(LeaError, match=message) as error:
        Policy.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["policy.json", "policy.safetensors", "vocabulary.parquet"])
def test_a_changed_or_absent_file(name: str, folder: Path) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(LeaError, match=rf"{re.escape(name)}: has changed since the folder was written"):
        Policy.load(folder)
    (folder / name).unlink()
    with pytest.raises(LeaError, match=rf"{re.escape(name)}: not found, but manifest\.json lists it"):
        Policy.load(folder)


def test_manifests(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LeaError, match=r"no policy folder, for it has no manifest\.json"):
        Policy.load(tmp_path / "nowhere")
    path = folder / "manifest.json"
    cases = [
        ('{"format": 2, "files": {}}', "format 2, but this version of LEA reads 1"),
        ("[]", "format None, but"),
        ("{", "no readable JSON"),
        ('{"format": 1, "files": {}}', "lists no files"),
        (
            '{"format": 1, "files": {"../params.yaml": ""}}',
            "lists '../params.yaml', which is not a file of this folder",
        ),
        ('{"format": 1, "files": {"policy.json": 3}}', "policy.json: has changed"),
    ]
    for content, message in cases:
        path.write_text(content)
        with pytest.raises(LeaError, match=re.escape(message)):
            Policy.load(folder)


def test_it_serves_without_the_pipelines_packages(folder: Path) -> None:
    """In a process where none but the base packages of pyproject.toml can be imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    base = {re.split(r"[^A-Za-z0-9_-]", line)[0] for line in project["dependencies"]}
    names = {re.split(r"[^A-Za-z0-9_-]", line)[0] for line in extras} - {"lea-recommender"} - base
    blocked = {"ruamel", "huggingface_hub", *(name.replace("-", "_").lower() for name in names)}
    assert {"transformers", "peft", "dvc", "polars", "pydantic"} <= blocked
    code = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(blocked)!r}))  # None: not to be imported
from lea_core.serving import Policy
print(Policy.load({str(folder)!r}).recommend([["a"]], k=2).items)
print(sorted(name for name in sys.modules if name.startswith(("lea_core.environment", "lea_core.llm"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(Policy.load(folder).recommend([["a"]], k=2).items), "[]"]
