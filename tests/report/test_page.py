"""The page: well-formed, self-contained and escaped; its numbers are the files'; its charts' ticks are round."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lea_core import params
from lea_core.common import stage_costs, tables
from lea_core.common.artifacts import write_csv, write_json
from lea_core.evaluation.ablation import BEATS
from lea_core.report.html import charts
from lea_core.report.html.costs import cost_rows, costs_section
from lea_core.report.html.examples import pick
from lea_core.report.html.page import page
from lea_core.report.html.source import interval
from tests.support.lane import PARAMS, ROOT

NASTY = 'Tom & "Jerry" <script>alert(1)</script>'
VOID = {"meta", "br"}
CURVES = [
    {"line": name, "seed": 0, "epoch": e, "NDCG@10": 0.1 * e} for name in ("supervised", "snqn-lea") for e in (1, 2)
]


VERDICTS = {
    "lea": "snqn-lea",
    "twin": "supervised",
    "finding": "snqn-lea is above supervised.",
    "rival": "pop is below.",
    "parts": [{"part": "reward", "variant": "snqn-le", "in_words": "The reward's gain is not shown."}],
    "cautions": ["snqn-lea: train longer."],
}


class WellFormed(HTMLParser):
    """Checks that every tag is closed in order; collects texts and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> WellFormed:
    parser = WellFormed()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    assert parser.open == []
    return parser


def part(source: str, difference: float, low: float, high: float, p: float) -> dict[str, object]:
    row = {"part": "reward", "variant": f"snqn-{source}", "source": source, "control": str(source != "le").lower()}
    row |= {"other": "snqn", "metric": "NDCG@10", "value": 0.1, "sd": 0.01, "p_holm": p}
    return row | {"difference": difference, "low_with_seeds": low, "high_with_seeds": high}


