"""Overlays: merged by hand, comments kept, mistakes refused with params.yaml as it was, and every file of settings/."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lea_core.common.errors import LeaError
from lea_core.params import load, read_yaml
from lea_core.params.overlay import merged, use
from tests.support.lane import PARAMS, ROOT

TEXT = """\
# The head.

dataset: # where from
  name: a
  source: x

# about training
train:
  epochs: 3 # few
  loss: { name: softmax }
  rewards: null
  event_rewards: { "": 1.0, click: 0.2 }

variants:
  one: { method: snqn, set: { train.epochs: 4 } }
"""
OVERLAY = {
    "dataset": {"name": "b", "table": {"path": "y", "sha256": None}},
    "train": {"epochs": 9, "loss": {"name": "gbce", "negatives": 3}, "event_rewards": {"buy": 1.0}},
    "variants": {"one": {"set": {"train.patience": 2}}, "two": {"method": "sqn"}},
}
MERGED = """\
# The head.

dataset: # where from
  name: b
  table: { path: y, sha256: null }

# about training
train:
  epochs: 9 # few
  loss: { name: gbce, negatives: 3 }
  rewards: null
  event_rewards: { buy: 1.0 }

variants:
  one: { method: snqn, set: { train.patience: 2 } }
  two: { method: sqn }
"""


def in_project(folder: Path, text: str) -> tuple[Path, Path]:
    """An overlay with that text, and the repository's params.yaml, in a folder."""
    shutil.copy(PARAMS, folder / "params.yaml")
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return folder / "mine.yaml", folder / "params.yaml"


def test_merged_by_hand() -> None:
    assert merged(TEXT, OVERLAY) == MERGED
    assert merged(MERGED, OVERLAY) == MERGED


def test_the_layout_of_params_stays() -> None:
    text = PARAMS.read_text(encoding="utf-8")
    assert merged(text, {name: {} for name in read_yaml(PARAMS)}) == text


def test_use_says_what_changed_and_changes_nothing_else(tmp_path: Path) -> None:
    overlay, path = in_project(tmp_path, "train: { epochs: 41 }\nevaluate:\n  mask_seen: false\n")
    before = path.read_text()
    assert use(overlay, path) == ["train.epochs: 40 -> 41", "evaluate.mask_seen: true -> false"]
    differing = [new for old, new in zip(before.splitlines(), path.read_text().splitlines(), strict=True) if old != new]
    assert differing == ["  epochs: 41", "  mask_seen: false"]
    assert use(overlay, path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: { epochs: 4 }", "trian is unknown: remove it or mend its spelling"),
        ("train: { epoch: 4 }", "train.epoch is unknown: remove it or mend its spelling"),
        ("train: { epochs: 0 }", "train.epochs is 0, but must be greater than or equal to 1: mend it"),
        ("train: 3", "train is 3, but must be a valid dictionary or instance of TrainParams: mend it"),
        ("variants: { mine: { method: sqn } }", "variants.mine.backbone is missing: add it"),
        (
            "variants: { snqn: { set: { methods.sa2c.gamma: 0.1 } } }",
            "variants.snqn: set.methods.sa2c.gamma is",
        ),
        (
            "tune: { space: { train.speed: { choices: [1, 2] } } }",
            "tune.space: train.speed is no key of train",
        ),
        (
            "tune: { space: { train.epochs: { low: 3, high: 3, step: 1 } } }",
            "tune.space.train.epochs: high must be",
        ),
        ("tune: { space: { train.epochs: { low: 3, high: 4 } } }", "tune.space.train.epochs.log is missing: add it"),
        ("dataset: { name: tables }", "dataset.interactions is missing: add it"),
        ("a: [1", "no valid YAML"),
        ("", "holds no sections"),
    ],
)
def test_a_mistake_changes_nothing(tmp_path: Path, text: str, message: str) -> None:
    overlay, path = in_project(tmp_path, text)
    before = path.read_bytes()
    with pytest.raises(LeaError) as caught:
        use(overlay, path)
    assert str(caught.value).startswith(f"{overlay}: {message}")
    assert path.read_bytes() == before


def test_every_file_of_settings_after_every_other(tmp_path: Path) -> None:
    """What a file says holds whatever was used before: none leaves a key of another's data set behind."""
    _, path = in_project(tmp_path, "")
    files = sorted((ROOT / "settings").glob("*.yaml"))
    assert PARAMS in files
    for file in [*files, *reversed(files)]:  # so each comes once after every other
        use(file, path)
        text = path.read_text(encoding="utf-8")
        assert merged(text, read_yaml(file)) == text
        assert text.count("\n\n") == PARAMS.read_text(encoding="utf-8").count("\n\n")


def test_faithful_is_the_papers_way(tmp_path: Path) -> None:
    _, path = in_project(tmp_path, "")
    use(ROOT / "settings" / "faithful.yaml", path)
    found = load(path)
    for method in (found.methods.sqn, found.methods.sac, found.methods.snqn, found.methods.sa2c):
        two_networks = (method.q_weight, method.gamma, method.half_td, method.target_rate, method.target_dropout)
        assert two_networks == (1.0, 0.5, True, None, True)
        assert method.end_is_terminal
    assert found.train.batches.model_dump() == {"kind": "transitions", "size": 256}
    assert YAML(typ="safe", pure=True).load(path)["methods"]["sa2c"]["second_learning_rate"] == 0.001
