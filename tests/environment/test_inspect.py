"""inspect.py and `lea inspect`: ranks, probabilities and rewards by hand, one prompt each; the user's mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lea_core.cli import app
from lea_core.common import tables
from lea_core.common.errors import LeaError
from lea_core.data.sequences import SPLITS, Sequences, windows
from lea_core.environment import model as environment
from lea_core.environment.inspect import choose_position, find_user, inspect
from lea_core.environment.model import Environment
from lea_core.environment.top_items import rank_next
from lea_core.environment.user_split import choose_users
from lea_core.llm import language_model
from lea_core.llm.packing import packs
from lea_core.params import load
from tests.support.lane import PARAMS
from tests.support.tiny_le import ITEMS, item_tokens, make, sequences, shake

LOG = sequences([2, 6], [3, 5, 1, 8, 0, 2, 4, 3, 6, 5, 7], [0])


def trained(folder: Path) -> Environment:
    """An LE whose every part counts; its scores are close enough that no item gets all the probability."""
    le = shake(make(folder))
    with torch.no_grad():
        le.heads.state_map.weight.mul_(0.1)
        le.heads.repeat_share.fill_(0.2)
    return le


def by_hand(le: Environment, prompt: list[int], seen: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Probability and reward (I,) of every item after `prompt`, each item read by the LLM in a prompt of its own."""

    def hidden(items: list[int]) -> torch.Tensor:
        vectors = le.token[torch.tensor([items])]
        return torch.as_tensor(le.llm.decoder(inputs_embeds=vectors, use_cache=False).last_hidden_state[:, -1])

    with torch.no_grad():
        content, inputs = le.heads.inputs(torch.tensor([prompt[:-3:-1]]), hidden(prompt))
        scores = le.heads.scores(le.heads.state(content, inputs))[0].double().exp().numpy()
        every = torch.arange(ITEMS)
        after = torch.stack([hidden([*prompt, item]) for item in range(ITEMS)], dim=1)
        rewards = le.heads.rewards(content, inputs, every[None], after)[0].numpy()
    again, share = np.isin(np.arange(ITEMS), seen), float(le.heads.repeat_share)
    return np.where(again, share * scores / scores[again].sum(), (1 - share) * scores / scores[~again].sum()), rewards


@pytest.mark.parametrize(("position", "read"), [(3, 3), (9, 4)])
def test_equals_one_prompt_per_action(tmp_path: Path, position: int, read: int) -> None:
    le = trained(tmp_path)
    items = LOG.user_items(1).tolist()
    found = inspect(le, LOG, 1, position, 4)
    assert (found.history.tolist(), found.read) == (items[:position], read)

    probabilities, rewards = by_hand(le, items[position - read : position], items[:position])
    assert probabilities.sum() == pytest.approx(1.0)
    order = np.argsort(-probabilities).tolist()
    assert [action.item for action in found.top] == order[:4]
    assert found.logged.item == items[position]
    for action in [*found.top, found.logged]:
        assert action.rank == order.index(action.item) + 1
        assert action.probability == pytest.approx(probabilities[action.item], rel=1e-4)
        assert action.reward == pytest.approx(rewards[action.item], abs=1e-4)
        after = items[position:]
        assert action.later == (after.index(action.item) + 1 if action.item in after else None)


def test_rank_is_the_one_that_quality_counts(tmp_path: Path) -> None:
    le = trained(tmp_path)
    chosen = np.zeros(len(LOG.items), dtype=bool)
    chosen[2:12] = True  # every step of user 1
    for packed in packs(LOG, windows(LOG, np.array([1]), 6), 999, 1, chosen):
        events = packed.events[packed.acting]
        with torch.no_grad():
            states = le.predict(LOG, packed, np.zeros((len(events), 1), dtype=np.int64)).states[packed.acting]
            ranked = rank_next(le.heads, LOG, events, states)
        assert [inspect(le, LOG, 1, int(event) - 1, 1).logged.rank for event in events] == ranked.tolist()


def test_all_items_are_the_most_to_show_and_the_catalogues_must_agree(tmp_path: Path) -> None:
    le = make(tmp_path)
    assert len(inspect(le, LOG, 0, 1, 99).top) == ITEMS
    other = Sequences(LOG.items, LOG.split, LOG.offsets, 10)
    with pytest.raises(LeaError, match="data/le knows 9 items, data/interactions 10: run `dvc repro`"):
        inspect(le, other, 0, 1, 3)