def write_ranks(folder: Path, ranks: list[float], top: list[list[int]]) -> None:
    """Two users, one test event each, of two seeds: ranks by seed and user; the lists are both seeds'."""
    columns = {
        "seed": pa.array([0, 0, 1, 1], pa.int32()),
        "split": pa.array(["test"] * 4),
        "user": pa.array([0, 1, 0, 1], pa.int32()),
        "position": pa.array([3, 2, 3, 2], pa.int32()),
        "event": pa.array([""] * 4),
        "item": pa.array([2, 0, 2, 0], pa.int32()),
        "rank": pa.array(ranks, pa.float32()),
        "candidates": pa.array([-1] * 4, pa.int32()),
        "top": tables.vectors(np.array(top * 2, dtype=np.int32)),
    }
    tables.write_table(folder / "ranks.parquet", pa.table(columns), tables.RANKS)
    metric = {"NDCG@10": {"mean": 0.5, "sd": 0.0, "seeds": [0.5, 0.5]}}
    write_json(folder / "metrics.json", {"valid": metric, "test": metric})


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/ of two variants, with everything that the page reads."""
    monkeypatch.setenv("LEA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {preprocess: {}, annotate: {}, train: {}, report: {}}\n")
    data, report = tmp_path / "data", tmp_path / "data" / "report"
    row = {"backbone": "sasrec", "seeds": 2, "metric": "NDCG@10", "sd": 0.001, "twin": "supervised", "kind": "variant"}
    rows = [
        row | {"variant": "supervised", "method": "supervised", "le": "none", "value": 0.1234, "change_percent": ""},
        row | {"variant": "snqn-lea", "method": "snqn", "le": "all", "value": 0.2345, "change_percent": 90.0},
        row | {"variant": NASTY, "method": "", "le": "none", "value": 0.0777, "kind": "baseline", "change_percent": ""},
    ]
    write_csv(report / "table.csv", [r | {"NDCG@10": r["value"], "HR@10": 0.4567, "train_seconds": 3} for r in rows])
    comparison = {"variant": "snqn-lea", "other": "supervised", "metric": "NDCG@10", "difference": 0.1111}
    comparison |= {"low_with_seeds": 0.05, "high_with_seeds": 0.15, "p_holm": 0.01, "better": 2, "worse": 1}
    write_csv(report / "comparisons.csv", [comparison])
    write_csv(report / "parts.csv", [part("le", 0.02, 0.01, 0.03, 0.01), part("shuffled", 0.001, -0.01, 0.02, 0.9)])
    bands = [
        {"variant": n, "slice": "item", "band": "tail", "events": 7, "NDCG@10": 0.3} for n in ("supervised", NASTY)
    ]
    write_csv(report / "slices.csv", bands)
    write_csv(report / "lists.csv", [{"variant": "supervised", "cutoff": 10, "coverage": 0.4321, "gini": 0.9}])
    write_json(report / "verdicts.json", VERDICTS)
    words = {"sentence": "Mean over 2 test events.", "in_words": "Mean over 2 events. 1 miss."}
    write_json(report / "protocol.json", words | {"items": 4})
    value = {"variant": "snqn-lea", "estimator": "snips", "value": 1.5, "low": 1.0, "high": 2.0}
    write_csv(report / "value.csv", [value | {"effective_sample_size": 12.0, "clipped_share": 0.5}])
    write_json(data / "value" / "behaviour.json", {"in_words": ["The mean weight is 5."]})
    write_csv(report / "curves.csv", CURVES)
    write_ranks(data / "evaluations" / "supervised", [2, 30, 2, 30], [[1, 2], [1, -1]])
    write_ranks(data / "evaluations" / "snqn-lea", [1, 40, 1, 40], [[2, 1], [3, -1]])
    write_inputs(data)
    return data


def write_inputs(data: Path) -> None:
    """Four items, two users, the LE's rewards and proposals, and its yardsticks."""
    texts = {"item": [0, 1, 2, 3], "item_id": list("abcd"), "text": ["A", NASTY, "C", "D"], "train_count": [1] * 4}
    write(data / "interactions" / "items.parquet", texts, tables.ITEMS)
    write(data / "interactions" / "users.parquet", {"user": [0, 1], "user_id": ["<u>", "v"]}, tables.USERS)
    log = {"user": [0, 0, 0, 0, 1, 1, 1], "position": [0, 1, 2, 3, 0, 1, 2], "item": [0, 1, 3, 2, 1, 2, 0]}
    log |= {"timestamp": [1] * 7, "event": [""] * 7, "rating": [5.0] * 7}
    log["split"] = ["train", "train", "valid", "test", "train", "valid", "test"]
    write(data / "interactions" / "interactions.parquet", log, tables.INTERACTIONS)
    write_json(
        data / "interactions" / "quality.json",
        {"users": 12345, "items": 4, "events": 7, "events_test": 2, "times": "<5>"},
    )
    rewards = {"user": [0], "position": [0], "action": [1], "reward": [-1.25]}
    drawn = {"sampled_actions": [[2, 3]], "sampled_rewards": [[-2.0, 0.5]]}
    write(data / "rewards" / "le.parquet", rewards | drawn, tables.REWARDS)
    proposed = {"user": [0], "position": [0], "actions": [[2]], "scores": [[1.0]], "rewards": [[2.75]]}
    write(data / "actions" / "le.parquet", proposed, tables.ACTIONS)
    write_json(data / "le_quality" / "summary.json", {"users": 9, "test": {"reward AUC against uniform, LE": 0.71}})
    write_csv(
        data / "le_quality" / "state.csv", [{"method": "le", "ndcg10": 0.0813}, {"method": "text", "ndcg10": 0.01}]
    )
    write_csv(data / "le_quality" / "actions.csv", [{"source": "le", "share5": 0.302}])
    own = {"history1": 0.125, "steps_that_repeat": 0.0625}
    write_json(data / "le_quality" / "quality.json", {"users": 9, "actions": {"le": own}, "test": {"events": 5}})
    write_csv(data / "le_quality" / "reliability.csv", [{"predicted": 0.2, "observed": 0.3, "count": 4}])
    epochs = [{"phase": "heads", "epoch": e, "ndcg10": 0.01 * e, "reward_accuracy": 0.6} for e in (0, 1)]
    write_csv(data / "le_curve.csv", epochs)


def write(path: Path, columns: dict[str, list], schema: tables.Schema) -> None:  # type: ignore[type-arg]
    arrays = {
        name: tables.vectors(np.array(columns[name], dtype=kind.item.to_pandas_dtype()))
        if isinstance(kind, tables.Vector)
        else pa.array(columns[name], kind)
        for name, kind in schema.items()
    }
    tables.write_table(path, pa.table(arrays), schema)


