"""The tiny lane in real DVC repositories: what a change of each parameter runs, and the commands that users type.

The tables below hold changes and the stages that they run. Each change is made on top of the ones before it, and the
stages whose commands ran must be the expected ones exactly. A stage that runs and writes the same bytes as before ends
the chain there. Which stage reads which parameter says test_agreement.py; here is what follows from it, so several
parameters change at once. A clone of the lane goes through the table above the training in the background.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lea_core.common import tables
from lea_core.common.layout import FOLDERS
from tests.support.lane import (
    VARIANTS,
    change_params,
    clone,
    commit,
    dvc,
    environment,
    git,
    make_lane,
    ran,
    skipped_offline,
)

pytestmark = pytest.mark.slow

TIDY = {"tidy@policies", "tidy@evaluations"}
SIGNALS = {"signals@snqn-lea", "tidy@signals"}
SNQN_LEA = {"train@snqn-lea", "evaluate@snqn-lea", "estimate_value", "export", "report"} | TIDY
ALL_VARIANTS = SNQN_LEA | SIGNALS | {"train@supervised", "evaluate@supervised", "signals@supervised"}
LLM = {"tokenize_items", "finetune_le", "annotate", "augment", "rank", "measure_le", "evaluate_le"}
EVERYTHING = {"fetch_data", "fetch_llm", "preprocess", "baselines", "text_knn", "stamp_le"} | LLM | ALL_VARIANTS
GRU4REC = {"backbone": "gru4rec", "method": "supervised", **dict.fromkeys(FOLDERS, "none")}

Table = list[tuple[dict[str, object], set[str]]]
ABOVE_TRAINING: Table = [
    # Who does the work is no part of what comes out.
    ({"annotate.engine": "torchrun", "annotate.workers": 1}, set()),
    (
        {
            "annotate.engine": "local",
            # The sampled actions change, so the rewards do; the states do not, so nothing is proposed anew.
            "annotate.seed": 1,
            # The pooled method reads no setting of the learned one, and a leave-one-out split no seed: the same bytes.
            # The policy that ships says how its data were filtered and split, the seed too.
            "tokenize_items.learned.steps": 3,
            "preprocess.split.seed": 1,
            # Nobody reads the LE's actions now ...
            "variants.snqn-lea.actions": "none",
        },
        {"tokenize_items", "preprocess", "export", "annotate", "stamp_le"} | SNQN_LEA | SIGNALS,
    ),
    # ... but the report shows their rewards; what the LE is worth by itself is measured on its states.
    ({"augment.actions": 1}, {"augment", "stamp_le", "report"} | SIGNALS),
]
FROM_TRAINING_ON: Table = [
    (
        {
            "report.metric": "HR@10",
            "baselines.session_knn.recent": 3,
            "methods.snqn.gamma": 0.4,
            "variants.supervised-gru4rec": GRU4REC,
            # No variant of the lane uses these: the supervised SASRec is not trained again.
            "methods.sa2c.gamma": 0.4,
            "backbones.caser.width": 8,
        },
        SNQN_LEA
        | {"baselines", "tidy@signals"}
        | {f"{stage}@supervised-gru4rec" for stage in ("train", "evaluate", "signals")},
    ),
    # No weight of the lane is clipped: the values stay, but there is a variant less.
    (
        {"variants.supervised-gru4rec": ..., "off_policy.clip": 5.0},
        {"estimate_value", "export", "report", "tidy@signals"} | TIDY,
    ),
]


@dataclass
class Lane:
    """The lane after its first run, and what happens in its clone meanwhile."""

    folder: Path
    first: set[str]  # stages of the first run
    changed: str  # what git saw after it
    second: set[str]  # stages of a second run
    first_seconds: float  # of the processor: a busy machine takes longer by the clock
    second_seconds: float  # likewise
    annotations: dict[str, str]
    background: Future[tuple[set[str], str, list[set[str]]]]
    clone: Path


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    """The lane, run once and committed; its folder is gone afterwards, for it holds a language model."""
    with tempfile.TemporaryDirectory(prefix="lea-lane-") as parent, ThreadPoolExecutor() as pool:
        folder, other = Path(parent, "lane"), Path(parent, "clone")
        make_lane(folder)
        with skipped_offline():
            first, first_seconds = timed_repro(folder)
        changed = git(folder, "status", "--porcelain")
        second, second_seconds = timed_repro(folder)
        commit(folder, "Run the lane")
        clone(folder, other)
        background = pool.submit(again_and_above, other)
        yield Lane(
            folder, first, changed, second, first_seconds, second_seconds, annotations(folder), background, other
        )


def timed_repro(folder: Path) -> tuple[set[str], float]:
    """The stages that `dvc repro` ran, and the seconds of the processor that it took."""
    started = processor_seconds()
    stages = ran(dvc(folder, "repro"))
    return stages, processor_seconds() - started


def processor_seconds() -> float:
    """That processes which this one waited for have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def again_and_above(folder: Path) -> tuple[set[str], str, list[set[str]]]:
    """Fine-tune the LE once more, then change what lies above the training: what ran, dvc.lock's changes, what ran."""
    forced = ran(dvc(folder, "repro", "--force", "--single-item", "finetune_le"))
    return forced, git(folder, "diff", "dvc.lock"), apply(folder, ABOVE_TRAINING)


