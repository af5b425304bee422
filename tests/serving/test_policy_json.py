"""Every JSON file of a policy folder with another value at every place: an answer or one line, never a traceback."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lea_core.cli.policy import facts, worth
from lea_core.common.errors import LeaError
from lea_core.serving import onnx_policy
from lea_core.serving.folder import MANIFEST, PROVENANCE, check_folder, read_exclude_seen
from lea_core.serving.onnx_policy import DESCRIPTION, GRAPH, OnnxPolicy
from lea_core.serving.torch_policy import read_config, read_network
from tests.models.test_policy_network import SETTINGS
from tests.support.tiny_policy import write_policy

WRONG: list[Any] = [None, 3, "x", [1], {}]
SPLIT = {"NDCG@10": {"value": 0.25, "mean": 0.2, "sd": 0.01}, "events": 5}
MADE_OF = {
    "variant": "snqn",
    "params": {
        "training": {"variant": {"method": "snqn", "state": "le"}},
        "dataset": {"name": "x"},
        "mask_seen": False,
    },
    "params_sha256": "0123",
    "data": {"items.parquet": "0123"},
    "commit": "0123",
    "versions": {"python": "3.11"},
}
EXPORTED = {"num_items": 6, "history": 3, "exclude_seen": True, "backbone": "sasrec", "opset": 20}
FOUND = {
    "policy": {"backbone": "sasrec", "settings": SETTINGS["sasrec"], "num_items": 6, "history": 3},
    "metrics": {"valid": SPLIT, "test": SPLIT},
    "provenance": MADE_OF,
    "onnx": EXPORTED,
}


def changed(value: Any) -> Iterator[Any]:
    """The value with another one, or none, at each place of it in turn."""
    yield from WRONG
    for key in value if isinstance(value, dict) else ():
        yield {name: part for name, part in value.items() if name != key}
        for part in changed(value[key]):
            yield {**value, key: part}


def read_policy(folder: Path) -> None:
    read_network(folder / "policy.safetensors", read_config(folder / "policy.json"))


def read_in_turn(folder: Path, name: str, read: Callable[[Path], object]) -> None:
    """Read a folder with each change of a file."""
    for value in changed(json.loads((folder / name).read_text())):
        (folder / name).write_text(json.dumps(value))
        message = ""
        try:
            read(folder)
        except LeaError as error:
            message = str(error)
        assert "\n" not in message


@pytest.mark.parametrize("backbone", sorted(SETTINGS))
def test_policy_json(tmp_path: Path, backbone: str) -> None:
    write_policy(tmp_path, backbone)
    read_in_turn(tmp_path, "policy.json", read_policy)


def test_manifest_json(tmp_path: Path) -> None:
    write_policy(tmp_path)
    read_in_turn(tmp_path, MANIFEST, check_folder)
    for name in ("", ".", "..", "a\0b", "a/b", "\ud800"):
        (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "files": {name: "0123"}}))
        with pytest.raises(LeaError, match=r"which is not a file of this folder|not found, but manifest\.json lists"):
            check_folder(tmp_path)


def test_provenance_json(tmp_path: Path) -> None:
    (tmp_path / PROVENANCE).write_text(json.dumps(MADE_OF))
    read_in_turn(tmp_path, PROVENANCE, lambda folder: read_exclude_seen(folder, [PROVENANCE]))
    for params, message in (
        ({"mask_seen": None}, "params.mask_seen is None, not true"),
        (None, "params is None, not an"),
    ):
        (tmp_path / PROVENANCE).write_text(json.dumps({"params": params}))
        with pytest.raises(LeaError, match=message):
            read_exclude_seen(tmp_path, [PROVENANCE])


def test_onnx_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_policy(tmp_path)
    (tmp_path / DESCRIPTION).write_text(json.dumps(EXPORTED))
    monkeypatch.setattr(onnx_policy, "check_folder", lambda _: [GRAPH, DESCRIPTION])
    monkeypatch.setattr(onnx_policy, "_session", lambda _: None)
    read_in_turn(tmp_path, DESCRIPTION, OnnxPolicy.load)
    (tmp_path / DESCRIPTION).write_text(json.dumps({**EXPORTED, "exclude_seen": None}))
    with pytest.raises(LeaError, match=r"onnx\.json: exclude_seen is None, not true or false"):
        OnnxPolicy.load(tmp_path)


@pytest.mark.parametrize("part", FOUND)
def test_what_is_told_of_a_folder(part: str) -> None:
    """`lea info` says what the files hold, whatever it is."""
    for value in changed(FOUND[part]):
        if isinstance(value, Mapping):
            rows = [*facts(found := {**FOUND, part: value}), *worth(found["metrics"])]
            assert all(isinstance(cell, str) for row in rows for cell in row)


@pytest.mark.parametrize(
    ("made", "onnx", "told"),
    [
        ({}, {}, "not said (left out)"),
        ({"params": {"mask_seen": True}}, {}, "left out"),
        ({"params": {"mask_seen": False}}, {}, "kept"),
        ({"params": {"mask_seen": None}}, {}, "None"),
        ({}, {"exclude_seen": False}, "kept"),
    ],
)
def test_what_is_told_of_seen_items(made: dict[str, Any], onnx: dict[str, Any], told: str) -> None:
    assert ["seen items", told] in facts({**FOUND, "provenance": made, "onnx": onnx})
