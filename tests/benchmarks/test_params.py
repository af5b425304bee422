"""The paper-scale benchmark: what is run and in which order, and what DVC makes of it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc.repo import Repo

from benchmarks.paper import params as paper_params
from benchmarks.paper import stage as paper_stage
from benchmarks.paper import tune as paper_tune
from benchmarks.paper.inputs import differences, note_of, own_parameters
from benchmarks.paper.params import CONFIGURATIONS, HOME, configurations_of, params_of, read_benchmark, variants_of
from benchmarks.paper.run import drop_broken_lock, targets
from benchmarks.paper.stage import lives
from lea_core.common.artifacts import read_json
from lea_core.common.errors import LeaError
from lea_core.experiments import tuning as tune
from lea_core.params import FOLDERS, load, read_yaml

BENCHMARK = read_benchmark()


# ---- what is run


def test_the_number_of_configurations() -> None:
    # By data set and backbone: supervised alone, with all of its 4 parts and with each of them; SNQN and SA2C with 5.
    assert len(variants_of(BENCHMARK, "lastfm")) == 2 * (6 + 7 + 7)
    # Four with two parts; 19 control tables and 2 of a policy, a supervised variant that trains longer, SNQN without a
    # future.
    assert len(variants_of(BENCHMARK, "scientific")) == 40 + 4 + 21 + 2


@pytest.mark.parametrize("data", BENCHMARK["data"])
def test_every_variant_is_valid(data: str) -> None:
    raw, params = params_of(BENCHMARK, data)
    assert params.train.seeds == [0, 1, 2, 3, 4]
    assert raw["dataset"]["interactions"]["source"].endswith(f"shared/data/{data}/interactions.parquet")
    for name in params.variants:
        own_parameters(params, name)


def test_a_part_differs_from_its_method_by_the_part_alone() -> None:
    variants = variants_of(BENCHMARK, "scientific")
    plain = variants["sasrec-snqn"]
    for part in FOLDERS:
        assert variants[f"sasrec-snqn-{part}"] == plain | {part: "le"}
    assert variants["sasrec-snqn-state-shuffled"] == plain | {"state": "shuffled"}
    assert variants["sasrec-snqn-ranking-policy"] == plain | {"ranking": "policy"}
    twin = variants["sasrec-supervised"]
    assert variants["sasrec-supervised-long"]["set"] == twin["set"] | {"train.epochs": 120, "train.patience": 60}
    assert variants["sasrec-snqn-gamma-0"]["set"] == plain["set"] | {"methods.snqn.gamma": 0.0}


def test_with_all_parts_it_learns_as_the_supervised_twin() -> None:
    variants = variants_of(BENCHMARK, "lastfm")
    own, twin = (variants[f"sasrec-{name}"]["set"] for name in ("sa2c-lea", "supervised"))
    assert {key: own[key] for key in twin} == twin
    assert own["methods.sa2c.gamma"] == variants["sasrec-sa2c"]["set"]["methods.sa2c.gamma"]
    assert variants["sasrec-supervised-lea"]["reward"] == "none"


def test_settings_of_one_part_are_also_those_of_its_controls() -> None:
    data = json.loads(json.dumps(BENCHMARK))
    data["data"]["scientific"]["sasrec"]["snqn-state"] = {"train.le.state_alignment": 4.0}
    variants = variants_of(data, "scientific")
    changed = {name for name, variant in variants.items() if "train.le.state_alignment" in variant["set"]}
    assert changed == {name for name in variants if name.startswith("sasrec-snqn-state")}


def test_configurations_are_tuned_in_the_space_of_their_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configurations = ["gru4rec-supervised", "gru4rec-snqn-lea"]
    params = paper_tune.with_configurations(BENCHMARK, "scientific", configurations)
    assert params.tune.space["backbones.gru4rec.dropout"] == params.tune.space["backbones.sasrec.dropout"]
    for name in configurations:
        tune.check(params, name)  # what benchmark.yaml says lies in it
        found = {key.rpartition(".")[0] for key in tune.space_of(params, name)}
        assert found == {"train", "backbones.gru4rec"} | ({"methods.snqn"} if "snqn" in name else set())
    with pytest.raises(LeaError, match="gru4rec and sasrec: tune one backbone at a time"):
        paper_tune.with_configurations(BENCHMARK, "scientific", ["gru4rec-snqn", "sasrec-snqn"])
    with pytest.raises(LeaError, match="scientific has no configuration gru4rec-snq: give names of"):
        paper_tune.with_configurations(BENCHMARK, "scientific", ["gru4rec-snq"])
    with pytest.raises(LeaError, match="has no data set scientifc: give one of scientific, lastfm"):
        paper_tune.with_configurations(BENCHMARK, "scientifc", configurations)
    monkeypatch.setattr(paper_tune, "FOLDER", tmp_path)
    with pytest.raises(LeaError, match="not found: run `make benchmark`, or `dvc repro annotate@lastfm augment@lastfm"):
        paper_tune.main(["--data", "lastfm", "--configurations", "gru4rec-snqn", "--trials", "2"])


def test_a_mistake_names_the_file_and_the_key() -> None:
    with pytest.raises(LeaError, match=r"changes\.train\.sead\.x is no key"):
        params_of({**BENCHMARK, "changes": {"train.sead.x": 1}}, "lastfm")
    data = json.loads(json.dumps(BENCHMARK))
    del data["data"]["lastfm"]["sasrec"]["snqn"]
    with pytest.raises(LeaError, match=r"data\.lastfm\.sasrec has no snqn"):
        variants_of(data, "lastfm")


# ---- the pipeline


def test_configurations_yaml_is_up_to_date_and_in_order() -> None:
    assert read_yaml(CONFIGURATIONS) == configurations_of(BENCHMARK)
    names = list(configurations_of(BENCHMARK)["configurations"])
    first = ("scientific-sasrec-supervised", "scientific-sasrec-snqn-lea", "lastfm-sasrec-supervised")
    assert tuple(names[:3]) == first
    assert [name.split("-")[1] for name in names[:84]] == ["sasrec"] * 44 + ["gru4rec"] * 40
    regular = {f"{data}-{name}" for data in BENCHMARK["data"] for name in variants_of(BENCHMARK, "lastfm")}
    together = ("supervised-ranking-items", "snqn-ranking-items", "snqn-both-items", "snqn-item-knn-items")
    assert set(names[:84]) == regular | {f"scientific-sasrec-{name}" for name in together}  # and then the controls
    parts = [name for name in names[:44] if name.rpartition("-")[2] in FOLDERS]
    assert names[12:44] == parts


def test_dvc_reads_the_pipeline() -> None:
    with Repo(str(HOME)) as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
        repo.index.check_graph()
        outs = {out.fs_path for stage in stages.values() for out in stage.outs}
    assert len(stages) < 150
    inside = str(HOME / ".work" / "benchmark")
    deps = {(name, dep.fs_path) for name, stage in stages.items() for dep in stage.deps}
    read = {(name, path) for name, path in deps if path.startswith(inside)}
    assert {(name, path) for name, path in read if not outs & {path, str(Path(path).parent)}} == set()
    assert all(Path(path).exists() for _, path in deps - read)
    configuration = stages["configuration@scientific-sasrec-snqn-state-shuffled"]
    assert f"{inside}/scientific/data/states/shuffled.parquet" in {dep.fs_path for dep in configuration.deps}
    keys = next(list(dep.params) for dep in configuration.deps if hasattr(dep, "params"))
    assert {"variants.sasrec-snqn-state-shuffled", "backbones.sasrec", "methods.snqn", "train"} <= set(keys)


def test_the_runner_leaves_out_what_is_not_there() -> None:
    configurations = configurations_of(BENCHMARK)
    found = targets(configurations, [], ["lastfm"])
    assert found[:4] == [
        "configuration@scientific-sasrec-supervised",
        "configuration@scientific-sasrec-snqn-lea",
        "baselines@scientific",
        "evaluate_le@scientific",
    ]
    assert len(found) == 69
    kept = ["scientific-sasrec-snqn-lea", "scientific-le"]
    assert targets(configurations, [], ["lastfm"], kept)[:2] == [found[0], "baselines@scientific"]
    assert len(targets(configurations, [], ["lastfm"], kept)) == 67
    assert targets(configurations, kept[:1], [], kept) == [found[1]]  # named, so it runs
    assert not [name for name in found if "lastfm" in name]
    with pytest.raises(LeaError, match="has no x: write one such as"):
        targets(configurations, ["x"], [])


def test_what_runs_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a configuration and of each baseline, as it was before the stage ran."""
    monkeypatch.setattr(paper_params, "FOLDER", tmp_path)
    paper_params.write_params(BENCHMARK, "lastfm")
    folder = tmp_path / "lastfm"
    (folder / "data" / "interactions").mkdir(parents=True)
    log = folder / "data" / "interactions" / "interactions.parquet"
    log.write_text("before")
    params = load(folder / "params.yaml")
    ran = []

    def run_stage(folder: Path, *words: str) -> None:
        ran.append(words)
        (folder / "data" / "baselines" / words[0]).mkdir(parents=True, exist_ok=True)
        log.write_text("after")

    monkeypatch.setattr(paper_stage, "run_stage", run_stage)
    expected = note_of(params, folder, "sasrec-snqn")
    paper_stage.run_configuration(folder, "sasrec-snqn")
    note = read_json(folder / "data" / "cells" / "sasrec-snqn.json")
    assert {key: note[key] for key in expected} == expected
    assert ran == [("train", "sasrec-snqn"), ("evaluate", "sasrec-snqn")]
    assert differences(note, note_of(params, folder, "sasrec-snqn")["made_of"]) == ["data/interactions"]
    paper_stage.run_baselines(folder, "evaluate_le")
    found = read_json(folder / "data" / "baselines" / "le" / paper_stage.NOTE)
    assert found == note_of(params, folder, "le")
    assert not list(folder.glob("data/baselines/popularity/*"))


def test_a_process_that_ended_does_not_live() -> None:
    assert lives(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()  # until it ends, but nobody waits for it
    deadline = time.monotonic() + 5.0
    while lives(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lives(child.pid)
    child.wait()
    assert not lives(child.pid)


def test_a_broken_lock_is_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dvc.lock"
    drop_broken_lock(path)
    whole = "schema: '2.0'\nstages:\n  a:\n    cmd: b\n    outs:\n    - path: c\n      md5: 0a1b\n      size: 1\n"
    path.write_text(whole)
    drop_broken_lock(path)
    assert path.exists()
    for cut in (0, 20, 30, 45):
        path.write_text(whole[:cut])
        drop_broken_lock(path)
        assert not path.exists(), whole[:cut]
    assert "is broken and made anew" in capsys.readouterr().err