def make(data: Path) -> tuple[WellFormed, str]:
    page(data / "report", data, wanted())
    return read(data / "report" / "report.html"), (data / "report" / "report.html").read_text(encoding="utf-8")


def wanted() -> params.Params:
    found = params.load(PARAMS)
    variants = {name: found.variants[name] for name in ("supervised", "snqn-lea")}
    return found.model_copy(update={"variants": variants})


def test_the_page_is_whole(data: Path) -> None:
    """Well-formed, with every section, and the files' numbers in it."""
    parsed, text = make(data)
    names = re.findall(r'<section id="(\w+)"', text)
    assert names == ["headline", "table", "parts", "le", "slices", "curves", "rewards", "value", "examples"]
    for number in (
        "0.1234",
        "0.2345",
        "0.0777",
        "0.4567",
        "+0.1111",
        "0.432",
        "0.0813",
        "0.710",
        "0.302",
        "12.5 %",
        "6.2 %",
        "12,345",
        "Times <5>",
    ):
        assert number in parsed.text
    sentences = ["snqn-lea is above supervised. pop is below.", "Mean over 2 events. 1 miss.", BEATS]
    sentences += ["NDCG@10 is a mean over the 5 test events of these users, all 4 items ranked, equal scores at their"]
    for words in (*sentences, *(one["in_words"] for one in VERDICTS["parts"]), *VERDICTS["cautions"]):  # type: ignore[index]
        assert words in parsed.text
    # headline, differences, table, parts and slices
    assert parsed.text.count("Mean over 2 test events.") == 5
    assert "Weak here" in parsed.text
    assert "50.0 % of the pairs" in parsed.text  # -1.25 against -2 and 0.5
    assert "no stage has noted its cost" in parsed.text


def test_the_page_asks_for_nothing(data: Path) -> None:
    parsed, text = make(data)
    assert all(address.startswith("#") for address in parsed.addresses)
    assert not {"link", "img", "iframe", "object", "base"} & set(parsed.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert re.findall(r"https?:", text) == []


def test_texts_of_the_data_are_escaped(data: Path) -> None:
    """One script, the page's own; the title stands in the text, letter for letter."""
    parsed, text = make(data)
    assert parsed.tags.count("script") == 1
    assert "alert(1)</script>" not in text
    assert parsed.text.count(NASTY) > 3


def test_equal_inputs_give_equal_bytes(data: Path) -> None:
    assert make(data)[1] == make(data)[1]


def test_what_is_absent_is_said(data: Path) -> None:
    kept = {"table.csv", "verdicts.json", "protocol.json"}
    for file in (data / "report").iterdir():
        if file.name not in kept:
            file.unlink()
    for name in ("rewards/le.parquet", "actions/le.parquet", "le_curve.csv", "interactions/quality.json"):
        (data / name).unlink()
    for file in (data / "le_quality").iterdir():
        file.unlink()
    parsed, text = make(data)
    assert re.findall(r'<section id="(\w+)"', text) == ["headline", "table", "examples"]
    missing = re.findall(r'class="missing" id="(\w+)"', text)
    assert missing == ["parts", "le", "slices", "curves", "rewards", "value", "costs"]
    assert "run `dvc repro`" in parsed.text


def test_what_is_left_of_an_le_that_no_variant_uses_is_not_shown(data: Path) -> None:
    found = wanted()
    page(data / "report", data, found.model_copy(update={"variants": {"supervised": found.variants["supervised"]}}))
    text = (data / "report" / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'class="missing" id="(\w+)">.*?no variant uses a signal of the LE', text) == ["le", "rewards"]
    assert "0.0813" not in text
    assert "<b>LLM</b>" not in text


def test_an_example_by_hand(data: Path) -> None:
    make(data)
    found = json.loads((data / "report" / "examples.json").read_text())
    first = found["users"][0]
    assert found["variants"] == {"lea": "snqn-lea", "twin": "supervised"}
    assert (first["user"], first["events"], first["next"]["text"]) == ("<u>", 3, "C")
    assert [item["reward"] for item in first["history"]] == [None, -1.25, None]
    # proposed at position 0; two events came between it and the one at position 3
    assert first["lea"]["top"][0] == {"text": "C", "hit": True, "reward": 2.75, "events_ago": 2}
    assert [item["hit"] for item in first["twin"]["top"]] == [False, True]


def test_examples_are_picked_by_rule() -> None:
    """Differences of 1 / rank: .5, -.9, 0, 0, .25, .9; the two ahead most, the one behind, then by lot."""
    lea, twin = np.array([1, 10, 3, 5, 2, 1.0]), np.array([2, 1, 3, 5, 4, 10.0])
    picked = pick(lea, twin)
    assert [event for _, event in picked[:3]] == [5, 0, 1]
    assert sorted(event for _, event in picked[3:]) != []
    assert len({event for _, event in picked}) == len(picked) == 5


def test_the_interval_by_hand(data: Path) -> None:
    """Scores 1 and 0 of two users: mean 1/2, standard error 1/2."""
    path = data / "evaluations" / "snqn-lea" / "ranks.parquet"
    assert interval(path, "HR@10") == pytest.approx((0.5 - 1.96 / 2, 0.5 + 1.96 / 2))


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e6), st.integers(1, 12))
def test_ticks_are_round_and_hold_the_values(low: float, width: float, count: int) -> None:
    high = low + width
    found = charts.ticks(low, high, count)
    step = found[1] - found[0]
    assert 2 <= len(found) <= count + 3
    if width > 1e-6 * abs(low):  # else the step drowns in the rounding of the values
        assert found[0] <= low + 1e-6 * step
        assert found[-1] >= high - 1e-6 * step
        leading = step / 10 ** np.floor(np.log10(step * (1 + 1e-9)))
        assert min(abs(leading - round_step) for round_step in (1, 2, 5)) < 1e-3


