"""yardsticks.py: cheap rankings and twins measured like the LE, proposals judged by what users take later."""

from pathlib import Path

import numpy as np
import pytest

from lea_core import params
from lea_core.annotation.forward_pass import run_all
from lea_core.data.sequences import Sequences
from lea_core.environment.quality import quality
from lea_core.evaluation.environment import yardsticks
from lea_core.llm import language_model
from tests.support import tiny_llm
from tests.support.lane import PARAMS
from tests.support.tiny_le import circle, item_tokens, make, settings, shake


def test_cheap_rankings_by_hand() -> None:
    # Two users; the last event of each is test, the one before valid. Training counts: item 0 thrice, 1 once, 2 once.
    items = np.array([0, 1, 2, 0, 0, 2, 1, 1])
    split = np.array([0, 0, 1, 2, 0, 0, 1, 2], dtype=np.int8)
    log = Sequences(items, split, np.array([0, 4, 8]), 14)
    known = {"popularity": yardsticks.scorers(log.train(), np.array([0]), item_tokens(items=14))["popularity"]}
    found = yardsticks.states(log, np.array([0, 1]), known, history=4)["valid"]
    # User 0 took 0 and 1: of the unseen 2 to 13 item 2 is the most popular, rank 1. Unmasked it ties with 1 behind 0:
    # rank 2.5. User 1 took 0 and 2: item 1 has rank 1, unmasked 2.5.
    assert found["popularity"] == {"ndcg10": 1.0, "hr10": 1.0}
    assert found["popularity_unmasked"]["ndcg10"] == pytest.approx(1 / np.log2(3.5))


def test_proposals_are_judged_by_what_is_taken_later(tmp_path: Path) -> None:
    le, train = shake(make(tmp_path)), circle(users=4, length=7).train()
    states = run_all(le, train, np.zeros((len(train.items), 1), np.int64), 256).states
    found = yardsticks.actions(le, train, np.array([1, 3]), states, {}, item_tokens().content, False)["le"]
    hits = []
    for user in (1, 3):
        walk = train.user_items(user)
        for position in range(len(walk) - 1):
            scores = le.heads.scores(le.heads.content.new_tensor(states[train.offsets[user] + position])[None])[0]
            scores[walk[: position + 1]] = -np.inf
            hits.append(int(scores.argmax()) in walk[position + 1 :])
    assert found["share1"] == pytest.approx(np.mean(hits))
    assert 0.0 < found["share1"] < 1.0


def test_proposals_of_what_the_user_has_had_are_counted(tmp_path: Path) -> None:
    le = shake(make(tmp_path))
    items = np.array([0, 1, 2, 3, 4, 5, 3, 0, 5, 6])  # of two users: eight steps, of which one repeats
    train = Sequences(items, np.zeros(10, dtype=np.int8), np.array([0, 5, 10]), 9)
    states = run_all(le, train, np.zeros((len(items), 1), np.int64), 256).states

    def found(repeat_share: float, repeats: bool) -> dict[str, float]:
        le.heads.repeat_share.fill_(repeat_share)
        return yardsticks.actions(le, train, np.array([0, 1]), states, {}, item_tokens().content, repeats)["le"]

    always, never, unasked = found(1 - 1e-6, True), found(1e-6, True), found(1 - 1e-6, False)
    assert (always["history1"], never["history1"]) == (1.0, 0.0)
    assert always["steps_that_repeat"] == never["steps_that_repeat"] == 1 / 8
    assert unasked.keys().isdisjoint(["history1", "steps_that_repeat"])  # left out of the proposals


def test_twins_learn_and_are_measured_like_the_le(tmp_path: Path) -> None:
    log, whole = circle(users=40, length=8), params.load(PARAMS)
    tokenize = whole.tokenize_items.model_copy(update={"layer": 2, "content_width": 4})
    p = settings()
    wanted = whole.model_copy(
        update={
            "finetune_le": p,
            "tokenize_items": tokenize,
            "llm": whole.llm.model_copy(update={"layers": 2}),
        }
    )
    tiny_llm.load(tmp_path, 2)
    users, unseen = np.arange(20), np.arange(20, 40)
    texts = ["alien robot", "love war", "jazz", "sea ghost", "king", "cat dog", "sea", "dog love", "war king"]
    twins = yardsticks.ablations(
        ("small_transformer", "random_llm"),
        lambda layers: language_model.load(tmp_path / "llm", layers, random_seed=3),
        texts,
        item_tokens(),
        log,
        users,
        unseen,
        wanted,
    )
    own = {"le": quality(make(tmp_path), log, unseen, p)}
    found = yardsticks.assemble({**own, "content_start": own["le"]}, twins, yardsticks.states(log, unseen, {}, 6))
    found["actions"] = {"le": {"share5": 0.25, "history1": 0.125, "history5": 0.5, "steps_that_repeat": 0.0625}}
    # The next item follows from the last one alone: whatever reads it learns the rule, which the untrained LE lacks.
    state = found["test"]["state"]
    assert state["small_transformer"]["ndcg10"] > 0.9 > state["le"]["ndcg10"]
    assert state["random_llm"]["ndcg10"] > 0.9
    summary = yardsticks.summary(found)
    assert summary["users"] == 20
    assert summary["test"]["NDCG@10, small transformer"] == state["small_transformer"]["ndcg10"]
    headline = yardsticks.headline(found)
    assert headline["le_action_share5"] == 0.25
    assert (headline["le_action_history1"], headline["le_action_steps_that_repeat"]) == (0.125, 0.0625)
    assert headline["reward_auc_uniform"] == round(found["valid"]["reward"]["le"]["auc_uniform"], 4)
