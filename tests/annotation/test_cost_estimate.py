"""lea forecast: tokens to the last one, what is known left out, and the command line."""

import json
from pathlib import Path

import pytest

from lea_core.annotation import run
from lea_core.annotation.annotate import Annotating
from lea_core.annotation.augment import Augmenting
from lea_core.annotation.cost_estimate import estimate
from lea_core.cli import le
from lea_core.common.errors import LeaError
from tests.annotation.test_annotation_cache import window_count, with_users
from tests.annotation.test_run import LOG, STATES, annotated, total
from tests.support.tiny_project import change, log, write_log, write_project


def test_what_is_forecast_is_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_CACHE", str(tmp_path / "cache"))
    wanted = write_project(tmp_path, LOG)
    before = estimate(tmp_path, wanted)
    job = annotated(tmp_path, monkeypatch)
    first, second = before.runs
    assert first.tokens == first.left == total(job)["tokens"]
    assert first.seconds > first.left / before.tokens_per_second
    kind = Augmenting(wanted.augment.actions, wanted.preprocess.repeats)
    augmenting = run.prepare(kind, tmp_path, wanted)
    run.perform(augmenting)
    assert second.tokens == total(augmenting)["tokens"]
    written = [sum((tmp_path / path).stat().st_size for path in one.outs) for one in (job.task, kind)]
    for price, size in zip(before.runs, written, strict=True):
        assert 0.2 * price.bytes < size < 2 * price.bytes + 20_000  # Parquet's own words weigh more in small files
    assert [price.left for price in estimate(tmp_path, wanted).runs] == [0, 0]  # done
    new = log(10, seed=1)
    write_log(tmp_path, with_users(LOG, new, 30))
    left = estimate(tmp_path, wanted).runs[0]
    share = window_count(new) / (window_count(LOG) + window_count(new))
    assert left.left == pytest.approx(share * left.tokens, abs=1)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LEA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    wanted = write_project(tmp_path, LOG)
    le.forecast()
    shown = capsys.readouterr().out
    job = run.prepare(Annotating(wanted.annotate.sampled_actions, wanted.annotate.seed), tmp_path, wanted)
    assert f"{sum(map(job.tokens, job.shards)):,}" in shown
    assert "tried with 1 worker of this machine" in shown
    assert not (tmp_path / STATES).exists()
    assert json.loads((job.run / "plan.json").read_text())["run"] == job.name
    change(tmp_path)
    (tmp_path / "data" / "le" / "le.json").unlink()
    with pytest.raises(LeaError, match=r"data/le/le\.json: not found: run `dvc repro` to make it"):
        le.forecast()
