"""Mistakes in params.yaml: each ends with one line that names the key and the mend, and exit status 1."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lea_core.common.errors import LeaError
from lea_core.common.processes import side_by_side
from lea_core.params import Params, load
from tests.support.lane import PARAMS, ROOT, change_params

TABLES = """\
  name: tables
  interactions: {source: events.csv, sha256: null}
  items: {source: items.csv, sha256: null}
  columns: {user: user, item: item, timestamp: time, order: null, event: null, rating: null, split: null}
  text: "{title}"
"""


def changed(folder: Path, key: str, value: object) -> Path:
    """The repository's params.yaml with one dotted key set, or removed where `value` is `...`."""
    shutil.copy(PARAMS, folder / "params.yaml")
    change_params(folder, {key: value})
    return folder / "params.yaml"


def edited(folder: Path, old: str, new: str) -> Path:
    """The repository's params.yaml as text, with one replacement: for what a YAML writer would quote by itself."""
    text = PARAMS.read_text(encoding="utf-8")
    result, count = re.subn(old, new, text, count=1, flags=re.MULTILINE)
    assert count == 1
    path = folder / "params.yaml"
    path.write_text(result, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trian", {}, "trian is unknown: remove it or mend its spelling"),
        ("train.epoch", 3, "train.epoch is unknown: remove it or mend its spelling"),
        ("train.epochs", ..., "train.epochs is missing: add it"),
        ("finetune_le.lora.rank", ..., "finetune_le.lora.rank is missing: add it"),
        ("annotate", ..., "annotate is missing: add it"),
        ("train.epochs", 2.5, "train.epochs is 2.5, but must be a valid integer: mend it"),
        ("train.epochs", 0, "train.epochs is 0, but must be greater than or equal to 1: mend it"),
        ("finetune_le.history", 1, "finetune_le.history is 1, but must be greater than or equal to 2: mend it"),
        ("train.seeds", [], "train.seeds is [], but must have at least 1 item after validation, not 0: mend it"),
        ("train.seeds", 1, "train.seeds is 1, but must be a valid list: mend it"),
        ("train.learning_rate", "1e-3", "train.learning_rate is '1e-3', but must be a valid number: remove the quotes"),
        ("evaluate.mask_seen", "yes", "evaluate.mask_seen is 'yes', but must be a valid boolean: mend it"),
        (
            "variants.snqn.backbone",
            "lstm",
            "variants.snqn.backbone is 'lstm', but must be 'caser'",
        ),
        (
            "variants.snqn.method",
            "dqn",
            "variants.snqn.method is 'dqn', but must be 'sa2c'",
        ),
        (
            "variants.snqn.state",
            "yes",
            "variants.snqn.state is 'yes', but must be 'none', 'le', 'shuffled', ",
        ),
        (
            "variants.snqn.state",
            "shuffled",
            "variants.snqn.state is shuffled, but no entry of controls makes states shuffled: add it as in settings/",
        ),
        (
            "variants.snqn.ranking",
            "le_item_knn",
            "variants.snqn.ranking is le_item_knn, but no entry of controls makes rankings le_item_knn: add it as in "
            "settings/with-neighbours.yaml",
        ),
        (
            "controls.sources",
            {"mine": {"part": "actions", "source": "shuffled"}},
            "controls.sources.mine: source 'shuffled' is no control of actions: use popularity, item_knn, text",
        ),
        (
            "controls.sources",
            {"mine": {"part": "actions", "source": "policy"}},
            "controls.sources.mine: source policy is made from a trained variant: write it under controls.policies",
        ),
        (
            "controls.sources",
            {name: {"part": "actions", "source": "text"} for name in ("one", "two")},
            "controls: actions text is made by two entries: remove one",
        ),
        (
            "controls.policies",
            {"mine": {"part": "actions", "policy": "nobody"}},
            "controls.policies.mine.policy: variants has no 'nobody': write one of supervised, snqn",
        ),
        ("variants.supervised.reward", "le", "variants.supervised: method supervised reads no reward: set reward to"),
        ("train.epochs", 9, "variants.sa2c: train.epochs 9 ends within methods.sa2c.warmup_epochs"),
        (
            "tokenize_items.method",
            "mean",
            "tokenize_items.method is 'mean', but must be 'pooled', 'learned', 'mixed' or",
        ),
        (
            "tokenize_items.learned.mix",
            1.5,
            "tokenize_items.learned.mix is 1.5, but must be less than or equal to 1: mend",
        ),
        (
            "tokenize_items.learned.tolerance",
            0.0,
            "tokenize_items.learned.tolerance is 0.0, but must be greater than 0",
        ),
        ("tokenize_items.amortised", ..., "tokenize_items.amortised is missing: add it"),
        ("variants.Ä", {}, "variants.Ä"),
        ("backbones.lstm", {}, "backbones.lstm is unknown: remove it or mend its spelling"),
        ("backbones.sasrec.heads", 3, "backbones.sasrec: width 64 is no multiple of heads 3: change one of them"),
        ("backbones.caser.heights", [2, 11], "backbones.caser: heights [2, 11] must fit into window 10: change one of"),
        ("backbones.caser.heights", [], "backbones.caser.heights is [], but must have at least 1 item after"),
        ("backbones.caser.heights", [0], "backbones.caser.heights.0 is 0, but must be greater than or equal to 1"),
        ("backbones.nextitnet.dilations", [], "backbones.nextitnet.dilations is [], but must have at least 1 item"),
        ("backbones.nextitnet.kernel", 1, "backbones.nextitnet.kernel is 1, but must be greater than or equal to 2"),
        ("methods.sa2c.advantage_clip", [10.0, 0.0], "methods.sa2c: advantage_clip must be two numbers, the lower"),
        ("methods.sa2c.advantage_clip", [1.0], "methods.sa2c: advantage_clip must be two numbers, the lower first"),
        ("dataset.name", "ml-1m", "dataset.name must be ml-100k or tables: mend it"),
        ("dataset.name", ..., "dataset.name must be ml-100k or tables: mend it"),
        ("dataset.sha256", "abc", "dataset.sha256 is 'abc', but must match pattern '^[0-9a-f]{64}$': mend it"),
        (
            "report.metric",
            "NDCG",
            "report.metric is 'NDCG', but must match pattern '^(HR|NDCG|MRR)@[1-9][0-9]*$': mend it",
        ),
        ("report.metric", "NDCG@7", "report.metric is NDCG@7, but evaluate.cutoffs lacks its cutoff: add it"),
        ("train.learning_rate", float("nan"), "train.learning_rate is nan, but must be a finite number: mend it"),
        ("preprocess.split.test_share", 0.95, "preprocess.split: valid_share + test_share must leave something"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, key: str, value: object, message: str) -> None:
    path = changed(tmp_path, key, value)
    with pytest.raises(LeaError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_several_mistakes_are_counted(tmp_path: Path) -> None:
    path = changed(tmp_path, "train", {"epochs": 1})
    with pytest.raises(LeaError, match=r"train\.seeds is missing: add it \(and 13 more mistakes\)"):
        load(path)


def test_an_unquoted_exponent_is_a_number(tmp_path: Path) -> None:
    """YAML 1.1 readers make text of `1e-3`; DVC and this loader read YAML 1.2."""
    assert load(edited(tmp_path, r"^  learning_rate: [0-9.]+", "  learning_rate: 1e-3")).train.learning_rate == 0.001


def test_yaml_1_1_words_are_text(tmp_path: Path) -> None:
    path = edited(tmp_path, "mask_seen: true", "mask_seen: on")
    with pytest.raises(LeaError, match=r"evaluate\.mask_seen is 'on', but must be a valid boolean"):
        load(path)


def test_both_kinds_of_dataset(tmp_path: Path) -> None:
    """The `tables` kind has its own keys; those of the other kind are unknown to it."""
    path = edited(tmp_path, r"^dataset:\n(  .*\n)+", f"dataset:\n{TABLES}")
    assert load(path).dataset.name == "tables"
    path.write_text(path.read_text().replace("  name: tables\n", "  name: ml-100k\n"))
    with pytest.raises(LeaError, match=r"dataset\.source is missing: add it"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found: run this in the folder that holds it"),
        ("", "holds no sections: restore it with `git checkout"),
        ("a: [1\n", "no valid YAML"),
        ("a: 1\na: 2\n", "no valid YAML"),
    ],
)
def test_a_file_that_is_no_params_file(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LeaError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_an_unknown_variant_is_listed_against_the_known(tmp_path: Path) -> None:
    params = load(PARAMS)
    with pytest.raises(
        LeaError, match="variants has no 'snqn-lee': write one of supervised, snqn, sa2c, supervised-items"
    ):
        params.variant("snqn-lee")
    assert params.variant("snqn-lea").uses_le
    assert not params.variant("snqn").uses_le


def test_on_the_command_line_it_is_one_line_and_status_1(tmp_path: Path) -> None:
    changed(tmp_path, "train.learning_rate", "1e-3")
    command = [sys.executable, "-m", "lea_core.cli", "check"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "error: params.yaml: train.learning_rate is '1e-3', but must be a valid number: remove the quotes\n"
    )


def test_a_state_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    change_params(tmp_path, {"variants.supervised.state": "le"})
    assert load(tmp_path / "params.yaml").variants["supervised"].state == "le"  # it is aligned with
    change_params(tmp_path, {"train.le.state_alignment": 0.0})
    with pytest.raises(LeaError, match=r"variants\.supervised: method supervised has no critic to read the state"):
        load(tmp_path / "params.yaml")


def unchanged(params: Params) -> Params:
    return params


def test_they_go_to_another_process() -> None:
    """The classes of registered settings are made anew there: `lea tune` trains in processes of its own."""
    params = load(PARAMS)
    assert side_by_side(unchanged, [params]) == [params]
