"""What is said of the benchmark's results: the summary, the tables and the picture."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.paper import plot, report, slices
from benchmarks.paper.params import params_of
from benchmarks.paper.slices import Events, band_rows, read_events
from benchmarks.paper.store import STORE, read_kept
from benchmarks.support.jobs import RESULTS
from benchmarks.support.written import read_csv, save
from lea_core.common.artifacts import read_json, write_json
from lea_core.common.errors import LeaError
from lea_core.params import Params
from tests.benchmarks.tiny import BENCHMARK, keep_configurations
from tests.support.tiny_project import log


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Path]:
    """No test changes it."""
    return keep_configurations(tmp_path_factory.mktemp("benchmark"))


def test_the_summary(tiny: tuple[Params, Path]) -> None:
    found = report.collect("scientific", *tiny)
    own = report.summary(found)
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


def test_two_kept_results(tiny: tuple[Params, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, store = tiny
    monkeypatch.setattr(report, "params_of", lambda *_: ({}, params))
    monkeypatch.setattr(report, "STORE", tmp_path)
    shutil.copytree(store, tmp_path / "scientific")
    text = report.difference(BENCHMARK, ["scientific", "sasrec-snqn-lea", "sasrec-snqn"])
    # .7 and .4 of the users; no seed differs, so .3 -+ 1.984 sqrt(.21 / 99)
    assert text.startswith("sasrec-snqn-lea - sasrec-snqn: NDCG@10 +0.3000; over users +0.2")
    assert "; over users and seeds +0.2086 to +0.3914, p 0.0000; not corrected" in text
    path = tmp_path / "scientific" / "sasrec-snqn.json"
    note = read_json(path)
    note["made_of"]["data/interactions"] = "of another log"
    write_json(path, note)
    text = report.difference(BENCHMARK, ["scientific", "sasrec-snqn-lea", "sasrec-snqn"])
    assert text.endswith("; not corrected; not of the same data/interactions")
    with pytest.raises(LeaError, match="has no gru4rec-snqn of these parameters"):
        report.difference(BENCHMARK, ["scientific", "sasrec-snqn-lea", "gru4rec-snqn"])
    with pytest.raises(LeaError, match="give one of scientific, lastfm and two names"):
        report.difference(BENCHMARK, ["scientific"])


def test_pairs_that_are_asked_for(tiny: tuple[Params, Path]) -> None:
    """.7 against .1 and .4 of the users; what has not run is left out."""
    pairs = [["sasrec-snqn-lea", "popularity"], ["sasrec-snqn-lea", "sasrec-snqn"], ["gru4rec-snqn", "sasrec-snqn"]]
    found = report.collect("scientific", *tiny, pairs)
    assert [row["difference"] for row in report.summary(found)["pairs"]] == pytest.approx([0.6, 0.3])
    low = 0.6 - 1.984 * (0.24 / 99) ** 0.5
    assert any("| popularity | +0.6000 | +0.5" in line and f"| {low:+.4f} to" in line for line in report.asked(found))


def test_for_which_events(tiny: tuple[Params, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    params, store = tiny
    monkeypatch.setattr(slices, "FEW", 20)
    found = report.collect("scientific", params, store)
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

    text = report.markdown([found], BENCHMARK["published"])
    assert (
        "| test events | number | sasrec-snqn-lea | sasrec-supervised | popularity | over sasrec-supervised |" in text
    )
    assert f"| Events before it: 20-49 | {len(long)} | {np.mean(long < 70):.4f} | {np.mean(long < 20):.4f} |" in text

    other = params.model_copy(update={"finetune_le": params.finetune_le.model_copy(update={"users_share": 0.5})})
    assert read_events(other, store) is None
    with pytest.raises(LeaError, match=r"popularity\.parquet: is of other events than events\.parquet"):
        band_rows({"popularity": found.kept["popularity"]}, Events(found.events.users + 1, found.events.bands))


def test_the_rows(tiny: tuple[Params, Path]) -> None:
    found = list(report.csv_rows(report.collect("scientific", *tiny)))
    assert len(found) == (8 * 2 + 1) * 2 * 6  # results and seeds, splits, metrics
    assert {tuple(row) for row in found} == {report.COLUMNS}
    one = {"dataset": "scientific", "backbone": "sasrec", "variant": "sasrec-snqn", "seed": 1}
    assert {**one, "split": "test", "metric": "HR@10", "value": pytest.approx(0.4)} in found
    baseline = {"dataset": "scientific", "backbone": "", "variant": "popularity", "seed": 0}
    assert {**baseline, "split": "valid", "metric": "NDCG@5", "value": pytest.approx(0.1)} in found


def test_the_page(tiny: tuple[Params, Path]) -> None:
    found = report.collect("scientific", *tiny)
    text = report.markdown([found], BENCHMARK["published"])
    assert "cells ran at cccccccccc; P, 2 cores, no GPU, torch 2; 8.0 core-hours of" in text
    assert "1.5 h of all else" in text
    place = {"processor": "P", "cores": 2, "gpu": None, "torch": "2", "number_format": "float32"}
    assert report.machine(place).endswith("torch 2, language models in float32")
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
    found = report.collect("scientific", *tiny)
    systems, parts = plot.picture([found]).axes
    # By their NDCG@10 on test; the asterisk is for the best on validation of those with LE parts.
    names = ["SASRec supervised, LE", "SASRec SNQN, LE *", "SASRec SNQN", "SASRec supervised", "popularity"]
    assert [label.get_text() for label in systems.get_yticklabels()] == names
    assert [bar.get_width() for bar in systems.patches] == pytest.approx([0.9, 0.7, 0.4, 0.2, 0.1])
    # In SNQN (.4) states, .8, and their controls, .5 and .1; the reward stands there without any.
    assert [label.get_text() for label in parts.get_yticklabels()] == ["state, LE", "shuffled", "text", "reward, LE"]
    dots = [line.get_xdata()[0] for line in parts.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([0.4, 0.1, -0.3, 0.1])
    save(plot.picture([found, found]), tmp_path / "benchmark.png")
    assert (tmp_path / "benchmark.png").read_bytes()[:4] == b"\x89PNG"


def test_nothing_has_run(tmp_path: Path) -> None:
    _, params = params_of(BENCHMARK, "lastfm")
    found = report.collect("lastfm", params, tmp_path)
    assert report.summary(found) == {
        "cells": 0,
        "of": 40,
        "best_baseline": None,
        "all_parts": None,
        "parts": {},
        "pairs": [],
    }
    assert "0 of 40 cells have run." in report.markdown([found], BENCHMARK["published"])


def test_what_is_kept_gives_the_committed_rows() -> None:
    """From results/cells alone, to the last digit; the tables and intervals made of the same take minutes."""
    _, params = params_of(BENCHMARK, "lastfm")
    kept = {name: read_kept(params, STORE / "lastfm", name) for name in (*params.variants, *params.baselines.names)}
    assert None not in kept.values()
    found = SimpleNamespace(name="lastfm", params=params, kept=kept)
    rows = [{key: str(value) for key, value in row.items()} for row in report.csv_rows(found)]
    assert rows == [row for row in read_csv(RESULTS / "benchmark.csv") if row["dataset"] == "lastfm"]
