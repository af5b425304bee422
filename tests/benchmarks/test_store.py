"""What is kept of a configuration of the benchmark: enough, of which parameters, and made of what; what runs again."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.paper import report
from benchmarks.paper import run as paper_run
from benchmarks.paper import stage as paper_stage
from benchmarks.paper.inputs import note_of, parameters_of, told
from benchmarks.paper.store import keep, read_kept
from lea_core.common import code_hash
from lea_core.common.artifacts import read_json, write_json
from lea_core.common.code_hash import computed_by
from lea_core.params import Params
from tests.benchmarks.tiny import BENCHMARK, keep_configurations
from tests.support.edited import edit
from tests.support.tiny_project import log

CONFIGURATION, PLAIN = "sasrec-snqn-state", "sasrec-snqn"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Path]:
    return keep_configurations(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture
def tiny(made: tuple[Params, Path], tmp_path: Path) -> tuple[Params, Path]:
    """A copy, to be changed."""
    params, store = made
    shutil.copytree(store.parent, tmp_path, dirs_exist_ok=True)
    return params, tmp_path / store.name


def test_what_is_kept_is_enough(tiny: tuple[Params, Path], tmp_path: Path) -> None:
    params, store = tiny
    before = report.summary(report.collect("scientific", params, store))
    shutil.rmtree(tmp_path / "data")  # the machine is gone
    keep(params, tmp_path, store)
    assert report.summary(report.collect("scientific", params, store)) == before
    kept = read_kept(params, store, "sasrec-snqn")
    assert kept is not None
    assert kept.users.users.tolist() == list(range(100))
    assert kept.users.scores.tolist() == [[float(user < 40) for user in range(100)]] * 2
    assert (kept.result.measured.events, kept.result.measured.items) == (100, log(100).num_items)
    assert [kept.result.valid["HR@10"].seeds, kept.result.best_epochs] == [[0.3, 0.3], [2, 2]]
    assert str(tmp_path) not in (store / "sasrec-snqn.json").read_text()


def test_what_is_kept_is_of_the_same_parameters(tiny: tuple[Params, Path], tmp_path: Path) -> None:
    params, store = tiny
    other = params.model_copy(update={"rank": params.rank.model_copy(update={"items": 7})})
    assert read_kept(other, store, "sasrec-snqn-state") is None
    assert read_kept(other, store, "sasrec-snqn") is not None  # reads nothing of the LE
    keep(other, tmp_path, tmp_path / "other")  # nor is what ran with the former ones kept as of these
    assert read_kept(other, tmp_path / "other", "sasrec-snqn-state") is None
    assert read_kept(other, tmp_path / "other", "sasrec-snqn") is not None
    assert read_kept(params, store, "popularity") is not None
    raw = json.dumps(parameters_of(params, "sasrec-snqn-state"))
    assert "sha256" in raw
    assert "interactions.parquet" not in raw


@dataclass(frozen=True)
class Place:
    """A data set of the benchmark, where its configurations ran and where they are kept."""

    params: Params
    folder: Path
    store: Path

    def other(self, name: str) -> list[str] | None:
        return paper_run.wherein_other(self.params, "scientific", name)

    def make_again(self, name: str) -> None:
        path = self.folder / "data" / "cells" / f"{name}.json"
        write_json(path, {**read_json(path), **note_of(self.params, self.folder, name)})
        keep(self.params, self.folder, self.store)


@pytest.fixture
def place(tiny: tuple[Params, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """With an LE that a configuration which reads it has seen."""
    params, store = tiny
    monkeypatch.setattr(paper_run, "STORE", store.parent)
    monkeypatch.setattr(paper_run, "FOLDER", tmp_path / "folders")
    found = Place(params, tmp_path / "folders" / "scientific", store.rename(store.with_name("scientific")))
    found.folder.mkdir(parents=True)
    (tmp_path / "data").rename(found.folder / "data")
    for file in ("states/le.parquet", "le/heads.safetensors", "le/quality.json", "llm/llm.json"):
        (found.folder / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (found.folder / "data" / file).write_text(file)
    assert (found.other(CONFIGURATION), found.other("sasrec-sa2c")) == (
        [],
        None,
    )  # it ran where no LE was: nothing is known
    found.make_again(CONFIGURATION)
    return found


def test_a_result_holds_hashes_of_the_files_that_it_is_made_of(place: Place) -> None:
    """What would be other today is named, and replaces nothing."""
    data = place.folder / "data"
    assert (place.other(CONFIGURATION), place.other(PLAIN)) == ([], [])
    (data / "le" / "quality.json").write_text("measured anew")
    assert place.other(CONFIGURATION) == []
    (data / "le" / "heads.safetensors").write_text("another LE")
    assert (place.other(CONFIGURATION), place.other(PLAIN)) == (["data/le"], [])
    (data / "states" / "le.parquet").write_text("its states")
    assert place.other(CONFIGURATION) == ["data/states/le.parquet", "data/le"]
    kept = (place.store / f"{CONFIGURATION}.json").read_text()
    keep(place.params, place.folder, place.store)
    assert (place.store / f"{CONFIGURATION}.json").read_text() == kept  # it is still what it was made of
    place.make_again(CONFIGURATION)
    assert place.other(CONFIGURATION) == []


def test_a_result_holds_hashes_of_code_and_libraries(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(monkeypatch, tmp_path / "page", "lea_core/report/html/page.py")
    assert place.other(PLAIN) == []
    edit(monkeypatch, tmp_path / "code", "lea_core/learners/methods/snqn.py")
    assert (place.other(PLAIN), place.other("popularity")) == (["code"], [])
    place.make_again(PLAIN)
    monkeypatch.setattr(code_hash, "_version", lambda name: f"{name} 99")
    assert (place.other(PLAIN), place.other("popularity")) == (["libraries"], ["libraries"])

    note = read_json(place.store / f"{PLAIN}.json")
    assert told([note, note]) == ""
    without = {key: value for key, value in note.items() if key != "made_of"}
    write_json(place.store / f"{PLAIN}.json", without)
    assert place.other(PLAIN) == []  # from before: evidence, and counted
    notes = [without, note, read_json(place.store / f"{CONFIGURATION}.json")]
    assert told(notes) == (
        "1 hold no hash of the LE, data and code that they read: they ran before that was noted; of those that do, not "
        "all read the same: versions of code (2)"
    )


def test_what_trained_an_le_is_noted_and_told(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC keeps an LE that former code trained: results that read it say so, and so does a run on its data."""
    monkeypatch.setattr(paper_stage, "subprocess", FakeProcesses)
    for stage in ("annotate", "finetune_le"):
        assert not (place.folder / "data" / "le_code.json").exists()
        paper_stage.run_stage(place.folder, stage)
    trained = computed_by("stages.finetune_le")
    edit(monkeypatch, tmp_path / "code", "lea_core/environment/finetune.py")
    for name, noted in ((CONFIGURATION, trained), (PLAIN, None)):
        place.make_again(name)
        assert read_json(place.store / f"{name}.json").get("le_trained_by") == noted
    found = {f"scientific-{CONFIGURATION}": ["data/le"], f"scientific-{PLAIN}": ["code"]}
    found |= {"scientific-text_knn": [], "scientific-popularity": ["libraries"], "scientific-le": ["code"]}
    paper_run.tell_why(BENCHMARK, [f"configuration@scientific-{CONFIGURATION}", "baselines@scientific"], found)
    why, baseline, le = capsys.readouterr().out.splitlines()
    assert baseline == "scientific-popularity is kept, but made of other libraries: it runs again"
    assert why == f"scientific-{CONFIGURATION} is kept, but made of other data/le: it runs again"
    assert le.startswith("scientific: other code or libraries trained its LE: `dvc repro --force finetune_le@sci")
    paper_run.tell_why(BENCHMARK, ["configuration@lastfm-sasrec-snqn"], found)
    assert capsys.readouterr().out == ""


