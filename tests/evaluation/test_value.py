"""Values of policies: the target policy, the rewards, and the stage on a small log."""

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lea_core.common.errors import LeaError
from lea_core.common.layout import FOLDERS
from lea_core.common.tables import INTERACTIONS, read_table, write_table
from lea_core.data.rewards import Rewards, read_rewards, shrunken_means
from lea_core.data.sequences import histories
from lea_core.evaluation.off_policy import value
from lea_core.evaluation.off_policy.behaviour import events, fit
from lea_core.evaluation.off_policy.value import Log, make_log, target_policy, worth
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from stages import estimate_value
from tests.support.lane import PARAMS, change_params
from tests.support.tiny_project import log, write_log

SEQUENCES = log(users=40, longest=7)
VARIANT = {"backbone": "gru4rec", "method": "supervised", **dict.fromkeys(FOLDERS, "none")}


def policy(seed: int, items: int = 9) -> PolicyNetwork:
    torch.manual_seed(seed)
    return PolicyNetwork(PolicyConfig("gru4rec", {"width": 4, "layers": 1, "dropout": 0.0}, items, 5)).eval()


def make_log_of_tests(reward: float | None = None) -> Log:
    users, positions = events(SEQUENCES, "test", repeats=True)
    values = np.random.default_rng(0).random(len(SEQUENCES.items)) if reward is None else np.full(10**4, reward)
    beta = fit(SEQUENCES, 1.0, True).of(SEQUENCES, users, positions)
    return make_log(SEQUENCES, users, positions, beta, Rewards(values[: len(SEQUENCES.items)], "event"), 2.0)


@pytest.mark.parametrize("mask_seen", [False, True])
def test_the_target_policy_is_a_softmax_over_the_candidates(mask_seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found, one = make_log_of_tests(), policy(1)
    pi, expected = target_policy(one, Path("p"), found, mask_seen, 512)
    for row, (user, position) in enumerate(zip(found.users, found.positions, strict=True)):
        scores = one.scores(histories(SEQUENCES, np.array([user]), np.array([position]), 5))[0].double().exp().numpy()
        if mask_seen:
            scores[SEQUENCES.user_items(user)[:position]] = 0.0
        scores /= scores.sum()
        assert pi[row] == pytest.approx(scores[SEQUENCES.user_items(user)[position]], abs=1e-6)
        assert expected[row] == pytest.approx(scores @ found.q, abs=1e-6)
    if mask_seen:
        assert (pi == 0.0).any()  # a logged item that the history holds is no exception
    monkeypatch.setattr(value, "PROBABILITIES_AT_ONCE", 1)
    alone = target_policy(one, Path("p"), found, mask_seen, 512)
    assert np.allclose(alone, (pi, expected), rtol=1e-5)


def test_a_policy_that_behaves_as_logged_is_worth_what_was_logged() -> None:
    found = make_log_of_tests()
    same = worth([(found.behaviour, np.zeros(len(found.users)))], found, clip=1.0)
    mean = found.rewards.mean()
    assert {name: one[0].value for name, one in same.estimates.items()} == pytest.approx(
        {"ips": mean, "clipped_ips": mean, "snips": mean, "dr": mean - found.q[found.items].mean()}
    )
    assert (same.mean_weight, same.largest_weight) == pytest.approx((1.0, 1.0))


def test_equal_rewards_leave_only_the_weights() -> None:
    found = make_log_of_tests(reward=0.5)
    targets = [target_policy(policy(seed), Path("p"), found, False, 512) for seed in (0, 1)]
    of_two = worth(targets, found, clip=2.0)
    assert list(of_two.estimates) == ["ips", "clipped_ips"]
    assert np.mean([one.value for one in of_two.estimates["ips"]]) == pytest.approx(0.5 * of_two.mean_weight)


def test_shrunken_means_by_hand() -> None:
    """Mean 1/2; item 0 has 1 and 1, item 1 has 0 and 0, item 2 none."""
    found = shrunken_means(np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 0.0, 0.0]), 3, shrinkage=2.0)
    assert found.tolist() == [0.75, 0.25, 0.5]
    assert shrunken_means(np.array([0, 1]), np.array([1.0, 0.0]), 3, shrinkage=0.0).tolist() == [1.0, 0.0, 0.5]


# ---- the stage


