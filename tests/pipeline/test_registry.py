"""registry.py: names without imports, clear errors, settings without torch; and a change of one file runs its variants.

The files of the project's registries hold to their rules: none imports another of its folder.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from lea_core.common.code_hash import closure, imported_files
from lea_core.common.errors import LeaError
from lea_core.common.registry import BACKBONES, BASELINES, METHODS, REGISTRIES, Registry
from tests.pipeline.test_agreement import stages

NEEDS = {"Settings": "the settings", "CASES": "test cases"}
WHOLE = """
from dataclasses import dataclass
import no_such_module_at_all

@dataclass(frozen=True)
class Settings:
    width: int

CASES = (Settings(1),)
"""
EMPTY = "class Settings: pass\nCASES = ()"


def registry(folder: Path, **files: str) -> Registry:
    """A registry of these files, in a package of its own."""
    nets = folder / f"{folder.name}_pkg"
    nets.mkdir()
    for name, text in files.items():
        (nets / f"{name}.py").write_text(text)
    return Registry("net", nets.name, NEEDS, root=folder)


def test_names_are_those_of_the_files_and_settings_run_alone(tmp_path: Path) -> None:
    nets = registry(tmp_path, b=WHOLE, a_c=WHOLE, __init__="", _hidden="")
    assert nets.names == ("a_c", "b")
    assert "a-c" in nets
    assert "c" not in nets
    settings = nets.settings("a-c")
    assert settings is not None
    assert settings(3).width == 3  # though the file imports what is not there
    with pytest.raises(LeaError, match=r"no net is called 'c': use one of a_c, b, or add .*_pkg/c\.py"):
        nets.load("c")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("net_1/", r"net_1(\.py)? and net_1(\.py)? are two files for the net net_1: rename or remove one"),
        ("Net_1.py", r"[Nn]et_1\.py and [Nn]et_1\.py are two files for the net net_1"),
        ("net-1.py", r"net-1\.py and net_1\.py are two files for the net net_1"),
        ("My net.py", r"My net\.py: name it by small letters, digits and _, a letter"),
    ],
)
def test_a_name_twice(tmp_path: Path, other: str, message: str) -> None:
    nets = registry(tmp_path, net_1=WHOLE)
    path = tmp_path / nets.folder / other
    path.mkdir() if other.endswith("/") else path.touch()
    with pytest.raises(LeaError, match=message):
        _ = nets.names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Settings: pass", r"net\.py: has no CASES: add test cases"),
        (EMPTY, r"net\.py: has no CASES: add test cases"),
        ("CASES = (1,)", r"net\.py: has no Settings: add the settings"),
    ],
)
def test_a_file_that_lacks_an_attribute(
    tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    nets = registry(tmp_path, net=text)
    with pytest.raises(LeaError, match=message):
        nets.load("net")
    if text != EMPTY:  # params.yaml is refused at once, without running the file
        with pytest.raises(LeaError, match=message):
            nets.settings("net")


def test_settings_that_use_what_is_not_there(tmp_path: Path) -> None:
    text = "import torch\nCASES = (1,)\nclass Settings:\n    kind = torch.float32\n"
    with pytest.raises(LeaError, match=r"net\.py: Settings uses torch, which is not there before the rest"):
        registry(tmp_path, net=text).settings("net")


def test_the_parameters_are_checked_without_torch() -> None:
    code = (
        "import sys; from lea_core.params import load; from tests.support.lane import PARAMS; load(PARAMS); "
        "print(sorted({'torch', 'polars', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("name", REGISTRIES)
def test_no_file_of_a_registry_imports_another_of_it(name: str) -> None:
    """So an edit of one changes nothing about the others."""
    files = REGISTRIES[name].files
    assert {(file, other) for file in files for other in imported_files(file) if other in files} == set()


def test_what_loads_by_name_is_known_to_depend_on_it() -> None:
    assert set(BACKBONES.files) <= closure("lea_core/models/policy_network.py").keys()
    assert set(METHODS.files) <= closure("lea_core/learners/loop.py").keys()
    assert not set(BACKBONES.files) & closure("lea_core/environment/model.py").keys()


def test_dvc_knows_the_folder_of_every_baseline() -> None:
    outs = {out.def_path for name in ("baselines", "text_knn") if name in stages() for out in stages()[name].outs}
    assert {f"data/baselines/{name}" for name in BASELINES.names} <= outs


ALL = {"control_policy", "export", "estimate_value"}


@pytest.mark.parametrize(
    ("file", "trained", "evaluated", "others"),
    [
        ("models/backbones/gru4rec.py", set(), set(), ALL),  # no variant of the default has it
        ("models/backbones/sasrec.py", {"snqn", "sa2c", "supervised"}, {"snqn", "sa2c", "supervised"}, ALL),
        ("learners/methods/snqn.py", {"snqn"}, set(), set()),
        ("learners/methods/sac.py", set(), set(), set()),
        ("learners/q_learning.py", {"snqn", "sa2c", "supervised"}, set(), set()),
    ],
)
def test_an_edit_runs_the_variants_that_use_the_file(
    file: str, trained: set[str], evaluated: set[str], others: set[str]
) -> None:
    """By hand; variants by their method, for all of the default and of the controls have the backbone sasrec."""
    path = f"lea_core/{file}"
    runs = {
        name
        for name, stage in stages().items()
        if any(path == dep.def_path or path.startswith(f"{dep.def_path}/") for dep in stage.deps)
    }
    by_stage = {
        kind: {name.partition("@")[2].partition("-")[0] for name in runs if name.startswith(f"{kind}@")}
        for kind in ("train", "evaluate")
    }
    assert by_stage == {"train": trained, "evaluate": evaluated}
    assert {name.partition("@")[0] for name in runs} - {"train", "evaluate"} == others