class FakeProcesses:
    """In the place of `subprocess`: a stage that ends well at once."""

    TimeoutExpired = subprocess.TimeoutExpired

    class Popen:
        def __init__(self, command: list[str], **_options: object) -> None:
            pass

        def wait(self, _seconds: float) -> int:
            return 0


def test_dvc_is_forced_where_the_code_alone_is_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What DVC finds up to date and is of other code runs even so, once; a failure ends it."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(paper_run, "params_of", lambda *_: ({}, None))
    monkeypatch.setattr(report, "keep_all", lambda _: None)
    monkeypatch.setattr(paper_run, "reproduce", lambda *words: not asked.append(words))
    for others, calls in (([[]], 1), ([["code"], []], 2), ([None, []], 2), ([["code"], ["code"]], 2)):
        asked.clear()
        found = iter(others)
        monkeypatch.setattr(paper_run, "wherein_other", lambda *_, found=found: next(found))
        assert paper_run.run_target(BENCHMARK, "configuration@lastfm-sasrec-snqn")
        forced = ("configuration@lastfm-sasrec-snqn", "--force", "--single-item")
        assert asked == [("configuration@lastfm-sasrec-snqn",), forced][:calls]
    monkeypatch.setattr(paper_run, "reproduce", lambda *_: False)
    assert not paper_run.run_target(BENCHMARK, "evaluate_le@scientific")