def test_ticks_by_hand() -> None:
    assert charts.ticks(0, 0.12, 4) == [0, 0.05, 0.1, 0.15]
    assert charts.tick_labels([-0.05, 0, 0.05]) == [f"{charts.MINUS}0.05", "0.00", "0.05"]
    assert charts.tick_labels([0, 2000]) == ["0", "2,000"]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9))
def test_labels_are_pushed_apart(wanted: list[float]) -> None:
    places = sorted(charts.spread(wanted, 15, 0, 150))
    assert all(b - a >= 15 - 1e-6 for a, b in pairwise(places))
    assert places[-1] <= 150


def test_texts_fit() -> None:
    assert charts.fit("short", 100) == "short"
    assert charts.text_width(charts.fit("a very long name of a variant", 100)) <= 100


def test_who_reads_the_llm_is_what_the_pipeline_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with every variant of a stage; the LE as a recommender reads the LLM too."""
    of = {row["stage"]: row["reads_llm"] for row in cost_rows(ROOT / "dvc.yaml")}
    assert [of[name] for name in ("annotate", "evaluate_le", "train", "rank")] == [True, True, False, False]

    monkeypatch.setattr(stage_costs, "read", lambda: {"ask@a": COST, "ask@b": COST, "train": COST})
    (tmp_path / "dvc.yaml").write_text(
        "stages: {ask: {foreach: [a, b], do: {cmd: x, deps: [data/llm]}}, train: {cmd: y, deps: [data/states]}}"
    )
    rows = cost_rows(tmp_path / "dvc.yaml")
    assert [(row["stage"], row["reads_llm"]) for row in rows] == [("ask@a", True), ("ask@b", True), ("train", False)]
    drawn = costs_section(rows)
    assert drawn.count('<g class="le">') == drawn.count('<g class="plain">') > 0  # a bar each


COST: dict[str, float | None] = {"seconds": 2.0, "peak_mb": 1.0, "tokens": None}
STAGE = "from lea_core.common.entrypoint import run\nfrom lea_core.common.stage_costs import note_tokens\n"


def test_a_stage_leaves_its_cost_and_a_failed_one_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").touch()
    (tmp_path / "stages" / "train.py").write_text(STAGE + "run(lambda argv: note_tokens(1 // int(argv[0])))\n")
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "LEA_CACHE": str(tmp_path / "cache")}
    for argument in ("1", "0"):
        subprocess.run([sys.executable, "-m", "stages.train", argument], cwd=tmp_path, env=env, capture_output=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("LEA_CACHE", env["LEA_CACHE"])
    found = stage_costs.read()
    assert list(found) == ["train@1"]
    assert found["train@1"]["tokens"] == 1
    assert 5 < (found["train@1"]["peak_mb"] or 0) < 5000