def test_which_event() -> None:
    log = Sequences(np.zeros(9, np.int64), np.array([0, 0, 1, 2, 2, 0, 1, 0, 0], np.int8), np.array([0, 5, 7, 9, 9]), 1)
    assert [choose_position(log, user, None) for user in range(3)] == [3, 1, 1]  # test, validation, the last
    assert choose_position(log, 0, 1) == 1
    for position in (-1, 0, 5):
        with pytest.raises(LeaError, match=rf"--position {position}: this user's events with a history are 1 to 4"):
            choose_position(log, 0, position)
    with pytest.raises(LeaError, match=r"this user has 0 event"):
        choose_position(log, 3, None)


def test_which_user() -> None:
    assert find_user(["anna", "bert"], "bert") == 1
    with pytest.raises(LeaError, match=r"--user 'Bert': no such user in the data; .* for instance, bert$"):
        find_user(["anna", "bert"], "Bert")
    with pytest.raises(LeaError, match=r"for instance, anna, bert$"):
        find_user(["anna", "bert"], "77")


def write(folder: Path, log: Sequences) -> None:
    """What the command reads but for the LE and its LLM; users u0, u1, ..., texts that a screen would choke on."""
    users, positions = log.users_and_positions()
    tokens, items, people = item_tokens(), range(ITEMS), range(log.num_users)
    splits, same = [SPLITS[code] for code in log.split], [1] * len(users)
    texts = [f"Film [red]{item}[/]\n\x1b[1m {'long ' * 30}" for item in items]
    every: dict[str, tuple[tables.Schema, list[Any]]] = {
        "interactions/interactions": (
            tables.INTERACTIONS,
            [users, positions, log.items, positions, ["" for _ in users], same, splits],
        ),
        "interactions/items": (tables.ITEMS, [items, [f"i{item}" for item in items], texts, same[:ITEMS]]),
        "interactions/users": (tables.USERS, [people, [f"u{user}" for user in people]]),
        "item_tokens/items": (
            tables.ITEM_TOKENS,
            [items, *(tables.vectors(array) for array in (tokens.token, tokens.pooled, tokens.content))],
        ),
    }
    for name, (schema, values) in every.items():
        columns = {
            key: column if isinstance(kind, tables.Vector) else pa.array(list(column), kind)
            for (key, kind), column in zip(schema.items(), values, strict=True)
        }
        tables.write_table(folder / "data" / f"{name}.parquet", pa.table(columns), schema)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def lea(*arguments: str) -> str:
        capsys.readouterr()
        app(["inspect", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    log = sequences(*[[3, 5, 1, 8, 0, 2, 4, 3, 6, 5, 7, 1, 8] for _ in range(10)], held_out=2)
    (tmp_path / "params.yaml").write_text(PARAMS.read_text().replace("layers: 6", "layers: 2"))
    write(tmp_path, log)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    trained(tmp_path / "data").save(tmp_path / "le", {})
    with pytest.raises(LeaError, match=r"^data/le/le\.json: not found: run `dvc repro` to make it$"):
        lea("--user", "u3")

    (tmp_path / "le").rename("data/le")
    le = environment.load(Path("data/le"), language_model.load(Path("data/llm"), 2), item_tokens())
    p = load().finetune_le
    learned, others = choose_users(log.train(), p.users_share, np.random.default_rng(p.seed))
    screen = lea("--user", f"u{others[0]}", "--actions", "3")
    assert max(map(len, screen.splitlines())) <= 80
    assert "the 10 newest of 12" in screen
    assert f"The LE did not learn from user u{others[0]}" in screen
    assert "\x1b" not in screen
    found = inspect(le, log, int(others[0]), 12, 3)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in screen.splitlines() if " % │" in line]
    for row, action in zip(rows, [*found.top, found.logged], strict=True):
        assert row[0] == f"{action.rank:g}"
        assert row[1].startswith(f"Film [red]{action.item}[/] [1m long")
        assert row[1].endswith("…")
        assert row[2:4] == [f"{100 * action.probability:.3f} %", f"{action.reward:.2f}"]
        assert row[4] == ("next" if action.item == 8 else "-")
    screen = lea("--user", f"u{learned[0]}", "--position", "5")
    assert f"The LE learned from user u{learned[0]}, from this very event too" in screen
    assert "in 2" in screen  # item 4
