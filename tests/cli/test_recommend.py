"""`lea recommend`, `info` and `export`: what Python recommends, from files and pipes; exit statuses; mistakes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lea_core.cli import app, command
from lea_core.common.artifacts import write_json
from lea_core.common.errors import DEBUG, LeaError
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.serving import Policy
from lea_core.serving.folder import Vocabulary, seal, write_vocabulary

ROOT = Path(__file__).parents[2]
ITEMS = 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy of seven items i0 to i6, of which i3 is the most popular."""
    torch.manual_seed(0)
    settings = {"width": 4, "layers": 1, "heads": 1, "dropout": 0.0}
    found = tmp_path / "policy"
    found.mkdir()
    PolicyNetwork(PolicyConfig("sasrec", settings, ITEMS, history=4)).save(found)
    write_vocabulary(found, Vocabulary([f"i{item}" for item in range(ITEMS)], np.array([1, 2, 3, 9, 0, 3, 1])))
    split = {"NDCG@10": {"value": 0.25, "mean": 0.2, "sd": 0.01}, "events": 1234}
    write_json(found / "metrics.json", {"valid": {**split, "events": 5}, "test": split})
    training = {"variant": {"method": "snqn", "state": "le", "reward": "none"}}
    made = {"variant": "snqn-state", "commit": "0123456789abcdef", "params": {"training": training}}
    write_json(found / "provenance.json", made)
    seal(found)
    return found


