"""The parameters (settings/default.yaml), dvc.yaml and the code agree, by reading all three.

- A stage's `deps` name stages/<name>.py and every module of lea_core that it imports, directly or through another,
  inside functions too, but for the plumbing.
- A stage's `params` are the sections and keys that its code reads off `Params`, and no others.
- Every key of params.yaml is declared by a stage, and every declared key is read by the code that this stage runs.
"""

from __future__ import annotations

import ast
import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from lea_core.common.code_hash import closure, imported_files, is_plumbing, read_source
from lea_core.common.registry import BACKBONES, METHODS
from lea_core.params import FOLDERS, read_yaml
from lea_core.params.overlay import WHOLE, use
from tests.support.lane import PARAMS, ROOT

# No stage depends on these: who does the work, not what comes out; and what `lea tune` tries, beside the pipeline.
HOW = {"annotate.engine", "annotate.workers", "tune.trials", "tune.seed", "tune.seeds", "tune.space"}

# Commands that read params.yaml, and what looks for mistakes in it.
CLI = ("cli/le", "cli/settings", "cli/tuning", "doctor/folder")

CONTROL_MAPS = {"control": "controls.sources", "control_policy": "controls.policies"}


@functools.cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@functools.cache
def stages() -> dict[str, Any]:
    """DVC's own reading of dvc.yaml: every stage with its templates filled, by its full name."""
    with Repo.init(str(project()), no_scm=True) as repo:
        return {stage.name: stage for stage in repo.index.stages}


@functools.cache
def raw_params() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(project() / "params.yaml")  # type: ignore[no-any-return]


@functools.cache
def project() -> Path:
    """A folder with dvc.yaml, and with params.yaml to which settings/controls.yaml adds the controls."""
    folder = Path(tempfile.mkdtemp(prefix="lea-agreement-"))
    atexit.register(shutil.rmtree, folder)
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copy(PARAMS, folder / "params.yaml")
    use(ROOT / "settings" / "controls.yaml", folder / "params.yaml")
    return folder


def kinds_of_stages() -> list[str]:
    """Every stage; of those made for a variant, the default's variants and not those of the controls."""
    variants = read_yaml(PARAMS)["variants"]
    return [name for name in stages() if not name.startswith(("train@", "evaluate@")) or name.split("@")[1] in variants]


def script(stage: str) -> str:
    return f"stages/{stage.partition('@')[0]}.py"


# ---- imports


def code() -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for folder in ("lea_core", "stages") for p in (ROOT / folder).rglob("*.py"))


def of_others(name: str) -> set[str]:
    """Files of the backbones and methods that the variant of a stage does not use."""
    variant = raw_params()["variants"].get(name.partition("@")[2])
    if variant is None:
        return set()
    own = {BACKBONES.file(variant["backbone"]), METHODS.file(variant["method"])}
    return {*BACKBONES.files, *METHODS.files} - own


@pytest.mark.parametrize("name", kinds_of_stages())
def test_deps_are_the_code_that_runs(name: str) -> None:
    paths = {path for dep in stages()[name].deps if (path := dep.def_path).startswith(("lea_core", "stages"))}
    folders = {path for path in paths if not path.endswith(".py")}
    declared = paths - folders | {file for file in code() for path in folders if file.startswith(f"{path}/")}
    declared -= {file for file in declared if read_source(file).empty}
    assert declared == set(closure(script(name))) - of_others(name)


def test_plumbing_stands_alone() -> None:
    for path in filter(is_plumbing, code()):
        assert all(map(is_plumbing, imported_files(path))), f"{path} imports what computes: it is no plumbing"


def own_imports(path: str) -> str:
    """A file's text without the parts of importlib that import nothing."""
    return (ROOT / path).read_text().replace("importlib.metadata", "").replace("importlib.util", "")


def test_no_import_is_hidden_from_this_test() -> None:
    hidden = ("importlib", "runpy", "__import__", "exec(")
    found = [path for path in code() if any(word in own_imports(path) for word in hidden)]
    assert found == ["lea_core/common/registry.py"]  # which `closure` follows


@pytest.mark.parametrize("name", kinds_of_stages())
def test_a_stage_is_run_as_its_module(name: str) -> None:
    stage, _, variant = name.partition("@")
    assert stages()[name].cmd == f"python -m stages.{stage} {variant}".strip()


# ---- parameters


def leaves(value: object, prefix: str = "") -> dict[str, object]:
    """Dotted name -> value of every key below; a map of the user's own names (WHOLE, such as event_rewards) is one."""
    if isinstance(value, dict) and not WHOLE.fullmatch(prefix):
        return {
            name: leaf
            for key, below in value.items()
            for name, leaf in leaves(below, f"{prefix}.{key}" if prefix else key).items()
        }
    return {prefix: value}


