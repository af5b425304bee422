"""Tuning: the same trials for each variant, the best by validation, the present settings first, and a kill survived."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lea_core.cli import app
from lea_core.common import code_hash
from lea_core.common.errors import LeaError
from lea_core.experiments import tuning
from lea_core.learners import loop
from lea_core.learners.divergence import DivergedError
from lea_core.params import Params, load
from lea_core.params.overlay import use
from tests.support.circle import sequences
from tests.support.edited import edit
from tests.support.lane import PARAMS, ROOT, change_params
from tests.support.tiny_project import write_log

SMALL: dict[str, Any] = {
    "backbones.sasrec.width": 8,
    "methods.sa2c.warmup_epochs": 1,
    "methods.snqn.negatives": 5,
    "train.epochs": 2,
    "train.history": 4,
    "preprocess.repeats": True,
    "evaluate.mask_seen": False,
    "tune.trials": 3,
    "tune.space": {
        "train.learning_rate": {"low": 0.0001, "high": 0.03, "log": True},
        "backbones.sasrec.layers": {"low": 1, "high": 3, "step": 1},
        "methods.snqn.half_td": {"choices": [True, False]},
    },
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A small params.yaml and data/ of users who walk round a circle, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEA_CACHE", str(tmp_path / "cache"))
    write_log(tmp_path, sequences([8] * 20))
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    return change({})


def change(changes: dict[str, Any]) -> Params:
    change_params(Path(), {**SMALL, **changes})
    return load()


def pretend(monkeypatch: pytest.MonkeyPatch, fails: bool = False, best: float = 0.01) -> list[float]:
    """Training that scores a learning rate by how near it is to `best`; returns the list of those that came."""
    rates: list[float] = []

    def train_seed(name: str, seed: int, params: Params, *_: object) -> SimpleNamespace:
        rate = params.of(name).train.learning_rate
        rates.append(rate)
        if fails and len(rates) > 1:
            raise DivergedError("astray")
        return SimpleNamespace(summary={"NDCG@10": 1.0 - abs(rate - best) * 10 - seed / 100, "best_epoch": seed})

    monkeypatch.setattr(loop, "train_seed", train_seed)
    return rates


def study(params: Params, name: str = "snqn") -> list[tuning.Trial]:
    return tuning.study(params, Path("data"), "circle", name)


def test_every_variant_gets_the_same_trials_and_its_best_is_taken(project: Params) -> None:
    """On the command line, in processes of their own; what comes out is for `lea use`."""
    names = ["supervised", "snqn"]
    app(["tune", *names], standalone_mode=False)
    studies = {name: tuning.study(project, Path("data"), "circle", name) for name in names}  # read back
    assert {name: len(trials) for name, trials in studies.items()} == dict.fromkeys(names, 3)
    assert studies["supervised"][0].values == {"backbones.sasrec.layers": 1, "train.learning_rate": 0.003}
    assert studies["snqn"][0].values["methods.snqn.half_td"] is True
    assert all(0.0 < trial.score <= 1.0 for trials in studies.values() for trial in trials)

    changes = use(Path("tuning/tuned.yaml"))
    tuned = load()
    for name in names:
        top = max(studies[name], key=lambda trial: sum(trial.scores))
        assert tuned.variants[name].set == top.values
        assert any(line.startswith(f"variants.{name}.set: ") for line in changes)
    header, *lines = Path("tuning/tuning.csv").read_text().splitlines()
    keys = "train.learning_rate,backbones.sasrec.layers,methods.snqn.half_td"
    assert set(header.split(",")) == set(
        f"dataset,variant,trial,proposed,{keys},NDCG@10,sd,best_epoch,seconds".split(",")
    )
    assert len(lines) == 6


def test_one_of_many_variants_is_tuned(project: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may be named elsewhere in params.yaml: as the policy of a control, as the one to export."""
    controls = {"seed": 0, "sources": {}, "policies": {"mine": {"part": "actions", "policy": "supervised"}}}
    params = change({"controls": controls, "export.variant": "supervised", "tune.trials": 1})
    pretend(monkeypatch)
    monkeypatch.setattr(tuning, "side_by_side", lambda work, names: [work(name) for name in names])
    (trials,) = tuning.tune(params, Path("data"), ["snqn"], "ring").values()
    assert len(trials) == 1


