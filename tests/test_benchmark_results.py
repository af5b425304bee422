"""What is said of the benchmark's results: what is kept of a cell, the summary, the tables and the picture."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import benchmark, benchmark_plot, benchmark_run, benchmark_slices
from benchmarks.benchmark_inputs import note_of, parameters_of, told
from benchmarks.benchmark_params import params_of, read_benchmark
from benchmarks.benchmark_slices import Events, band_rows, keep_events, read_events
from benchmarks.benchmark_stage import NOTE
from benchmarks.benchmark_store import keep, read_kept
from lea_core import code_hash
from lea_core.artifacts import read_json, write_csv, write_json
from lea_core.errors import LeaError
from lea_core.evaluation import write_evaluation
from lea_core.metrics import ALL
from lea_core.params import Params
from lea_core.sequences import Sequences
from lea_core.tables import RANKS, vectors
from tests.edited import edit
from tests.tiny_project import log, write_log, write_tokens

BENCHMARK = read_benchmark()


def write_ranks(folder: Path, sequences: Sequences, seeds: list[int], shares: dict[str, float]) -> None:
    """Ranks of made-up policies: by split, the item of this share of the users is first, that of the others at 99."""
    parts = []
    for seed in seeds:
        for split, share in shares.items():
            users, positions = sequences.targets(split)
            numbers = {
                "seed": np.full(len(users), seed),
                "user": users,
                "position": positions,
                "item": sequences.items[sequences.offsets[users] + positions],
                "rank": np.where(users < share * sequences.num_users, 1.0, 99.0),
                "candidates": np.full(len(users), ALL),
            }
            columns: dict[str, Any] = {name: pa.array(column, RANKS[name]) for name, column in numbers.items()}
            columns |= {"split": pa.array([split] * len(users)), "event": pa.array([""] * len(users))}
            columns |= {"top": vectors(np.zeros((len(users), 1), dtype=np.int32))}
            parts.append(pa.table({name: columns[name] for name in RANKS}))
    write_evaluation(folder, pa.concat_tables(parts), sequences, [5, 10, 20])


SHARES = {  # valid, test
    "sasrec-supervised": (0.2, 0.2),
    "sasrec-snqn": (0.3, 0.4),
    "sasrec-snqn-lea": (0.6, 0.7),
    "sasrec-supervised-lea": (0.5, 0.9),  # better on test, which must not count
    "sasrec-snqn-state": (0.4, 0.8),
    "sasrec-snqn-state-shuffled": (0.9, 0.5),
    "sasrec-snqn-state-text": (0.1, 0.1),
    "sasrec-snqn-reward": (0.1, 0.5),
}


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Params, Path]:
    """A data set of 100 users of whose cells eight have run, and a ninth with other parameters."""
    _, params = params_of({**BENCHMARK, "changes": {"train.seeds": [0, 1]}}, "scientific")
    sequences = log(100)
    write_log(tmp_path, sequences)
    write_tokens(tmp_path)
    data = tmp_path / "data"
    for name, (valid, test) in {**SHARES, "sasrec-sa2c-lea": (1.0, 1.0)}.items():
        write_ranks(data / "evaluations" / name, sequences, [0, 1], {"valid": valid, "test": test})
        policy = data / "policies" / name
        policy.mkdir(parents=True)
        write_json(policy / "training.json", {"seeds": {str(s): {"seconds": 1.0, "best_epoch": 2} for s in (0, 1)}})
        write_csv(policy / "curves.csv", [{"seed": 0, "epoch": 2, "NDCG@10": valid}])
        where = {"commit": "c" * 40, "processor": "P", "cores": 2, "gpu": None, "torch": "2"}
        note = {**note_of(params, tmp_path, name), "seconds": 1800.0, "where": where}
        if name not in SHARES:
            note["parameters"]["train"]["learning_rate"] = 1.0
        write_json(data / "cells" / f"{name}.json", note)
    write_json(data / "seconds" / "finetune_le.json", {"seconds": 5400.0})
    write_ranks(data / "baselines" / "popularity", sequences, [0], {"valid": 0.1, "test": 0.1})
    write_json(data / "baselines" / "popularity" / "cost.json", {"seconds_per_user": 0.0, "needs_llm": False})
    write_json(data / "baselines" / "popularity" / NOTE, note_of(params, tmp_path, "popularity"))
    keep(params, tmp_path, tmp_path / "store")
    keep_events(params, tmp_path, tmp_path / "store")
    return params, tmp_path / "store"


def test_what_is_kept_is_enough(tiny: tuple[Params, Path], tmp_path: Path) -> None:
    params, store = tiny
    before = benchmark.summary(benchmark.collect("scientific", params, store))
    shutil.rmtree(tmp_path / "data")  # the machine is gone
    keep(params, tmp_path, store)
    assert benchmark.summary(benchmark.collect("scientific", params, store)) == before
    kept = read_kept(params, store, "sasrec-snqn")
    assert kept is not None
    assert kept.users.users.tolist() == list(range(100))
    assert kept.users.scores.tolist() == [[float(user < 40) for user in range(100)]] * 2
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


def test_a_result_holds_hashes_of_what_it_is_made_of(
    tiny: tuple[Params, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of data, LE, code and libraries; what would be other today is named, and replaces nothing."""
    params, store = tiny
    cell, plain = "sasrec-snqn-state", "sasrec-snqn"
    monkeypatch.setattr(benchmark_run, "STORE", store.parent)
    monkeypatch.setattr(benchmark_run, "FOLDER", tmp_path / "folders")
    store = store.rename(store.with_name("scientific"))
    folder = tmp_path / "folders" / "scientific"
    folder.mkdir(parents=True)
    (tmp_path / "data").rename(folder / "data")

    def other(name: str) -> list[str] | None:
        return benchmark_run.wherein_other(params, "scientific", name)

    def make_again(name: str) -> None:
        path = folder / "data" / "cells" / f"{name}.json"
        write_json(path, {**read_json(path), **note_of(params, folder, name)})
        keep(params, folder, store)

    for file in ("states/le.parquet", "le/heads.safetensors", "le/quality.json", "llm/llm.json"):
        (folder / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / file).write_text(file)
    assert (other(cell), other("sasrec-sa2c")) == ([], None)  # it ran where no LE was: nothing is known of that
    make_again(cell)
    assert (other(cell), other(plain)) == ([], [])
    (folder / "data" / "le" / "quality.json").write_text("measured anew")
    assert other(cell) == []
    (folder / "data" / "le" / "heads.safetensors").write_text("another LE")
    assert (other(cell), other(plain)) == (["data/le"], [])
    (folder / "data" / "states" / "le.parquet").write_text("its states")
    assert other(cell) == ["data/states/le.parquet", "data/le"]
    kept = (store / f"{cell}.json").read_text()
    keep(params, folder, store)
    assert (store / f"{cell}.json").read_text() == kept  # it is still what it was made of
    make_again(cell)
    assert other(cell) == []
    edit(monkeypatch, tmp_path / "page", "lea_core/page/page.py")
    assert other(plain) == []
    edit(monkeypatch, tmp_path / "code", "lea_core/learners/snqn.py")
    assert (other(plain), other("popularity")) == (["code"], [])
    make_again(plain)
    monkeypatch.setattr(code_hash, "_version", lambda name: f"{name} 99")
    assert (other(plain), other("popularity")) == (["libraries"], ["libraries"])

    note = read_json(store / f"{plain}.json")
    assert told([note, note]) == ""
    without = {key: value for key, value in note.items() if key != "made_of"}
    write_json(store / f"{plain}.json", without)
    assert other(plain) == []  # from before: evidence, and counted
    notes = [without, note, read_json(store / f"{cell}.json")]
    assert told(notes) == (
        "1 hold no hash of the LE, data and code that they read: they ran before that was noted; of those that do, not "
        "all read the same: versions of code (2)"
    )