def change_log(folder: Path, **columns: Any) -> None:
    path = folder / "data" / "interactions" / "interactions.parquet"
    table = read_table(path, INTERACTIONS)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, INTERACTIONS[name]))
    write_table(path, table, INTERACTIONS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two variants of two seeds on a log with ratings of 3, 4 and 5."""
    write_log(tmp_path, SEQUENCES)
    change_log(tmp_path, rating=3.0 + np.arange(len(SEQUENCES.items), dtype=np.float32) % 3)
    shutil.copyfile(PARAMS, tmp_path / "params.yaml")
    variants = {"one": VARIANT, "two": VARIANT}
    change_params(tmp_path, {"variants": variants, "preprocess.repeats": True, "train.seeds": [0, 1]})
    settings = {"clip": 10.0, "smoothing": 1.0, "reward_shrinkage": 10.0, "seed": 0}
    change_params(tmp_path, {"off_policy": settings})
    for number, name in enumerate(variants):
        for seed in (0, 1):
            policy(10 * number + seed).save(tmp_path / "data" / "policies" / name / f"seed-{seed}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run() -> tuple[list[dict[str, str]], Mapping[str, Any]]:
    estimate_value.main([])
    with Path("data/value/value.csv").open() as file:
        return list(csv.DictReader(file)), json.loads(Path("data/value/behaviour.json").read_text())


def test_the_stage_by_its_parts(project: Path) -> None:
    rows, about = run()
    assert [(row["variant"], row["estimator"]) for row in rows] == [
        (name, estimator) for name in ("one", "two") for estimator in ("ips", "clipped_ips", "snips", "dr")
    ]
    rewards = read_rewards(project / "data/interactions/interactions.parquet", {})
    assert (rewards.source, set(rewards.values)) == ("rating", {0.0, 0.5, 1.0})
    users, positions = events(SEQUENCES, "test", repeats=True)
    behaviour = fit(SEQUENCES, 1.0, True)
    found = make_log(SEQUENCES, users, positions, behaviour.of(SEQUENCES, users, positions), rewards, 10.0)
    own = worth([target_policy(policy(10 + seed), Path("p"), found, True, 512) for seed in (0, 1)], found, 10.0)
    for row in rows[4:]:
        trainings = own.estimates[row["estimator"]]
        assert float(row["value"]) == pytest.approx(np.mean([one.value for one in trainings]))
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        assert 1.0 <= float(row["effective_sample_size"]) <= len(users)
    assert about["mixture"] == behaviour.mixture
    assert about["logged"]["value"] == pytest.approx(found.rewards.mean())
    walks = [SEQUENCES.user_items(user).tolist() for user in users]
    never = sum(walk[place] in walk[:place] for walk, place in zip(walks, positions, strict=True))
    assert about["events"] == {"used": 40, "left_out": 0, "never_taken": never}
    assert any(f"Of these events {never} are of an item that the user had before" in one for one in about["in_words"])
    assert about["variants"]["two"]["mean_weight"] == pytest.approx(own.mean_weight)
    assert any("0 for 3, 1 for 5" in sentence for sentence in about["in_words"])
    before = [Path("data/value", name).read_bytes() for name in ("value.csv", "behaviour.json")]
    run()
    assert [Path("data/value", name).read_bytes() for name in ("value.csv", "behaviour.json")] == before


def test_events_tell_the_reward_where_there_are_types(project: Path) -> None:
    change_log(
        project, event=["click", "purchase"] * (len(SEQUENCES.items) // 2) + ["click"] * (len(SEQUENCES.items) % 2)
    )
    _, about = run()
    assert about["reward"] == {"source": "event", "zero": None, "one": None}
    change_params(project, {"train.event_rewards": {"click": 0.2}})
    with pytest.raises(LeaError, match=r"train\.event_rewards has no reward for event 'purchase' of data/interactions"):
        run()


def test_without_ratings_it_is_said_and_left_out(project: Path) -> None:
    change_log(project, rating=np.full(len(SEQUENCES.items), np.nan, dtype=np.float32))
    rows, about = run()
    assert {row["estimator"] for row in rows} == {"ips", "clipped_ips"}
    assert about["logged"]["value"] == 1.0
    assert any("SNIPS is that reward for every policy" in sentence for sentence in about["in_words"])


def test_a_user_s_mistake_is_one_line(project: Path) -> None:
    folder = project / "data" / "policies" / "two"
    change_log(project, rating=np.where(np.arange(len(SEQUENCES.items)) == 4, np.nan, 3.0).astype(np.float32))
    with pytest.raises(
        LeaError, match=r"interactions\.parquet: row 4: rating is nan: give every event a rating, or none"
    ):
        run()
    change_log(project, rating=np.ones(len(SEQUENCES.items), dtype=np.float32))
    broken = policy(3)
    broken.actor.bias.data[2] = torch.nan
    broken.save(folder / "seed-1")
    with pytest.raises(
        LeaError, match="data/policies/two/seed-1: scores hold NaN or infinity: train the variant again"
    ):
        run()
    policy(3, items=8).save(folder / "seed-1")
    with pytest.raises(LeaError, match="data/policies/two/seed-1: the policy knows 8 items, the data have 9"):
        run()
    shutil.rmtree(folder / "seed-1")
    with pytest.raises(LeaError, match=r"data/policies/two/seed-1/policy\.json: not found: run `dvc repro` to make it"):
        run()
    with pytest.raises(LeaError, match="unknown argument 'two'"):
        estimate_value.main(["two"])