def covers(section: str, leaf: str) -> bool:
    return leaf == section or leaf.startswith(f"{section}.")


def declared(name: str) -> set[str]:
    """Dotted names under `params` of a stage, templates filled."""
    return {key for dep in stages()[name].deps if hasattr(dep, "params") for key in dep.params}


def dotted(node: ast.expr) -> list[str]:
    """`a.b.c` as its names, and `load().b.c` too; empty where the expression is anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if is_load(node):
        return ["load()"]
    names = dotted(node.value) if isinstance(node, ast.Attribute) else []
    return [*names, node.attr] if names and isinstance(node, ast.Attribute) else []


def key_of(names: list[str]) -> str:
    """The part of the names that are keys of params.yaml: `variants.items` is about `variants`."""
    below, keys = raw_params(), []
    for name in names:
        if not isinstance(below, dict) or name not in below:
            break
        below = below[name]
        keys.append(name)
    return ".".join(keys)


def is_load(node: ast.AST) -> bool:
    """Whether `node` is `load()` or `params.load()`, which read params.yaml."""
    return isinstance(node, ast.Call) and ast.unparse(node) in ("load()", "params.load()")


def wholes(function: ast.FunctionDef) -> set[str]:
    """What holds the whole of params.yaml in a function: `load()`, what it is assigned to, arguments of its type."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotated = {arg.arg for arg in arguments if arg.annotation and dotted(arg.annotation)[-1:] == ["Params"]}
    loads = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and is_load(node.value)]
    return {"load()"} | annotated | {name for node in loads for target in node.targets for name in dotted(target)}


@functools.cache
def reads(path: str) -> frozenset[str]:
    """Keys that a file reads off such variables: `train`, `preprocess.repeats`, or `variant` for the one that runs.

    Who hands the whole on hands it to an argument of type `Params` (mypy sees to that), where it is followed. What is
    read for an error message changes no result.
    """
    nodes = list(ast.walk(tree(path)))
    followed = sum(isinstance(node, ast.Assign | ast.Attribute) and is_load(node.value) for node in nodes)
    assert followed == sum(map(is_load, nodes)), f"{path}: write `params = load()`, so that this test can follow it"
    found = set()
    for function in (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)):
        whole = wholes(function)
        for names in chains(function):
            if names[0] in whole:
                found.add("variant" if names[1] == "variant" else key_of(names[1:]))
    return frozenset(found)