def test_dvc_is_forced_where_the_code_alone_is_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What DVC finds up to date and is of other code runs even so, once; a failure ends it."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(benchmark_run, "params_of", lambda *_: ({}, None))
    monkeypatch.setattr(benchmark, "keep_all", lambda _: None)
    monkeypatch.setattr(benchmark_run, "reproduce", lambda *words: not asked.append(words))
    for others, calls in (([[]], 1), ([["code"], []], 2), ([None, []], 2), ([["code"], ["code"]], 2)):
        asked.clear()
        found = iter(others)
        monkeypatch.setattr(benchmark_run, "wherein_other", lambda *_, found=found: next(found))
        assert benchmark_run.run_target(BENCHMARK, "cell@lastfm-sasrec-snqn")
        forced = ("cell@lastfm-sasrec-snqn", "--force", "--single-item")
        assert asked == [("cell@lastfm-sasrec-snqn",), forced][:calls]
    monkeypatch.setattr(benchmark_run, "reproduce", lambda *_: False)
    assert not benchmark_run.run_target(BENCHMARK, "evaluate_le@scientific")


def test_the_summary(tiny: tuple[Params, Path]) -> None:
    found = benchmark.collect("scientific", *tiny)
    own = benchmark.summary(found)
    assert (own["cells"], own["of"]) == (8, 67)
    assert (own["best_lea"], own["chosen_among"]) == ("sasrec-snqn-lea", 4)
    assert own["best_lea_valid_ndcg10"] == pytest.approx(0.6)
    assert own["best_lea_ndcg10"] == own["best_lea_hr10"] == pytest.approx(0.7)
    assert (own["twin"], own["twin_ndcg10"]) == ("sasrec-supervised", pytest.approx(0.2))
    assert own["gain_percent"] == pytest.approx(250.0)
    assert own["low"] < 0.5 < own["high"]
    assert own["low_with_seeds"] == pytest.approx(0.5 - 1.984 * (0.25 / 99) ** 0.5, abs=1e-4)
    assert own["p_holm_with_seeds"] < 1e-12
    # 50 of 100 users better and none worse; 7 variants have a twin, and the least p of 10,000 draws is 2/10,000.
    assert own["p_holm"] < 7 * 3e-4
    assert own["all_parts"]["chosen_among"] == 2
    # Popularity, .1, is the only baseline; 60 of 100 users differ: .6 -+ 1.984 sqrt(.24 / 99), for no seed does.
    assert (own["best_baseline"]["name"], own["best_baseline"]["ndcg10"]) == ("popularity", pytest.approx(0.1))
    assert own["best_baseline"]["difference"] == pytest.approx(0.6)
    assert own["best_baseline"]["low_with_seeds"] == pytest.approx(0.6 - 1.984 * (0.24 / 99) ** 0.5, abs=1e-4)
    assert list(own["parts"]) == ["state"]  # no control of the reward has run
    assert own["parts"]["state"]["beats_its_controls"]
    assert own["parts"]["state"]["best_control"] == "sasrec-snqn-state-shuffled"
    assert own["parts"]["state"]["difference"] == pytest.approx(0.3)
    assert (own["parts"]["state"]["controls_run"], own["parts"]["state"]["controls"]) == (2, 6)