def lea(*arguments: object) -> int:
    """Exit status of a command in this process."""
    try:
        command([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


LINES = '["i1", "i2"]\n{"history": ["i3", "?", "i0"], "user": {"né": [1]}}\n[1.5]\n["?"]\n["i6"]\n'
HISTORIES = [["i1", "i2"], ["i3", "?", "i0"], ["?"], ["i6"]]


@pytest.mark.parametrize("size", [1, 3, 256])
@pytest.mark.parametrize("seen", ["", "--exclude-seen", "--include-seen"])
def test_equals_python(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int, seen: str) -> None:
    (tmp_path / "in.jsonl").write_text(LINES, encoding="utf-8")
    out = tmp_path / "out.jsonl"
    keep_seen = seen == "--include-seen"
    more = [seen] if seen else []
    assert lea("recommend", folder, tmp_path / "in.jsonl", "--out", out, "-k", 6, "--batch", size, *more) == 3
    wanted = Policy.load(folder).recommend(HISTORIES, k=6, exclude_seen=not keep_seen)
    found = answers(out)
    assert [answer["items"] for answer in found] == wanted.items
    assert [len(answer["items"]) for answer in found] == ([6] * 4 if keep_seen else [5, 5, 6, 6])
    assert [answer["missing"] for answer in found] == ([0] * 4 if keep_seen else [1, 1, 0, 0])
    for answer, scores in zip(found, wanted.scores, strict=True):
        assert answer["scores"] == pytest.approx(scores[: len(answer["items"])].tolist(), rel=1e-5, abs=1e-6)
    assert [answer["unknown"] for answer in found] == [0, 1, 1, 0]
    assert [answer["fallback"] for answer in found] == [False, False, True, False]
    assert found[2]["items"][0] == "i3"
    assert ["user" in answer for answer in found] == [False, True, False, False]
    assert found[1]["user"] == {"né": [1]}
    error = capsys.readouterr().err.splitlines()
    if keep_seen:  # the folder does not say, so it was without the seen ones
        assert error.pop(0) == "note: by default, items of a history are left out of the lists of this policy"
    assert error[0].startswith("line 3: history: item 1.5 is neither text nor whole number")
    assert error[1].startswith("4 of 5 histories answered in 1 s: 1 by popularity, 2 unknown items skipped;")
    assert error[1].endswith("; 1 refused")
    assert ("; 2 with fewer than 6 items, 0 of them none" in error[1]) is not keep_seen
    assert len(error) == 2


def test_unknown_items_can_be_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_text(LINES, encoding="utf-8")
    out = tmp_path / "out.jsonl"
    assert lea("recommend", folder, tmp_path / "in.jsonl", "--out", out, "--unknown", "refuse") == 3
    assert len(answers(out)) == 2
    named = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert named[:3] == ["line 3", "line 2", "line 4"]
    write_vocabulary(folder, Vocabulary([str(item) for item in range(ITEMS)], np.ones(ITEMS, dtype=np.int64)))
    seal(folder)
    (tmp_path / "in.jsonl").write_text('["1.0", "2.00", 3.0]', encoding="utf-8")  # as a CSV of floats has them
    assert lea("recommend", folder, tmp_path / "in.jsonl", "--out", out, "--unknown", "refuse") == 0
    assert sorted(answers(out)[0]["items"]) == ["0", "4", "5", "6"]


def test_parquet_in_and_out(folder: Path, tmp_path: Path) -> None:
    given, out, again = (tmp_path / name for name in ("in.parquet", "out.parquet", "out.jsonl"))
    pq.write_table(pa.table({"user": pa.array([5, 6, None, 8]), "history": pa.array(HISTORIES)}), given)
    assert lea("recommend", folder, given, "--out", out, "--batch", 3) == 0
    assert lea("recommend", folder, given, "--out", again, "--batch", 3) == 0
    table = pq.read_table(out)
    assert table.schema.field("user").type == pa.int64()
    assert table.column_names == ["user", "items", "scores", "unknown", "fallback", "missing"]
    for row, answer in zip(table.to_pylist(), answers(again), strict=True):
        assert row["scores"] == [float(np.float32(score)) for score in answer["scores"]]  # to the last bit
        assert {**row, "scores": answer["scores"]} == answer
    (tmp_path / "in.jsonl").write_text(LINES, encoding="utf-8")
    assert lea("recommend", folder, tmp_path / "in.jsonl", "--out", out) == 3
    assert pq.read_table(out)["user"].to_pylist() == [None, '{"n\\u00e9": [1]}', None, None]


def test_a_user_who_has_seen_everything(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list says why in its line, in its row, and at the end."""
    ids = [f"i{item}" for item in range(ITEMS)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, (ids, ids[1:], ids[4:]))))
    for name in ("out.jsonl", "out.parquet"):
        assert lea("recommend", folder, tmp_path / "in.jsonl", "--out", tmp_path / name, "-k", 3) == 0
        assert capsys.readouterr().err.endswith("; 2 with fewer than 3 items, 1 of them none\n")
    found = answers(tmp_path / "out.jsonl")
    assert [answer["items"] for answer in found[:2]] == [[], ["i0"]]
    assert [answer["missing"] for answer in found] == [3, 2, 0]
    assert pq.read_table(tmp_path / "out.parquet")["missing"].to_pylist() == [3, 2, 0]


def test_the_folder_says_what_is_done_with_seen_items(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(folder / "provenance.json", {"params": {"mask_seen": False}})
    seal(folder)
    assert lea("info", folder) == 0
    assert re.search(r"seen items +│ kept ", capsys.readouterr().out)
    (tmp_path / "in.jsonl").write_text('["i1", "i2"]')
    for option, count, note in (
        ([], 7, ""),
        (["--include-seen"], 7, ""),
        (["--exclude-seen"], 5, "note: by default, items of a history are kept in the lists of this policy\n"),
    ):
        assert lea("recommend", folder, tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", *option) == 0
        assert len(answers(tmp_path / "out.jsonl")[0]["items"]) == count
        assert capsys.readouterr().err.startswith(note or "1 of 1 histories answered")


def test_ten_thousand_items(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(["i1", "i2"] * 5000))
    assert lea("recommend", folder, tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl") == 0
    assert sorted(answers(tmp_path / "out.jsonl")[0]["items"]) == ["i0", "i3", "i4", "i5", "i6"]


def test_an_output_is_whole_or_as_it_was(folder: Path, tmp_path: Path) -> None:
    given, out = tmp_path / "in.parquet", tmp_path / "out.jsonl"
    pq.write_table(pa.table({"history": pa.array([["i1"]] * 3000)}), given, row_group_size=1000)
    out.write_text("old")
    with given.open("r+b") as file:  # the second row group is broken: some answers are there when it shows
        file.seek(pq.read_metadata(given).row_group(1).column(0).data_page_offset)
        file.write(b"\xff" * 20)
    with pytest.raises(LeaError, match=r"in\.parquet: broken Parquet file"):
        lea("recommend", folder, given, "--out", out, "--batch", 100)
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.jsonl", "policy"]


def test_a_device_is_written_and_never_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('["i1"]\n')
    (tmp_path / "null").symlink_to("/dev/null")
    assert lea("recommend", folder, tmp_path / "in.jsonl", "--out", tmp_path / "null") == 0
    assert (tmp_path / "null").is_char_device()


def start(*arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "lea_core.cli", *map(str, arguments)]
    pipe = subprocess.PIPE
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    return subprocess.Popen(line, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_through_pipes(folder: Path) -> None:
    process = start("recommend", folder, "-", "-k", 1, "--batch", 1)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write('["i1"]\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["items"] == Policy.load(folder).recommend([["i1"]], k=1).items[0]
    process.stdout.close()  # as `head -1` does
    process.stdin.write('["i2"]\n')
    process.stdin.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["recommend", "nowhere"], 1, "error: nowhere: no policy folder, for it has no manifest.json: name one"),
        (["recommend", "--colour"], 2, "error: No such option: --colour"),
        (["recommend", "-k", "0"], 2, "error: Invalid value for '-k'"),
        (["recomend"], 2, "error: No such command 'recomend'. Did you mean 'recommend'?"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], status: int, message: str) -> None:
    process = start(*arguments)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "out", "message"),
    [
        ("nowhere.jsonl", "out.jsonl", "nowhere.jsonl: cannot be read (No such file or directory)"),
        ("", "out.jsonl", "cannot be read (Is a directory)"),
        ("in.jsonl", "", "is a folder: name a file with --out"),
        ("in.jsonl", "in.jsonl/out", "in.jsonl/out: cannot be written ("),
    ],
)
def test_files_that_are_none(folder: Path, tmp_path: Path, given: str, out: str, message: str) -> None:
    (tmp_path / "in.jsonl").write_text('["i1"]\n')
    with pytest.raises(LeaError) as caught:
        lea("recommend", folder, tmp_path / given, "--out", tmp_path / out)
    assert message in str(caught.value)


def test_info(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert lea("info", folder) == 0
    screen = capsys.readouterr().out
    for words in (
        r"variant +│ snqn-state ",
        r"method +│ snqn ",
        r"signals of the LE +│ state le ",
        r"backbone +│ sasrec ",
        r"items +│ 7 ",
        r"history +│ 4 ",
        r"commit +│ 0123456789ab ",
        r"seen items +│ not said \(left out\) ",
        r"NDCG@10 +│ +0\.2500 │ 0\.2500 │ +0\.2000 ± 0\.0100 ",
        r"events +│ +5 │ +1,234 ",
        r"All hashes hold\.",
    ):
        assert re.search(words, screen), words
    assert lea("info", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["policy"]["num_items"] == ITEMS
    assert found["metrics"]["test"]["events"] == 1234
    assert (found["sound"], found["problem"]) == (True, "")

    (folder / "metrics.json").write_text("{")
    monkeypatch.setenv(DEBUG, "1")
    assert lea("info", folder, "--json") == 1
    said = capsys.readouterr()
    assert said.err.count("JSONDecodeError") == 1
    found = json.loads(said.out)
    assert not found["sound"]
    assert "metrics.json: has changed since the folder was written" in found["problem"]


def test_export_hands_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    module = ModuleType("lea_core.serving.onnx_export")
    module.export_folder = lambda *given: [f"given {given}"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("COLUMNS", "500")
    app(["export", str(folder), "--onnx", str(tmp_path / "onnx"), "-k", "20", "--int8"], standalone_mode=False)
    assert capsys.readouterr().out == f"given {(folder, tmp_path / 'onnx', 20, True)}\n"
    with pytest.raises(LeaError, match="nothing to do: name the folder to write with --onnx"):
        app(["export", str(folder)], standalone_mode=False)
