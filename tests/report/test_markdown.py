"""The report: its numbers by hand, what it does with missing, extra and broken evaluations, and its files."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from lea_core.common.errors import LeaError
from lea_core.evaluation.comparisons import Evidence, baseline_pairs, comparison_rows, twin_pairs
from lea_core.evaluation.results import Score, change, twin
from lea_core.evaluation.verdicts import conclude
from lea_core.metrics.protocol import mixed
from lea_core.report.environment_table import le_note, le_table
from lea_core.report.markdown import event_types, markdown, table_rows
from tests.support.lane import PARAMS, ROOT, change_params
from tests.support.tiny_results import (
    QUALITY,
    RANKED,
    SCORES,
    VARIANTS,
    counted,
    results_of,
    score,
    write_baseline,
    write_results,
    write_variant,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_results(tmp_path)


def test_a_twin_is_supervised_without_the_le_on_the_same_backbone(data: Path) -> None:
    results = results_of(data)
    twins = {result.name: other.name if (other := twin(result, results)) else None for result in results}
    assert twins == {
        "snqn": "supervised",
        "supervised": "supervised",
        "supervised-actions": "supervised",
        "gru4rec": None,
    }


def test_changes_by_hand(data: Path) -> None:
    """Means .12, .10, .085: 20 % above and 15 % below the twin; none for the twin itself and without one."""
    results = results_of(data)
    changes = [change(result, results, "NDCG@10") for result in results]
    assert changes == [pytest.approx(20.0), None, pytest.approx(-15.0), None]


def test_the_table_starts_with_the_headline(data: Path) -> None:
    rows = table_rows(results_of(data), "NDCG@10")
    assert list(rows[0])[-2:] == ["NDCG@10", "HR@10"]
    assert {key: rows[2][key] for key in ("variant", "le", "seeds", "value", "twin", "train_seconds", "HR@10")} == {
        "variant": "supervised-actions",
        "le": "actions",
        "seeds": 2,
        "value": pytest.approx(0.085),
        "twin": "supervised",
        "train_seconds": 5.0,
        "HR@10": pytest.approx(0.15),
    }
    assert rows[2]["sd"] == pytest.approx(0.01 / np.sqrt(2))
    assert rows[3]["twin"] == rows[3]["change_percent"] == ""


def add_events(data: Path) -> None:
    """Types of events, of which no view is held out for test; a purchase scores twice, a click half of all events."""
    for name, (ndcg, hit_rate) in SCORES.items():
        path = data / "evaluations" / name / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics["by_event"] = {
            event: {
                **counted(count),
                "test": {
                    metric: score([factor * value for value in values])
                    for metric, values in (("HR@10", hit_rate), ("NDCG@10", ndcg))
                },
            }
            for event, count, factor in (("click", 5, 0.5), ("purchase, paid", 2, 2.0))
        } | {"view": {"events": {"valid": 1, "test": 0}}}
        path.write_text(json.dumps(metrics))


def test_a_type_of_events_has_its_own_columns(data: Path) -> None:
    without = table_rows(results_of(data), "NDCG@10")
    assert [event_types(row) for row in without] == [{}] * 4
    add_events(data)
    rows = table_rows(results_of(data), "NDCG@10")
    assert [list(row.items())[: len(without[0])] for row in rows] == [list(row.items()) for row in without]
    assert event_types(rows[2]) == {
        "click": {
            "events": 5,
            "NDCG@10": pytest.approx(0.0425),
            "HR@10": pytest.approx(0.075),
            "sd": pytest.approx(0.005 / np.sqrt(2)),
            "change_percent": pytest.approx(-15.0),
        },
        "purchase, paid": {
            "events": 2,
            "NDCG@10": pytest.approx(0.17),
            "HR@10": pytest.approx(0.3),
            "sd": pytest.approx(0.02 / np.sqrt(2)),
            "change_percent": pytest.approx(-15.0),
        },
    }
    path = data / "evaluations" / "gru4rec" / "metrics.json"
    path.write_text(path.read_text().replace('"click"', '"clack"'))
    with pytest.raises(LeaError, match=r"data/evaluations/gru4rec: has events clack, purchase, paid: run `dvc repro`"):
        table_rows(results_of(data), "NDCG@10")


def test_what_else_is_on_disk_is_not_counted(data: Path) -> None:
    names = ["supervised", "snqn"]
    results = results_of(data, {name: VARIANTS[name] for name in names})
    assert [result.name for result in results] == names


def test_a_missing_variant_is_an_error(data: Path) -> None:
    shutil.rmtree(data / "evaluations" / "snqn")
    with pytest.raises(LeaError, match=r"evaluations/snqn/ranks\.parquet: not found: run `dvc repro` to make it"):
        results_of(data)


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([3.0, float("nan"), *RANKED["snqn"][2:]], r"snqn/ranks\.parquet: row 1: rank is nan"),
        (RANKED["snqn"][:7], r"snqn/ranks\.parquet: is of the seeds 0, not 0, 1: run `dvc repro`"),
        ([3.0] * 7 + RANKED["snqn"][7:], r"snqn/ranks\.parquet: all ranks of seed 0 are 3: its policy prefers nothing"),
    ],
)
def test_ranks_that_mean_nothing_are_an_error(data: Path, ranks: list[float], message: str) -> None:
    for part in ("evaluations", "policies"):
        shutil.rmtree(data / part / "snqn")
    write_variant(data, "snqn", [0.1, 0.1], [0.1, 0.1], ranks)
    with pytest.raises(LeaError, match=message):
        results_of(data)


def test_metrics_that_are_not_finite_are_an_error(data: Path) -> None:
    path = data / "evaluations" / "gru4rec" / "metrics.json"
    path.write_text(path.read_text().replace("0.05", "NaN", 1))
    with pytest.raises(LeaError, match=r"gru4rec/metrics\.json: NDCG@10 is no finite number: delete it and run"):
        results_of(data)


def test_policies_of_other_seeds_are_an_error(data: Path) -> None:
    path = data / "policies" / "gru4rec" / "training.json"
    path.write_text(path.read_text().replace('"1"', '"7"'))
    with pytest.raises(LeaError, match=r"gru4rec/training\.json: is of the seeds 0, 7, not 0, 1: run `dvc repro`"):
        results_of(data)


def test_baselines_stand_beside_the_variants(data: Path) -> None:
    for name in ("popularity", "le", "not-asked-for"):
        write_baseline(data, name, RANKED["gru4rec"][:7])
    results = results_of(data, baselines=["popularity", "le"])
    rows = table_rows(results, "NDCG@10")
    shown = [(row["variant"], row["kind"], row["le"], row["value"], row["train_seconds"]) for row in rows[-2:]]
    assert shown == [("popularity", "baseline", "none", 0.07, ""), ("le", "baseline", "LLM", 0.07, "")]
    assert {row["kind"] for row in rows[:-2]} == {"variant"}
    assert twin(results[-1], results) is None
    (data / "baselines" / "le" / "cost.json").unlink()
    with pytest.raises(LeaError, match=r"baselines/le/cost\.json: not found"):
        results_of(data, baselines=["le"])


def test_one_seed_is_not_tested(data: Path) -> None:
    results = [
        replace(result, scores={name: Score(one.mean, None, one.seeds[:1]) for name, one in result.scores.items()})
        for result in results_of(data)
    ]
    assert twin_pairs(results) == []
    assert comparison_rows([], "NDCG@10", {}) == []
    assert baseline_pairs(results, "NDCG@10") == []
    verdicts = conclude(results, "NDCG@10", [], [], [], [])
    assert verdicts["lea"] == "supervised-actions"
    assert verdicts["finding"].endswith("supervised, has 0.1000. With one seed no test is made.")
    text = markdown(results, "NDCG@10", QUALITY, "", Evidence([], [], [], []), verdicts, "")
    assert "With one seed no test is made: give `train.seeds` two or more." in text
    assert "p (Holm)" not in text


def test_metrics_of_other_cutoffs_are_an_error(data: Path) -> None:
    path = data / "evaluations" / "gru4rec" / "metrics.json"
    path.write_text(path.read_text().replace("HR@10", "HR@5"))
    with pytest.raises(LeaError, match=r"data/evaluations/gru4rec: has metrics HR@5, NDCG@10: run `dvc repro`"):
        table_rows(results_of(data), "NDCG@10")


def test_the_le_table_has_a_column_for_each_split() -> None:
    title, header, rows = le_table(QUALITY)
    assert title == "The LE by itself, on 9 users that it did not learn from"
    assert header == ["", "valid", "test"]
    assert rows == [["events", "7", ""], ["le ndcg10", "0.0600", "0.0500"]]
    assert le_note({"users": 0, "actions": {}}, 60) == "There is no held-out event of such users."


def lea(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "MPLCONFIGDIR": str(folder), "PYTHONUTF8": "1"}
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def test_stage_and_command_line(data: Path) -> None:
    """The files of the stage agree with each other, and `lea report` shows the same numbers."""
    folder = data.parent
    shutil.copy(PARAMS, folder / "params.yaml")
    variants = {name: variant.model_dump() for name, variant in VARIANTS.items()}
    variants["gru4rec"]["method"] = "sa2c"  # of whose warm-up no checkpoint is kept
    path = data / "evaluations" / "gru4rec" / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"valid": metrics["valid"] | {"NDCG@10": score([0.02, 0.04])}}))
    change_params(folder, {"variants": variants, "baselines.names": [], "preprocess.repeats": True})
    lea(folder, "stages.report")
    report = data / "report"

    headline = json.loads((report / "headline.json").read_text())
    assert headline == {name: pytest.approx(np.mean(ndcg)) for name, (ndcg, _) in SCORES.items()}
    with (report / "curves.csv").open() as file:
        curves = list(csv.DictReader(file))
    assert curves[1] == {"line": "snqn", "seed": "0", "epoch": "2", "NDCG@10": "0.06"}
    assert len(curves) == 3 * len(VARIANTS)
    assert (report / "chart.png").read_bytes().startswith(b"\x89PNG")

    text = (report / "report.md").read_text()
    how, verdicts = (json.loads((report / f"{name}.json").read_text()) for name in ("protocol", "verdicts"))
    page = unescape((report / "report.html").read_text())
    assert how["in_words"] == (
        "Mean over 7 test events of 7 users, all 60 items ranked, those of the user's history left out, equal scores "
        "at their mean rank. Counted as misses, as items of the history are left out: of the 7 events 2 are of an item "
        "that the user had before (1 by users who had every item). " + mixed(True, True)
    )
    # What is concluded is said once, in the same words in both; and so is how it was measured, in all three.
    assert [part["variant"] for part in verdicts["parts"]] == ["supervised-actions", "snqn"]
    conclusions = [verdicts["finding"], *(part["in_words"] for part in verdicts["parts"]), *verdicts["cautions"]]
    for words in (*conclusions, how["in_words"]):
        assert words in text
        assert words in page
    assert "supervised-actions, the best variant with the LE on validation, has test NDCG@10 0.0850;" in text
    assert re.search(
        r"\| supervised-actions \| -15\.0 % \| -0\.0050 \| -0\.\d{4} to [+-]0\.0000 "
        r"\| -0\.\d{4} to \+0\.\d{4} \| 1\.0000 \| 0\.0850 ± 0\.0071 \|",
        text,
    )
    assert "a bootstrap over 7 users" in text
    assert "- snqn: 2 of 2 seeds were best at their last epoch" in text
    warmed = "- gru4rec: on validation it was best within its warm-up (0.0500), which is no checkpoint, and has 0.0300"
    assert warmed in text
    assert "snqn: 2 of 2 seeds were best at their last epoch" in (report / "report.html").read_text()
    for name, rows in (("comparisons", 2), ("slices", 4 * 7), ("lists", 4 * 3)):
        with (report / f"{name}.csv").open() as file:
            found = list(csv.DictReader(file))
        assert len(found) >= rows, name
        assert {row["variant"] for row in found} <= set(VARIANTS)
    assert "No such variant is there for gru4rec." in text
    assert "| le ndcg10 | 0.0600 | 0.0500 |" in text
    le_measured = "NDCG@10 is a mean over the 7 valid and 6 test events of these users, all 60 items ranked, equal"
    assert le_measured in text
    [row] = [row for row in csv.DictReader((report / "parts.csv").open()) if row["variant"] == "snqn"]
    [twins] = [row for row in csv.DictReader((report / "comparisons.csv").open()) if row["variant"] == "snqn"]
    assert row["p_holm"] == twins["p_holm"]

    screen = lea(folder, "lea_core.cli", "report")
    assert le_measured in " ".join(screen.split())
    assert how["in_words"] in " ".join(screen.split())
    assert re.search(r"snqn\s.*none\s.*0\.1200 ± 0\.0141\s.*\+20\.0 %\s.*0\.2000", screen)
    assert "purchase" not in text + screen

    add_events(data)
    lea(folder, "stages.report")
    assert json.loads((report / "headline.json").read_text()) == headline
    more = (report / "report.md").read_text()
    start, end = text.split("![Validation")
    assert more.startswith(start)
    assert more.endswith(end)
    assert "## purchase, paid: 2 test events\n\nMean over 2 test events of 2 users, all 60 items ranked" in more
    assert "\n\n| variant | change | NDCG@10 | HR@10 |\n" in more
    assert "| supervised-actions | -15.0 % | 0.1700 ± 0.0141 | 0.3000 |" in more
    assert "view" not in more
    screen = lea(folder, "lea_core.cli", "report")
    _, purchase = screen.split("Test split, purchase, paid: 2 events")
    assert re.search(r"snqn\s.*none\s.*0\.2400 ± 0\.0283\s.*\+20\.0 %\s.*0\.4000", purchase)

    # Where no variant uses the LE, nothing that the LLM made is read.
    change_params(folder, {"variants.supervised-actions": ..., "baselines.names": ["text_knn", "le"]})
    for name in ("le_quality", "item_tokens"):
        shutil.rmtree(data / name)
    assert "Not ranked, for no variant uses the LE: text_knn, le\n" in lea(folder, "stages.report")
    assert "The LE by itself" not in (report / "report.md").read_text()
    assert "The LE by itself" not in lea(folder, "lea_core.cli", "report")


def test_the_report_needs_no_torch() -> None:
    code = "import sys, lea_core.report.markdown, lea_core.cli, stages.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
