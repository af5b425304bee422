"""benchmarks/environment/seeds.py: what is run for another seed of the LE, and what is said of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.environment import seeds as le_seeds
from benchmarks.paper.inputs import note_of
from benchmarks.paper.params import params_of, read_benchmark
from benchmarks.paper.stage import NOTE
from benchmarks.paper.store import keep
from lea_core.common.artifacts import read_json, write_csv, write_json
from lea_core.common.errors import LeaError
from lea_core.params import FOLDERS, Params, load
from tests.benchmarks.tiny import write_ranks
from tests.support import lane
from tests.support.edited import edit
from tests.support.tiny_project import log

BENCHMARK = read_benchmark()
PARAMS = params_of(BENCHMARK, "scientific")[1]
CONFIGURATION = "sasrec-supervised-ranking"


def test_only_what_the_configurations_read_is_made() -> None:
    assert le_seeds.stages_of(PARAMS, [CONFIGURATION]) == ["finetune_le", "evaluate_le", "annotate", "rank"]
    both = ["sasrec-snqn-both-items", "sasrec-snqn-state"]  # the LE's ranking times that of item neighbours
    wanted = ["finetune_le", "evaluate_le", "annotate", "rank", "control ranking-le-item-knn"]
    assert le_seeds.stages_of(PARAMS, both) == wanted
    for name in (
        "sasrec-supervised",
        "sasrec-supervised-items",
        "sasrec-snqn-ranking-policy",
        "sasrec-snqn-state-text",
    ):
        with pytest.raises(LeaError, match=f"{name} does not learn from the LE's state"):
            le_seeds.stages_of(PARAMS, [name])
    with pytest.raises(LeaError, match="there is no configuration snqn"):
        le_seeds.stages_of(PARAMS, ["snqn"])
    with pytest.raises(LeaError, match="has no data set movies: give one of scientific, lastfm"):
        le_seeds.main(["movies"])
    for half in (["scientific", CONFIGURATION], ["scientific", "--seeds", "1"]):
        with pytest.raises(LeaError, match="give both configurations and --seeds, or neither"):
            le_seeds.main(half)


def test_spread_by_hand() -> None:
    """Means .2 and .4 differ by .1 sqrt 2 in SD; each has a variance of .02 over two seeds, so .01 in its mean."""
    assert le_seeds.spread([[0.1, 0.3], [0.3, 0.5]]) == pytest.approx((0.3, 0.1 * 2**0.5, 0.1))
    assert le_seeds.spread([[0.2], [0.4]])[2] == 0.0


def test_the_folder_of_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once; with other parameters or files, of the log or of the LE, or other code, anew."""
    source, folder = tmp_path / "scientific", tmp_path / "scientific-le-3"
    with pytest.raises(LeaError, match="scientific: not found: run `make benchmark`, or `dvc repro rank@scientific`"):
        le_seeds.prepare(source, folder, 3)
    for name in (
        "interactions/a",
        "llm/b",
        "item_tokens/c",
        "items/le.parquet",
        *(f"{part}/none.parquet" for part in FOLDERS.values()),
    ):
        (source / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (source / "data" / name).write_text(name)
    text = lane.PARAMS.read_text()
    (source / "params.yaml").write_text(text)
    le_seeds.prepare(source, folder, 3)
    assert load(folder / "params.yaml").finetune_le.seed == 3
    assert (folder / "data" / "llm" / "b").read_text() == "llm/b"
    assert (folder / "data" / "items" / "le.parquet").exists()  # made of item texts, without the LE

    def stages_after(change: Callable[[], object]) -> list[str]:
        """What is still done of what was, after a change."""
        write_json(folder / "done.json", {**read_json(folder / "done.json"), "stages": ["finetune_le"]})
        change()
        le_seeds.prepare(source, folder, 3)
        return read_json(folder / "done.json")["stages"]  # type: ignore[no-any-return]

    assert stages_after(lambda: None) == ["finetune_le"]
    shorter = text.replace("history: 200", "history: 100", 1)
    assert stages_after(lambda: (source / "params.yaml").write_text(shorter)) == []
    assert stages_after(lambda: (source / "data" / "item_tokens" / "c").write_text("other")) == []
    assert (folder / "data" / "item_tokens" / "c").read_text() == "other"
    assert stages_after(lambda: edit(monkeypatch, tmp_path / "code", "lea_core/environment/heads.py")) == []


def keep_made_up(params: Params, folder: Path, store: Path, shares: dict[str, float]) -> None:
    """Keep the LE, popularity and a configuration that are right for these shares of 100 users."""
    for name, share in shares.items():
        baseline = name != CONFIGURATION
        parent, seeds = ("baselines", [0]) if baseline else ("evaluations", [0, 1])
        write_ranks(folder / "data" / parent / name, log(100), seeds, {"valid": share, "test": share})
        if baseline:
            cost = {"seconds_per_user": 0.0, "needs_llm": name == "le"}
            write_json(folder / "data" / "baselines" / name / "cost.json", cost)
            write_json(folder / "data" / "baselines" / name / NOTE, note_of(params, folder, name))
    policy = folder / "data" / "policies" / CONFIGURATION
    policy.mkdir(parents=True)
    write_json(policy / "training.json", {"seeds": {str(s): {"seconds": 1.0, "best_epoch": 2} for s in (0, 1)}})
    write_csv(policy / "curves.csv", [{"seed": 0, "epoch": 2, "NDCG@10": 0.5}])
    note = {**note_of(params, folder, CONFIGURATION), "seconds": 1.0, "where": {"number_format": "float32"}}
    write_json(folder / "data" / "cells" / f"{CONFIGURATION}.json", note)
    keep(params, folder, store)


def test_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = {**BENCHMARK, "changes": {"train.seeds": [0, 1]}}
    monkeypatch.setattr(le_seeds, "STORE", tmp_path / "store")
    monkeypatch.setattr(le_seeds, "RESULT", tmp_path / "le_seeds.md")
    keep_made_up(
        params_of(benchmark, "scientific")[1],
        tmp_path / "a",
        tmp_path / "store" / "scientific",
        {"le": 0.3, "popularity": 0.1, CONFIGURATION: 0.5},
    )
    own = le_seeds.seeded(benchmark, "scientific", 4)
    keep_made_up(own, tmp_path / "b", tmp_path / "store" / "scientific-le-4", {"le": 0.4, CONFIGURATION: 0.7})
    le_seeds.run_seed(own, "scientific", [CONFIGURATION])  # it is kept: nothing runs
    le_seeds.write(benchmark)
    text = (tmp_path / "le_seeds.md").read_text()
    assert f"| LE | number format | the LE itself, validation | test | {CONFIGURATION} |" in text
    assert "| seed 4 | float32 | 0.4000 | 0.4000 | 0.7000 ± 0.0000 |" in text
    assert "| mean |  |  | 0.3500 | 0.6000 |" in text
    assert "| SD among LEs |  |  | 0.0707 | 0.1414 |" in text
    assert "| of it by seeds of the policy |  |  |  | 0.0000 |" in text
    assert f"| {CONFIGURATION} | popularity | +0.4000 (+0.3" in text  # 40 and 60 of the 100 users
    assert ") | +0.6000 (+0.5" in text
    assert "lastfm" not in text