def chains(node: ast.AST) -> list[list[str]]:
    """The longest `a.b.c` below a node, as names; not in `raise`, not in a mere check of the variant's name."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and ast.unparse(node).startswith("params.variant(")):
        return []
    if isinstance(node, ast.Attribute) and (names := dotted(node)):
        return [names]
    return [names for child in ast.iter_child_nodes(node) for names in chains(child)]


def read_by_stage(name: str) -> set[str]:
    """What the code of a stage reads, in the form that dvc.yaml declares it: of a named map, the entry it is about."""
    found = {key for path in closure(script(name)) for key in reads(path)}
    stage, _, key = name.partition("@")
    if not key:
        return found
    if stage in CONTROL_MAPS:
        section = CONTROL_MAPS[stage]
        return {f"{section}.{key}" if read == section else read for read in found}
    variant = raw_params()["variants"][key]
    own = {
        "variant": f"variants.{key}",
        "backbones": f"backbones.{variant['backbone']}",
        "methods": f"methods.{variant['method']}",
    }
    return {own.get(read.split(".")[0], read) for read in found}


def spelled_out(sections: set[str]) -> set[str]:
    """Every key of params.yaml in the sections."""
    return {leaf for leaf in leaves(raw_params()) if any(covers(section, leaf) for section in sections)}


@pytest.mark.parametrize("name", kinds_of_stages())
def test_params_are_what_the_stage_reads(name: str) -> None:
    assert spelled_out(declared(name)) == spelled_out(read_by_stage(name)) - HOW


def test_only_stages_and_the_command_line_load_params() -> None:
    """A module that loaded them itself could read what its stage does not declare."""
    loading = {path for path in code() if any(map(is_load, ast.walk(tree(path))))}
    assert {path for path in loading if not path.startswith("stages/")} == {f"lea_core/{path}.py" for path in CLI}


def test_every_key_is_declared_by_a_stage() -> None:
    sections = {section for name in stages() for section in declared(name)}
    # No variant of the default uses the other backbones and methods; a variant that does declares them.
    sections |= {f"{kind}.{name}" for kind in ("backbones", "methods") for name in raw_params()[kind]}
    undeclared = {leaf for leaf in leaves(raw_params()) if not any(covers(section, leaf) for section in sections)}
    assert undeclared == HOW


DEFAULT = read_yaml(PARAMS)["variants"]  # without those of settings/controls.yaml
TRAIN, EVALUATE = ({f"{stage}@{name}" for name in DEFAULT} for stage in ("train", "evaluate"))
SNQN = {"train@snqn", "train@snqn-lea"}


@pytest.mark.parametrize(
    ("key", "readers"),
    [
        ("dataset.text", {"fetch", "preprocess", "export", "report"}),
        ("preprocess.max_users", {"preprocess", "export"}),
        ("tokenize_items.learned.steps", {"tokenize_items"}),
        ("finetune_le.recent_decay", {"finetune_le", "measure_le"}),
        ("annotate.engine", set()),
        ("annotate.workers", set()),
        ("annotate.seed", {"annotate"}),
        ("annotate.threads", {"annotate", "augment"}),
        ("augment.actions", {"augment"}),
        ("methods.snqn.gamma", SNQN),
        ("methods.sqn.gamma", set()),
        ("evaluate.cutoffs", EVALUATE | {"baselines", "evaluate_le", "report"}),
        ("evaluate.mask_seen", TRAIN | EVALUATE | {"baselines", "evaluate_le", "estimate_value", "export", "report"}),
        ("baselines.session_knn.recent", {"baselines"}),
        ("off_policy.clip", {"estimate_value"}),
        ("report.metric", {"export", "report"}),
    ],
)
def test_who_reads_a_parameter(key: str, readers: set[str]) -> None:
    """By hand: the stages that DVC runs first when this parameter changes."""
    ours = [name for name in stages() if name.partition("@")[2] in ("", *DEFAULT)]
    assert {name for name in ours if any(covers(section, key) for section in declared(name))} == readers


LE_READERS = {"annotate", "augment", "rank", "measure_le", "evaluate_le"}


@pytest.mark.parametrize(
    ("path", "readers"),
    [
        ("data/raw", {"preprocess"}),
        ("data/llm", LE_READERS - {"rank"} | {"tokenize_items", "finetune_le", "export"}),
        ("data/item_tokens/items.parquet", LE_READERS | {"finetune_le", "baselines", "report"}),
        ("data/le", LE_READERS),
        ("data/states/le.parquet", {"augment", "rank", "measure_le", "train@snqn-lea", "train@sa2c-lea"}),
        ("data/rewards/le.parquet", {"report", "train@snqn-lea", "train@sa2c-lea"}),
        ("data/actions/le.parquet", {"report", "train@snqn-lea", "train@sa2c-lea"}),
        ("data/policies/snqn", {"evaluate@snqn"}),
        ("data/evaluations", {"export", "report"}),
    ],
)
def test_who_reads_an_artifact(path: str, readers: set[str]) -> None:
    """By hand: the stages that DVC runs where another has written this path anew."""
    ours = [name for name in stages() if name.partition("@")[2] in ("", *DEFAULT)]
    assert {name for name in ours if path in {dep.def_path for dep in stages()[name].deps}} == readers


@functools.cache
def attributes(path: str) -> frozenset[str]:
    """Names of the attributes and arguments in a file: a section is read key by key, or handed on as `**settings`."""
    nodes = list(ast.walk(tree(path)))
    return frozenset(
        {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        | {node.arg for node in nodes if isinstance(node, ast.arg)}
    )


@functools.cache
def dumped_whole(path: str) -> frozenset[str]:
    """Sections of which a file takes every key, by `params.<section>.model_dump()`."""
    chains_here = [names for names in chains(tree(path)) if names[0] == "params" and names[-1] == "model_dump"]
    return frozenset(key_of(names[1:-1]) for names in chains_here)


@pytest.mark.parametrize("name", kinds_of_stages())
def test_every_declared_key_is_read(name: str) -> None:
    read = {attribute for path in closure(script(name)) for attribute in attributes(path)}
    dumped = {section for path in closure(script(name)) for section in dumped_whole(path)}
    read |= {leaf.split(".")[-1] for leaf in spelled_out(dumped)}
    read |= {"set", *FOLDERS}  # of a variant: read where params are, by `Params.of` and `Variant.sources`
    # who goes through all variants reads which there are, whatever it reads of each
    variants = {leaf for leaf in spelled_out({"variants"}) if "variants" in read_by_stage(name)}
    assert sorted(leaf for leaf in spelled_out(declared(name)) - variants if leaf.split(".")[-1] not in read) == []
