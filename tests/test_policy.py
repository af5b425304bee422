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
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lea_core.artifacts import write_json
from lea_core.errors import LeaError
from lea_core.policy import Policy
from lea_core.policy.folder import Vocabulary, seal, write_vocabulary
from lea_core.policy.histories import look_up, read_histories
from lea_core.policy_network import PolicyConfig, PolicyNetwork
from tests.test_policy_network import SETTINGS

ROOT = Path(__file__).parent.parent
IDS = ["a", "b", "c", "10", "11", "12"]
COUNTS = np.array([3, 9, 1, 9, 0, 2])
INDEX = {name: item for item, name in enumerate(IDS)}


def write_policy(folder: Path, backbone: str = "sasrec", ids: list[str] = IDS, history: int = 3) -> PolicyNetwork:
    torch.manual_seed(0)
    network = PolicyNetwork(PolicyConfig(backbone, SETTINGS[backbone], len(ids), history, repeat_bias=True))
    for weight in network.parameters():
        torch.nn.init.normal_(weight)
    folder.mkdir(exist_ok=True)
    network.save(folder)
    write_vocabulary(folder, Vocabulary(ids, np.resize(COUNTS, len(ids))))
    seal(folder)
    return network.eval()


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
        np.testing.assert_allclose(found.scores[row, : len(best)], [scores[INDEX[i]] for i in best], rtol=2e-5)
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
    monkeypatch.setattr("lea_core.policy.torch_policy.SCORES_AT_ONCE", 24)
    parts = policy.recommend(histories, k=3)
    assert whole.items == parts.items
    assert whole.items == [policy.recommend([history], k=3).items[0] for history in histories]


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "3"])
def test_what_is_no_k(folder: Path, k: Any) -> None:
    with pytest.raises(LeaError, match=rf"k is {k!r}: give a whole number from 1"):
        Policy.load(folder).recommend([["a"]], k=k)


# ---- histories


LISTS = pl.DataFrame({"user": [7, 8], "history": [["b", "a"], ["10"]]})
# What Arrow takes for text without looking at it: "a" and a byte that no text begins with.
NOT_UTF8 = pa.array([b"a", b"\xff"]).view(pa.string())
EVENTS = pl.DataFrame({"user": ["x", "y", "x", "x"], "item": ["a", "c", "b", "12"], "timestamp": [30, 5, 10, 20]})


