"""docs/extending.md, followed to the letter in a copy of the project: from a new file to a policy that is served."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.lane import ROOT

BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ("lea_core", "stages", "settings", "tests")

# Runs in the copy, whose package shadows this one.
SCRIPT = """
from pathlib import Path
import pytest
from lea_core.common.artifacts import read_json, write_json
from lea_core.data import datasets
from lea_core.params import load, read_yaml
from lea_core.params.overlay import change_params
from lea_core.serving import Policy
from lea_core.serving.onnx_export import export_folder
from lea_core.serving.onnx_policy import OnnxPolicy
from stages import baselines, evaluate, export, preprocess, train
from tests.support.lane import PARAMS
from tests.support.tiny_project import log, write_project

page = read_yaml(Path("page.yaml"))
variant = page.pop("variants")
dataset = page.pop("dataset")
PARAMS.rename(PARAMS.with_name("params.yaml"))
added = {f"{section}.{name}": value for section, names in page.items() for name, value in names.items()}
change_params(PARAMS.parent, added)
PARAMS.with_name("params.yaml").rename(PARAMS)
write_project(Path(), log(30, longest=12))
change_params(Path(), {
    "variants": variant, "evaluate.cutoffs": [5], "report.metric": "NDCG@5", "train.seeds": [0], "train.epochs": 3,
    "train.history": 6, "train.evaluate_every": 1,
})
(name,) = variant
folder = Path("data/policies") / name
curve, summary = train.train_one(name, folder, 0)
assert "advantage" not in curve[0] and len(curve) == 3
write_json(folder / "training.json", {"seeds": {"0": summary}, "params": train.settings(load(), name)})
evaluate.main([name])
export.main([])
assert "Decaying mean, trained by reinforcement learning (AWAC)" in Path("data/policy/README.md").read_text()
export_folder(Path("data/policy"), Path("data/onnx"), 5, False)
policy, graph = Policy.load("data/policy"), OnnxPolicy.load("data/onnx")
found = policy.recommend([["i1", "i2"], ["i3"]], k=3)
assert len(found.items[0]) == 3 and found.items == graph.recommend([["i1", "i2"], ["i3"]], k=3).items
assert policy.config.settings == {"width": 16, "decay": 0.7}

baselines.main([])
assert read_json(Path("data/baselines/markov/metrics.json"))["valid"]["NDCG@5"]["mean"] >= 0.0

Path("shop").mkdir()
rows = [f"u{user},p{(user + step) % 9},{100 + step}" for user in range(12) for step in range(6)]
Path("shop/interactions.csv").write_text("who,what,when\\n" + "\\n".join(rows) + "\\n")
Path("shop/items.csv").write_text("what,title\\n" + "".join(f"p{item},thing {item}\\n" for item in range(9)))
change_params(Path(), {"dataset": dataset, "preprocess.min_rating": None, "preprocess.k_core": 0})
datasets.fetch(load().dataset, Path("cache"), Path("data/raw"))
preprocess.main([])
assert read_json(Path("data/interactions/quality.json"))
raise SystemExit(pytest.main(["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "tests/models/test_backbones.py",
                              "-k", "decay"]))
"""


def blocks() -> dict[str, str]:
    """What the page says to write: the text of each file; the parts of params.yaml are one."""
    found: dict[str, str] = {}
    for name, text in BLOCK.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")):
        found[name] = found.get(name, "") + text
    return found


def test_what_the_page_says_works(tmp_path: Path) -> None:
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "test_[!b]*"))
    written = blocks()
    assert len(written) == 5  # four files and params.yaml
    (tmp_path / "page.yaml").write_text(written.pop("params.yaml"))
    for name, text in written.items():
        assert not (ROOT / name).exists()
        assert len(text.splitlines()) < 45
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