def test_seeds_are_averaged_and_more_trials_continue(project: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = pretend(monkeypatch)
    short = study(change({"tune.seeds": [0, 2]}))
    assert short[0].score == pytest.approx(1.0 - 0.07 - 0.01)
    assert [trial.epochs for trial in short] == [[0, 2]] * 3
    longer = study(change({"tune.seeds": [0, 2], "tune.trials": 14}))
    assert longer[:3] == short
    assert len(rates) == 2 * 14
    assert tuning.best(longer).score == max(trial.score for trial in longer)
    assert study(change({"tune.seeds": [0, 2]})) == short  # fewer again: nothing is trained
    assert len(rates) == 2 * 14
    study(change({"tune.seeds": [0, 2], "train.patience": 9}))  # other parameters: a study of its own
    assert len(rates) == 2 * 17


def test_trials_of_other_code_or_circumstances_are_made_anew(
    project: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = change({"tune.trials": 1})
    rates = pretend(monkeypatch)
    study(params)
    edit(monkeypatch, tmp_path / "results", "lea_core/evaluation/results.py")
    study(params)
    assert len(rates) == 1
    for count, name in enumerate(("models/policy_network", "data/leaks"), start=2):
        edit(monkeypatch, tmp_path / name, f"lea_core/{name}.py")
        study(params)
        assert len(rates) == count
    with monkeypatch.context() as patch:
        patch.setattr(code_hash, "_version", lambda name: f"{name} 99")  # torch's, among others
        study(params)
    assert len(rates) == 4
    monkeypatch.setattr(tuning, "_device", lambda: "meta")
    study(params)
    assert len(rates) == 5


@pytest.mark.parametrize(("budget", "startup"), [(6, 3), (20, 10)])
def test_trials_after_the_first_ones_depend_on_the_scores(
    project: Params, monkeypatch: pytest.MonkeyPatch, budget: int, startup: int
) -> None:
    """Two trainings, of which one likes low learning rates and one high ones: TPE goes apart, random draws do not."""
    params = change({"tune.trials": budget})
    rates = []
    for best in (0.0001, 0.03):
        monkeypatch.setenv("LEA_CACHE", str(Path(f"cache-{best}").resolve()))
        rates.append(pretend(monkeypatch, best=best))
        study(params)
    low, high = rates
    assert low[:startup] == high[:startup]
    assert all(one != other for one, other in zip(low[startup:], high[startup:], strict=True))
    assert sum(low[startup:]) < sum(high[startup:])


def test_trials_of_a_small_budget_are_not_those_of_a_large_one(
    project: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the fourth on they were proposed otherwise: the larger budget starts anew."""
    rates = pretend(monkeypatch)
    study(change({"tune.trials": 5}))
    study(change({"tune.trials": 20}))
    assert len(rates) == 5 + 20


def test_what_diverges_scores_nothing(project: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, fails=True)
    trials = study(project)
    assert [trial.score for trial in trials[1:]] == [0.0, 0.0]
    assert tuning.best(trials) is trials[0]


def test_a_killed_study_goes_on_and_ends_the_same(project: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from pathlib import Path; from lea_core.experiments import tuning as tune; from lea_core.params import load; "
        "params = load(); tune.study(params, Path('data'), 'circle', 'snqn')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("circle snqn 1/3: NDCG@10 ")
        process.send_signal(signal.SIGKILL)
    killed = tuning._kept(project, Path("data"), "snqn").load()
    assert killed is not None
    finished = len(killed[1]["trials"])
    assert finished in (1, 2)

    trained: list[float] = []
    real = loop.train_seed

    def counting(name: str, seed: int, params: Params, *others: Any) -> loop.Trained:
        trained.append(params.of(name).train.learning_rate)
        return real(name, seed, params, *others)

    monkeypatch.setattr(loop, "train_seed", counting)
    resumed = study(project)
    assert len(trained) == 3 - finished
    monkeypatch.setenv("LEA_CACHE", str(Path("other").resolve()))
    unbroken = study(project)
    assert [(trial.values, trial.scores, trial.epochs) for trial in unbroken] == [
        (trial.values, trial.scores, trial.epochs) for trial in resumed
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.learning_rate": 0.1}, "tune.space.train.learning_rate lacks 0.1, which variant supervised has now"),
        (
            {"tune.space": {"methods.sac.gamma": {"choices": [0.0, 0.5]}}},
            "tune.space has no key that variant",
        ),
        (
            {"tune.space": {"backbones.sasrec.heads": {"low": 2, "high": 3, "step": 1}}},
            "variants.supervised.set: backbones.sasrec: width 8 is no multiple of heads 3: change one of them",
        ),
    ],
)
def test_a_space_that_cannot_be_is_told_at_once(project: Params, changes: dict[str, Any], message: str) -> None:
    params = change(changes)
    with pytest.raises(LeaError) as caught:
        tuning.tune(params, Path("data"), list(params.variants), "circle")
    assert str(caught.value).startswith(f"params.yaml: {message}")