@pytest.mark.parametrize(
    ("given", "histories", "users"),
    [
        ([["b", 10], [], np.array([11])], [[1, 3], [], [4]], None),
        ((np.array(["b", "a"]),), [[1, 0]], None),
        (LISTS, [[1, 0], [3]], [7, 8]),
        (LISTS.to_arrow(), [[1, 0], [3]], [7, 8]),
        (LISTS.to_arrow().to_batches()[0], [[1, 0], [3]], [7, 8]),
        (LISTS.drop("user"), [[1, 0], [3]], None),
        (pl.DataFrame({"history": [[10, 12]]}), [[3, 5]], None),
        (EVENTS, [[1, 5, 0], [2]], ["x", "y"]),  # users as they come, events by time
        (pd.DataFrame(EVENTS.to_dict(as_series=False)), [[1, 5, 0], [2]], ["x", "y"]),
        (EVENTS.drop("timestamp"), [[0, 1, 5], [2]], ["x", "y"]),
        (EVENTS.clear(), [], []),
        # One column, of any library, and every kind of list.
        (LISTS["history"], [[1, 0], [3]], None),
        (pd.Series([["b", "a"], ["10"]]), [[1, 0], [3]], None),
        (pa.array([["b", "a"], ["10"]]), [[1, 0], [3]], None),
        (pa.chunked_array([[["b", "a"]], [["10"]]]), [[1, 0], [3]], None),
        ([pl.Series(["b", "a"]), pd.Series([10]), pa.array(["c"])], [[1, 0], [3], [2]], None),
        (pa.table({"history": pa.array([["b", "a"]], pa.list_(pa.string(), 2))}), [[1, 0]], None),
        (pa.table({"history": pa.array([["b"], []], pa.large_list(pa.large_string()))}), [[1], []], None),
        (pa.table({"history": pa.array([["b"]], pa.list_view(pa.string_view()))}).slice(0), [[1]], None),
        (LISTS.cast({"history": pl.List(pl.Categorical)}), [[1, 0], [3]], [7, 8]),
        (pa.table({"history": [[b"b"], [b"10"]]}), [[1], [3]], None),
        # Floats that are whole numbers: 10.0 is the item 10.
        ([[10.0, np.float32(12), "a"], np.array([11.0])], [[3, 5, 0], [4]], None),
        (pl.DataFrame({"history": [[10.0], [12.0, 11.0]]}), [[3], [5, 4]], None),
        (pd.DataFrame({"user": ["x", "x"], "item": [12.0, 10.0]}), [[5, 3]], ["x"]),
        (pa.table({"user": [1], "item": pa.array([11.0], pa.float32())}), [[4]], [1]),
    ],
)
def test_histories_of_every_kind(given: Any, histories: list[list[int]], users: list[Any] | None) -> None:
    found = read_histories(given, INDEX, "refuse")
    assert [part.tolist() for part in np.split(found.items, found.offsets[1:-1])][: len(found)] == histories
    assert found.users == users


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("abc", "histories are str: give a list of lists of item ids, or a table"),
        ({"a": ["b"]}, "histories are dict: give a list of lists"),
        (3, "histories are int: give a list of lists"),
        (["a", "b"], "history 0 is 'a': give a list of item ids, oldest first"),
        ([["a"], None], "history 1 is None: give a list of item ids"),
        ([["a"], ["b", None]], "history 1: item None is neither text nor whole number"),
        ([[1.5]], "history 0: item 1.5 is neither text nor whole number"),
        ([[True]], "history 0: item True is neither"),
        ([[["a"]]], r"history 0: item \['a'\] is neither"),
        ([["a", "x"]], "history 0: item 'x' is unknown: leave it out, or skip unknown items"),
        ([[10**5000]], "history 0: an item is a number of too many digits"),
        (pl.DataFrame({"item": ["a"]}), "the table's columns are item: give 'history', lists of item ids, or 'user'"),
        (pl.DataFrame({"history": ["a"]}), "column 'history' holds .*string.*: give lists of item ids"),
        (pl.DataFrame({"history": [["a"], None]}), "row 1: column 'history' is null: give an empty list"),
        (pl.DataFrame({"user": ["u", "u"], "item": ["a", None]}), "row 1: column 'item' is null: drop such rows"),
        # Floats that are no id name row and column.
        (pd.DataFrame({"user": ["u"] * 3, "item": [10.0, 11.0, 1.5]}), "row 2: column 'item': item 1.5 is neither"),
        (pl.DataFrame({"user": ["u"] * 2, "item": [10.0, np.nan]}), "row 1: column 'item' is null: drop such rows"),
        (pl.DataFrame({"history": [[10.0], [], [11.0, 1.5]]}), "row 2: column 'history': item 1.5 is neither text nor"),
        ([[10.0], [float("nan")]], "history 1: item nan is neither text nor whole number"),
        ([[2.0**53]], r"history 0: item 9007199254740992.0 is a float of more digits than it holds: give such ids"),
        (
            pa.table({"history": pa.array([[2.0**24 - 1, 2.0**24]], pa.list_(pa.float32()))}),
            "row 0.* item 16777216.0 is a",
        ),
        # Columns of other kinds.
        (pl.Series(["a"]), "column 'history' holds .*string.*: give lists of item ids"),
        (pd.Series([["a", 10]]), "histories are a Series that Arrow cannot read .*: give columns of one type each, or"),
        (pd.DataFrame({"history": [["a", 10]]}), r"cannot read \(.*Conversion failed for column history with type"),
        (pa.table({"history": [[["a"]]]}), "column 'history' holds list<.*>: give texts or whole numbers"),
        (pa.table({"history": [[{"a": 1}]]}), "column 'history' holds struct<.*>: give texts or whole numbers"),
        (pa.table({"history": [["a"], ["b", None]]}), "row 1: column 'history' holds a null: leave such items out"),
        (
            pa.table({"user": [1, 2], "item": [b"a", b"\xff"]}),
            r"row 1: column 'item': item b'\\xff' is not UTF-8: save",
        ),
        (pa.table({"user": [1, 2], "item": NOT_UTF8}), r"row 1: column 'item': item b'\\xff' is not UTF-8: save ids"),
        (pa.table({"user": NOT_UTF8, "item": ["a", "b"]}), "column 'user' holds text that is not UTF-8"),
        (pa.table({"user": [[1]], "item": ["a"]}), "column 'user' holds list<.*>: give texts or whole numbers"),
        (EVENTS.with_columns(timestamp=pl.lit("9")), "column 'timestamp' holds .*string.*: give numbers or times"),
        (EVENTS.with_columns(timestamp=pl.lit(np.nan)), "row 0: column 'timestamp' is null: drop such rows"),
        (pa.table([LISTS["history"].to_arrow()] * 2, ["history"] * 2), "column 'history' is there twice: drop one"),
        ([np.array(3)], r"history 0 is array\(3\): give a list"),
    ],
)
def test_what_is_no_history(given: Any, message: str) -> None:
    with pytest.raises(LeaError, match=message) as error:
        read_histories(given, INDEX, "refuse")
    assert "\n" not in str(error.value)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


@given(JUNK)
def test_any_history_is_read_or_refused_in_a_line(row: Any) -> None:
    mistake = None
    try:
        found = look_up(row, INDEX, "history 0", "skip")
    except LeaError as error:
        mistake = str(error)
    if mistake is None:
        texts = [str(int(item)) if isinstance(item, float) else _text(item) for item in row]
        assert [IDS[item] for item in found] == [text for text in texts if text in INDEX]
    else:
        assert mistake.startswith("history 0")
        assert "\n" not in mistake


def test_as_rows_and_as_a_table(folder: Path) -> None:
    found = Policy.load(folder).recommend(LISTS, k=10)
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
    names = {re.split(r"[^A-Za-z0-9_-]", line)[0] for line in extras} - {"lea"} - base
    blocked = {"ruamel", "huggingface_hub", *(name.replace("-", "_").lower() for name in names)}
    assert {"transformers", "peft", "dvc", "polars", "pydantic"} <= blocked
    code = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(blocked)!r}))  # None: not to be imported
from lea_core.policy import Policy
print(Policy.load({str(folder)!r}).recommend([["a"]], k=2).items)
print(sorted(name for name in sys.modules if name.startswith(("lea_core.environment", "lea_core.llm", "lea_core.le_"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(Policy.load(folder).recommend([["a"]], k=2).items), "[]"]