def apply(folder: Path, table: Table) -> list[set[str]]:
    """Make one change after another; the stages that each ran."""
    stages = []
    for changes, _ in table:
        change_params(folder, changes)
        stages.append(ran(dvc(folder, "repro")))
    return stages


def expected(table: Table) -> list[set[str]]:
    return [stages for _, stages in table]


def annotations(folder: Path) -> dict[str, str]:
    """SHA-256 of what the LE gave."""
    files = [folder / "data" / part / "le.parquet" for part in ("states", "rewards", "actions", "rankings")]
    return {file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def revert(folder: Path) -> None:
    """Back to the last commit, artifacts too; nothing may run for it."""
    git(folder, "checkout", "--quiet", "params.yaml", "dvc.lock")
    assert ran(dvc(folder, "repro")) == set()
    assert git(folder, "status", "--porcelain") == ""


def experiments(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of `dvc exp show` by experiment, or by revision where it is none."""
    rows = csv.DictReader(dvc(folder, "exp", "show", "--csv", "--only-changed").splitlines())
    return {row["Experiment"] or row["rev"]: row for row in rows}


def headline(folder: Path) -> dict[str, float]:
    return json.loads((folder / "data/report/headline.json").read_text())  # type: ignore[no-any-return]


def test_every_stage_runs_once(lane: Lane) -> None:
    assert lane.first == EVERYTHING
    assert lane.changed == "?? dvc.lock\n"
    assert lane.second == set()
    # Against the first run, not a number of seconds: a slow machine is slow at both.
    assert lane.second_seconds < lane.first_seconds / 20


def test_the_report_has_the_variants(lane: Lane) -> None:
    with (lane.folder / "data/report/table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows if row["kind"] == "variant"] == list(VARIANTS)
    assert {row["variant"]: float(row["value"]) for row in rows if row["kind"] == "variant"} == headline(lane.folder)
    assert {row["kind"] for row in rows} == {"variant", "baseline"}
    assert "<svg" in (lane.folder / "data/report/report.html").read_text()
    assert all(0.0 < value < 1.0 for value in headline(lane.folder).values())


def test_changes_from_training_on(lane: Lane) -> None:
    assert apply(lane.folder, FROM_TRAINING_ON) == expected(FROM_TRAINING_ON)
    assert annotations(lane.folder) == lane.annotations
    assert list(headline(lane.folder)) == sorted(VARIANTS)
    # DVC leaves what a removed variant made; `tidy` does not ...
    assert not list((lane.folder / "data").glob("*/supervised-gru4rec*"))
    # ... wherever it comes from, and no other stage runs for it, so that dvc.lock is as of a clean checkout.
    left = [lane.folder / "data" / folder / "no-variant" for folder in ("policies", "evaluations", "signals")]
    for folder in left:
        folder.mkdir()
        (folder / "file").touch()
    git(lane.folder, "checkout", "--quiet", "params.yaml", "dvc.lock")
    assert ran(dvc(lane.folder, "repro")) == {"tidy@signals"} | TIDY
    assert git(lane.folder, "status", "--porcelain") == ""
    assert not any(folder.exists() for folder in left)


def test_experiments(lane: Lane) -> None:
    """`dvc exp run -S`, `exp show`, `metrics diff` and `plots show`, as in the README."""
    before = headline(lane.folder)
    assert ran(dvc(lane.folder, "exp", "run", "--name", "hits", "-S", "report.metric=HR@10")) == {"export", "report"}
    after = headline(lane.folder)
    assert after != before

    shown = experiments(lane.folder)
    assert {name: row["report.metric"] for name, row in shown.items()} == {
        "workspace": "HR@10",
        "main": "NDCG@10",
        "hits": "HR@10",
    }
    assert {name: float(row["snqn-lea"]) for name, row in shown.items()} == {
        "workspace": after["snqn-lea"],
        "main": before["snqn-lea"],
        "hits": after["snqn-lea"],
    }

    difference = json.loads(dvc(lane.folder, "metrics", "diff", "--json"))["data/report/headline.json"]
    assert difference["snqn-lea"] == {
        "old": before["snqn-lea"],
        "new": after["snqn-lea"],
        "diff": pytest.approx(after["snqn-lea"] - before["snqn-lea"]),
    }

    page = dvc(lane.folder, "plots", "show").strip().removeprefix("file://")
    html = Path(page).read_text()
    assert "Validation NDCG@10 while training" in html
    assert "Test score of every variant" in html
    revert(lane.folder)


def test_an_experiment_in_a_copy_of_the_tree(lane: Lane) -> None:
    """`exp run --temp` leaves the workspace alone and fetches nothing anew."""
    before = headline(lane.folder)
    output = dvc(lane.folder, "exp", "run", "--temp", "--name", "aside", "-S", "baselines.session_knn.recent=2")
    assert ran(output) == {"baselines", "report"}
    assert headline(lane.folder) == before
    assert git(lane.folder, "status", "--porcelain") == ""
    shown = experiments(lane.folder)
    assert {name: row["baselines.session_knn.recent"] for name, row in shown.items()}["aside"] == "2"


def test_a_mistake_stops_the_run_and_costs_nothing(lane: Lane) -> None:
    """A failing stage leaves what others made; its own former output comes back from the cache, nothing runs again."""
    change_params(lane.folder, {"annotate.seed": 2, "annotate.batch_tokens": 0})
    with pytest.raises(RuntimeError, match=r"error: params\.yaml: annotate\.batch_tokens is 0, but must be greater"):
        dvc(lane.folder, "repro")
    revert(lane.folder)
    assert annotations(lane.folder) == lane.annotations


def test_a_killed_repro_goes_on(lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC removes a stage's outputs before it runs it again; finished shards lie elsewhere."""
    monkeypatch.setenv("LEA_LANE_CACHE", str(tmp_path))

    def shards() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in tmp_path.glob("annotations/*/annotate-*/*.safetensors")}

    change_params(lane.folder, {"annotate.shard_events": 100, "annotate.workers": 1})
    command = [sys.executable, "-m", "dvc", "repro", "annotate"]
    process = subprocess.Popen(command, cwd=lane.folder, env=environment(), start_new_session=True)
    while len(shards()) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = shards()
    dvc(lane.folder, "repro", "annotate")
    assert finished.items() <= shards().items()
    assert len(shards()) > len(finished)
    states = tables.read_table(lane.folder / "data/states/le.parquet", tables.STATES)
    revert(lane.folder)
    before = tables.read_table(lane.folder / "data/states/le.parquet", tables.STATES)
    assert states["position"].equals(before["position"])
    # shards of another size are other batches: equal but for rounding
    found, expected_ = (tables.to_numpy(table, "state").astype(float) for table in (states, before))
    assert np.abs(found - expected_).mean() < 0.02


def test_changes_above_training(lane: Lane) -> None:
    forced, changed, above = lane.background.result()
    # The same seed gives the same bytes of the LE. What annotates with it: tests/annotation/test_run.py.
    assert (forced, changed) == ({"finetune_le"}, "")
    assert above == expected(ABOVE_TRAINING)
    now = annotations(lane.clone)
    assert {part for part in now if now[part] != lane.annotations[part]} == {"rewards", "actions"}
    for part in now:  # changed or deleted, they come back from the cache
        shutil.rmtree(lane.clone / "data" / part)
    revert(lane.clone)
    assert annotations(lane.clone) == lane.annotations