def test_two_kept_results(tiny: tuple[Params, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    params, store = tiny
    monkeypatch.setattr(benchmark, "params_of", lambda *_: ({}, params))
    monkeypatch.setattr(benchmark, "STORE", store.parent)
    store.rename(store.with_name("scientific"))
    text = benchmark.difference(BENCHMARK, ["scientific", "sasrec-snqn-lea", "sasrec-snqn"])
    # .7 and .4 of the users; no seed differs, so .3 -+ 1.984 sqrt(.21 / 99)
    assert text.startswith("sasrec-snqn-lea - sasrec-snqn: NDCG@10 +0.3000; over users +0.2")
    assert "; over users and seeds +0.2086 to +0.3914, p 0.0000; not corrected" in text
    path = store.with_name("scientific") / "sasrec-snqn.json"
    note = read_json(path)
    note["made_of"]["data/interactions"] = "of another log"
    write_json(path, note)
    text = benchmark.difference(BENCHMARK, ["scientific", "sasrec-snqn-lea", "sasrec-snqn"])
    assert text.endswith("; not corrected; not of the same data/interactions")
    with pytest.raises(LeaError, match="has no gru4rec-snqn of these parameters"):
        benchmark.difference(BENCHMARK, ["scientific", "sasrec-snqn-lea", "gru4rec-snqn"])
    with pytest.raises(LeaError, match="give one of scientific, lastfm and two names"):
        benchmark.difference(BENCHMARK, ["scientific"])


def test_pairs_that_are_asked_for(tiny: tuple[Params, Path]) -> None:
    """.7 against .1 and .4 of the users; what has not run is left out."""
    pairs = [["sasrec-snqn-lea", "popularity"], ["sasrec-snqn-lea", "sasrec-snqn"], ["gru4rec-snqn", "sasrec-snqn"]]
    found = benchmark.collect("scientific", *tiny, pairs)
    assert [row["difference"] for row in benchmark.summary(found)["pairs"]] == pytest.approx([0.6, 0.3])
    low = 0.6 - 1.984 * (0.24 / 99) ** 0.5
    assert any(
        "| popularity | +0.6000 | +0.5" in line and f"| {low:+.4f} to" in line for line in benchmark.asked(found)
    )


def test_for_which_events(tiny: tuple[Params, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    params, store = tiny
    monkeypatch.setattr(benchmark_slices, "FEW", 20)
    found = benchmark.collect("scientific", params, store)
    assert found.events is not None
    systems = {name: found.kept[name] for name in ("sasrec-snqn-lea", "popularity")}
    rows = {row["band"]: row for row in band_rows(systems, found.events)}
    long = np.flatnonzero(np.diff(log(100).offsets) > 20)  # whose last event has 20 before it
    assert rows["20-49"]["events"] == len(long)
    assert "1-4" not in rows  # of 14 users
    # Popularity is right for the first 10 of the 100 users, the other for the first 70.
    better = np.mean((long >= 10) & (long < 70))
    wanted = {"sasrec-snqn-lea": np.mean(long < 70), "popularity": np.mean(long < 10)}
    assert rows["20-49"]["scores"] == pytest.approx(wanted)
    mean, low, high = rows["20-49"]["differences"]["popularity"]
    assert mean == pytest.approx(better)
    half = 2.03 * (better * (1 - better) / (len(long) - 1)) ** 0.5  # no seed differs; t of 34 to 36 degrees of freedom
    assert (low, high) == pytest.approx((better - half, better + half), abs=2e-3)
    # Nine tenths of those with two training events teach the LE; the others are too few, so that slice tells nothing.
    teachers = round(0.9 * np.count_nonzero(np.diff(log(100).offsets) > 3))
    assert np.bincount(found.events.bands["le"][1]).tolist() == [teachers, 100 - teachers]
    assert not {"learned from", "others"} & set(rows)

    text = benchmark.markdown([found], BENCHMARK["published"])
    assert (
        "| test events | number | sasrec-snqn-lea | sasrec-supervised | popularity | over sasrec-supervised |" in text
    )
    assert f"| Events before it: 20-49 | {len(long)} | {np.mean(long < 70):.4f} | {np.mean(long < 20):.4f} |" in text

    other = params.model_copy(update={"finetune_le": params.finetune_le.model_copy(update={"users_share": 0.5})})
    assert read_events(other, store) is None
    with pytest.raises(LeaError, match=r"popularity\.parquet: is of other events than events\.parquet"):
        band_rows({"popularity": found.kept["popularity"]}, Events(found.events.users + 1, found.events.bands))


def test_the_rows(tiny: tuple[Params, Path]) -> None:
    found = list(benchmark.csv_rows(benchmark.collect("scientific", *tiny)))
    assert len(found) == (8 * 2 + 1) * 2 * 6  # results and seeds, splits, metrics
    assert {tuple(row) for row in found} == {benchmark.COLUMNS}
    one = {"dataset": "scientific", "backbone": "sasrec", "variant": "sasrec-snqn", "seed": 1}
    assert {**one, "split": "test", "metric": "HR@10", "value": pytest.approx(0.4)} in found
    baseline = {"dataset": "scientific", "backbone": "", "variant": "popularity", "seed": 0}
    assert {**baseline, "split": "valid", "metric": "NDCG@5", "value": pytest.approx(0.1)} in found


def test_the_page(tiny: tuple[Params, Path]) -> None:
    found = benchmark.collect("scientific", *tiny)
    text = benchmark.markdown([found], BENCHMARK["published"])
    assert "cells ran at cccccccccc; P, 2 cores, no GPU, torch 2; 8.0 core-hours of" in text
    assert "1.5 h of all else" in text
    place = {"processor": "P", "cores": 2, "gpu": None, "torch": "2", "number_format": "float32"}
    assert benchmark.machine(place).endswith("torch 2, language models in float32")
    assert "8 of 67 cells have run." in text
    assert "without the LLM: popularity, NDCG@10 0.1000. sasrec-snqn-lea differs from it by +0.6000 (users +0.5" in text
    assert "| the same, pre-trained on other domains | 0.1360 | 0.0753 |" in text
    assert "| popularity | 0.1000 | 0.1000 | 0.1000 |  |  |  |  | ours, baseline |" in text
    assert "| sasrec-snqn-state-shuffled | 0.5000 ± 0.0000 | 0.5000 ± 0.0000 | 0.9000 | +0.3000 | +0.2" in text
    assert "### What bought what" in text
    assert (
        "- state: beats its controls (sasrec-snqn-state against the best of 2 of 6, sasrec-snqn-state-shuffled: +0.3"
        in text
    )
    assert "sa2c" not in text  # of other parameters


def test_the_picture(tiny: tuple[Params, Path], tmp_path: Path) -> None:
    found = benchmark.collect("scientific", *tiny)
    systems, parts = benchmark_plot.picture([found]).axes
    # By their NDCG@10 on test; the asterisk is for the best on validation of those with LE parts.
    names = ["SASRec supervised, LE", "SASRec SNQN, LE *", "SASRec SNQN", "SASRec supervised", "popularity"]
    assert [label.get_text() for label in systems.get_yticklabels()] == names
    assert [bar.get_width() for bar in systems.patches] == pytest.approx([0.9, 0.7, 0.4, 0.2, 0.1])
    # In SNQN (.4) states, .8, and their controls, .5 and .1; the reward stands there without any.
    assert [label.get_text() for label in parts.get_yticklabels()] == ["state, LE", "shuffled", "text", "reward, LE"]
    dots = [line.get_xdata()[0] for line in parts.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([0.4, 0.1, -0.3, 0.1])
    benchmark_plot.draw([found, found], tmp_path / "benchmark.tmp-1")
    assert (tmp_path / "benchmark.tmp-1").read_bytes()[:4] == b"\x89PNG"


def test_nothing_has_run(tmp_path: Path) -> None:
    _, params = params_of(BENCHMARK, "lastfm")
    found = benchmark.collect("lastfm", params, tmp_path)
    assert benchmark.summary(found) == {
        "cells": 0,
        "of": 40,
        "best_baseline": None,
        "all_parts": None,
        "parts": {},
        "pairs": [],
    }
    assert "0 of 40 cells have run." in benchmark.markdown([found], BENCHMARK["published"])
