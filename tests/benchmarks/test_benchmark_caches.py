"""What the benchmarks keep: it is found again for the same data, parameters, code and device, and for no others."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.environment import quality
from benchmarks.peers import systems, train
from benchmarks.serving import speed
from benchmarks.support import prepared
from benchmarks.support.jobs import DEFAULTS
from lea_core.common import code_hash
from lea_core.common.artifacts import write_json
from lea_core.llm import language_model
from lea_core.params import load
from tests.support.edited import edit
from tests.support.tiny_project import log


def test_a_prepared_folder_is_of_its_parameters_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(prepared, "WORK", tmp_path / "work")
    monkeypatch.setattr(prepared, "run_stage", lambda _, stage: ran.append(stage))
    for count, file in enumerate(("", "lea_core/report/html/page.py", "lea_core/data/splits.py")):
        if file:
            edit(monkeypatch, tmp_path / str(count), file)
        folder, _ = prepared.prepare_stages("ml-100k", ["fetch_data", "preprocess"])
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / "left").touch()
    assert ran == ["fetch_data", "preprocess"] * 2
    monkeypatch.setattr(prepared, "run_stage", lambda *_: ran.extend(path.name for path in folder.glob("data/*")))
    prepared.prepare_stages("ml-100k", ["fetch_data", "preprocess"], {"preprocess.k_core": 7})
    assert len(ran) == 4  # nothing of before is left


def test_processes_prepare_a_folder_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage runs once, and no process empties the folder under another; params.yaml is written once."""
    ran: list[str] = []

    def run_stage(_folder: Path, stage: str) -> None:
        time.sleep(0.05)
        ran.append(stage)

    monkeypatch.setattr(prepared, "WORK", tmp_path)
    monkeypatch.setattr(prepared, "run_stage", run_stage)
    threads = [threading.Thread(target=prepared.prepare_stages, args=("ml-100k", ["a", "b"])) for _ in range(2)]
    monkeypatch.setattr(prepared, "computed_by", lambda *modules: {"code": list(modules)})
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran == ["a", "b"]
    written = (tmp_path / "ml-100k" / "params.yaml").stat()
    prepared.prepare_stages("ml-100k", ["a", "b"])
    assert (tmp_path / "ml-100k" / "params.yaml").stat() == written


def test_a_source_that_changed_is_prepared_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash need not be pinned."""
    ran: list[str] = []
    source = tmp_path / "log.csv"
    changes = {"dataset": {"name": "tables", "interactions": {"source": str(source), "sha256": None}}}
    monkeypatch.setattr(prepared, "WORK", tmp_path)
    monkeypatch.setattr(prepared, "run_stage", lambda _, stage: ran.append(stage))
    monkeypatch.setattr(prepared, "changes_of", lambda _: changes)
    monkeypatch.setattr(prepared.params, "load", lambda _: None)
    for text, times in (("a", 1), ("a", 1), ("b", 2)):
        source.write_text(text)
        prepared.prepare_stages("own", ["fetch_data"])
        assert ran == ["fetch_data"] * times


def test_a_part_of_the_le_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    done = tmp_path / "done.json"
    monkeypatch.setattr(quality, "WORK", tmp_path)
    monkeypatch.setattr(quality, "prepare", lambda _: SimpleNamespace(folder=tmp_path))
    monkeypatch.setattr(quality, "measure", lambda _, seed: measured.append(seed) or {"n": float(len(measured))})

    def made_again() -> bool:
        before = len(measured)
        return quality.piece("seed 1") == {"n": before + 1.0}

    write_json(done, {"params": "a"})
    assert [made_again(), made_again()] == [True, False]
    write_json(done, {"params": "b"})
    assert [made_again(), made_again()] == [True, False]
    monkeypatch.setattr(language_model, "choose_device_and_dtype", lambda: (torch.device("cuda"), torch.float16))
    assert [made_again(), made_again()] == [True, False]
    monkeypatch.setattr(code_hash, "_version", lambda name: f"{name} 99")
    assert [made_again(), made_again()] == [True, False]
    write_json(done, {"params": "a"})
    assert [made_again(), made_again()] == [True, False]
    assert quality.piece("seed 2") == {"n": 6.0}
    assert measured == [1] * 5 + [2]


def test_a_training_is_kept_with_its_log(tmp_path: Path) -> None:
    data = systems.Data("tiny", tmp_path, load(DEFAULTS), log(9), 50)
    table = tmp_path / "data" / "interactions" / "interactions.parquet"
    table.parent.mkdir(parents=True)
    found = []
    for text in ("a", "another", "a"):
        table.write_text(text)
        trials = [systems.Trial(data, name, {"dropout": 0.1}, 0) for name in ("supervised", "recbole:SASRec")]
        found += map(systems.kept, trials)
    assert found[:2] == found[4:]
    assert len(set(found)) == 4


def test_scores_and_words_of_the_training_benchmark() -> None:
    """Two users with one event each; one has 10 candidates left, a miss at 10 whatever its rank."""
    sequences = log(2)
    data = systems.Data("tiny", Path(), load(DEFAULTS), sequences, 50)
    own = systems.Run("a", {}, 0, 1, 1, 1.0, 1, 0.0, {}, [1.0, 3.0], [10, 11])
    assert train.ndcg10(own).tolist() == [0.0, 0.5]
    assert train.ndcg10(replace(own, test_candidates=[-1, -1])).tolist() == [1.0, 0.5]
    assert train.against(data, [own], [replace(own, test_ranks=[2.0, 11.0])])["difference"] == pytest.approx(0.25)
    assert train.protocol(data) == (
        f"Mean over 2 test events of 2 users, all {sequences.num_items} items ranked, those of the user's history left "
        "out, equal scores at their mean rank."
    )


def test_untrained_policies_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(speed, "WORK", tmp_path)
    monkeypatch.setattr(speed, "measure", lambda _, job, *_threads: asked.append(job.part) or {})
    monkeypatch.setattr(speed, "start", lambda *_: 1.0)
    for _ in range(2):
        (tmp_path / "serve" / "5").mkdir(parents=True, exist_ok=True)
        (tmp_path / "serve" / "5" / "histories.json").touch()
        speed.sizes([5])
    assert asked == ["make", *["latency", "batch"] * 3] * 2
