"""The parameters (settings/default.yaml), dvc.yaml and the code agree, by reading all three.

- A stage's `deps` cover stages/<name>.py and every module of lea_core that it imports, directly or through another,
  inside functions too, but for the plumbing; and each file or folder among them holds such a module.
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

import networkx as nx
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from lea_core.common.code_hash import closure, imported_files, is_plumbing
from lea_core.common.registry import BACKBONES, METHODS
from lea_core.params import FOLDERS, read_yaml
from lea_core.params.overlay import WHOLE, change_params, use
from tests.support.lane import PARAMS, ROOT

# No stage depends on these: who does the work, not what comes out; and what `lea tune` tries, beside the pipeline.
HOW = {"annotate.engine", "annotate.workers", "tune.trials", "tune.seed", "tune.seeds", "tune.space"}

# Commands that read params.yaml, and what looks for mistakes in it.
CLI = ("cli/le", "cli/settings", "cli/tuning", "cli/doctor/folder")

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
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    shutil.copy(PARAMS, folder / "params.yaml")
    use(ROOT / "settings" / "controls.yaml", folder / "params.yaml")
    return folder


def kinds_of_stages() -> list[str]:
    """Every stage; of those made for a variant, the default's variants and not those of the controls."""
    variants = read_yaml(PARAMS)["variants"]
    made = ("train@", "evaluate@", "signals@")
    return [name for name in stages() if not name.startswith(made) or name.split("@")[1] in variants]


def script(stage: str) -> str:
    return f"stages/{stage.partition('@')[0]}.py"


# ---- imports


def code() -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for folder in ("lea_core", "stages") for p in (ROOT / folder).rglob("*.py"))


def code_deps(name: str) -> set[str]:
    """Files and folders of code that a stage depends on."""
    return {dep.def_path for dep in stages()[name].deps if dep.def_path.startswith(("lea_core", "stages"))}


def holds(dep: str, file: str) -> bool:
    """Whether a dependency is this file or a folder around it."""
    return file == dep or file.startswith(f"{dep}/")


def of_others(name: str) -> set[str]:
    """Files of the backbones and methods that the variant of a stage does not use."""
    variant = raw_params()["variants"].get(name.partition("@")[2])
    if variant is None:
        return set()
    own = {BACKBONES.file(variant["backbone"]), METHODS.file(variant["method"])}
    return {*BACKBONES.files, *METHODS.files} - own


@pytest.mark.parametrize("name", kinds_of_stages())
def test_deps_are_the_code_that_runs(name: str) -> None:
    runs, deps = set(closure(script(name))) - of_others(name), code_deps(name)
    assert {file for file in runs if not any(holds(dep, file) for dep in deps)} == set()
    assert {dep for dep in deps if not any(holds(dep, file) for file in runs)} == set()
    assert all((ROOT / dep).exists() for dep in deps)


def ignored() -> set[str]:
    """Files of code that DVC does not see in the folders around them."""
    lines = (ROOT / ".dvcignore").read_text().splitlines()
    return {line.removeprefix("/") for line in lines if line.endswith(".py")}


def test_dvc_overlooks_no_code_that_a_stage_runs() -> None:
    runs = {file for name in stages() for file in closure(script(name))}
    assert ignored() & runs == set()
    assert all((ROOT / file).is_file() for file in ignored())
    stages()  # makes the repository
    with Repo(str(project())) as repo:
        for file in ignored():
            (project() / file).parent.mkdir(parents=True, exist_ok=True)
            (project() / file).touch()
            assert repo.dvcignore.is_ignored_file(str(project() / file))


LE_STAGES = {"finetune_le", "annotate", "augment", "rank", "measure_le", "evaluate_le"}
CONTROLS = {"control", "control_policy"}
RANKING = {"train", "evaluate", "baselines", "text_knn", "evaluate_le"}
POLICY_READERS = {"train", "evaluate", "export", "estimate_value", "control_policy"}


@pytest.mark.parametrize(
    ("path", "runs"),
    [
        ("common/tables.py", set()),
        ("params/data.py", set()),
        ("cli/report.py", set()),
        ("llm/text_cache.py", set()),
        ("environment/inspect.py", set()),
        ("annotation/cost_estimate.py", set()),
        ("report/html/page.py", {"report"}),
        ("report/html/page.html.j2", {"report"}),  # what is no code lies in a folder too
        ("report/markdown.py", {"report"}),
        ("evaluation/results.py", {"report"}),
        ("evaluation/off_policy/value.py", {"report", "estimate_value"}),
        ("evaluation/environment/yardsticks.py", {"report", "measure_le"}),
        ("serving/folder.py", {"export"}),
        ("experiments/controls/states.py", CONTROLS),
        ("experiments/tuning.py", set()),
        ("learners/loop.py", {"train"}),
        ("learners/supervision.py", {"train"} | CONTROLS),
        ("models/policy_network.py", POLICY_READERS),
        ("baselines/rankers/session_knn.py", {"baselines"}),
        ("baselines/neighbours.py", {"baselines", "text_knn", "measure_le"} | CONTROLS),
        ("baselines/run.py", {"baselines", "text_knn", "evaluate_le"}),
        ("metrics/protocol.py", RANKING | {"measure_le", "report"} | CONTROLS),
        (
            "metrics/ranking.py",
            RANKING | {"measure_le", "report", "estimate_value", "finetune_le", "augment", "rank"} | CONTROLS,
        ),
        ("metrics/reward.py", RANKING | {"measure_le", "report", "finetune_le"} | CONTROLS),
        ("annotation/augment.py", {"annotate", "augment"}),
        ("annotation/rank.py", {"annotate", "augment", "rank"}),
        ("environment/finetune.py", {"finetune_le", "measure_le"}),
        ("environment/heads.py", LE_STAGES),
        ("environment/user_split.py", {"finetune_le", "measure_le", "report"}),
        ("llm/packing.py", LE_STAGES | {"fetch_llm", "tokenize_items", "export"}),
        ("data/presets/ml_100k.py", {"fetch_data", "preprocess"}),
        ("data/splits.py", {"preprocess"}),
        ("data/rewards.py", {"preprocess", "train", "estimate_value"} | CONTROLS),
    ],
)
def test_what_an_edit_runs(path: str, runs: set[str]) -> None:
    """By hand: the stages that DVC runs first after an edit of a file of lea_core, room by room as dvc.yaml says."""
    file = f"lea_core/{path}"
    found = {name.partition("@")[0] for name in stages() if any(holds(dep, file) for dep in code_deps(name))}
    assert (set() if file in ignored() else found) == runs


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
    if not key or stage == "tidy":
        return found
    if stage == "signals":
        return {f"variants.{key}.{part}" for read in found if read == "variant" for part in FOLDERS}
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
RANKED = {"baselines", "text_knn", "evaluate_le"}
TIDY = {f"tidy@{folder}" for folder in ("policies", "evaluations", "signals")}
SNQN = {"train@snqn", "train@snqn-lea"}


def default_stages() -> list[str]:
    """Those without the variants that settings/controls.yaml adds."""
    return [name for name in stages() if name.partition("@")[2] in ("", *DEFAULT) or name in TIDY]


@pytest.mark.parametrize(
    ("key", "readers"),
    [
        ("dataset.text", {"fetch_data", "preprocess", "export", "report"}),
        ("dataset.sha256", {"fetch_data", "preprocess", "export", "report"}),
        ("llm.sha256", {"fetch_llm", "export"}),
        ("preprocess.max_users", {"preprocess", "export"}),
        ("tokenize_items.learned.steps", {"tokenize_items"}),
        ("finetune_le.recent_decay", {"finetune_le", "measure_le"}),
        ("annotate.engine", set()),
        ("annotate.workers", set()),
        ("annotate.seed", {"annotate"}),
        ("annotate.threads", {"annotate", "augment"}),
        ("augment.actions", {"augment"}),
        ("variants.snqn.reward", {"train@snqn", "signals@snqn", "export", "estimate_value", "report"} | TIDY),
        ("methods.snqn.gamma", SNQN),
        ("methods.sqn.gamma", set()),
        ("evaluate.cutoffs", EVALUATE | RANKED | {"report"}),
        ("evaluate.mask_seen", TRAIN | EVALUATE | RANKED | {"estimate_value", "export", "report"}),
        ("baselines.session_knn.recent", {"baselines"}),
        ("off_policy.clip", {"estimate_value"}),
        ("report.metric", {"export", "report"}),
    ],
)
def test_who_reads_a_parameter(key: str, readers: set[str]) -> None:
    """By hand: the stages that DVC runs first when this parameter changes."""
    ours = default_stages()
    assert {name for name in ours if any(covers(section, key) for section in declared(name))} == readers


LE_READERS = {"annotate", "augment", "rank", "measure_le", "evaluate_le"}
USING = {"state": {"snqn-lea", "sa2c-lea"}, "ranking": {"supervised-lea", "snqn-lea", "sa2c-lea"}}


@pytest.mark.parametrize(
    ("path", "readers"),
    [
        ("data/raw", {"preprocess"}),
        ("data/llm", LE_READERS - {"rank"} | {"tokenize_items", "finetune_le"}),
        ("data/item_tokens/items.parquet", LE_READERS | {"finetune_le", "text_knn"}),
        ("data/le", LE_READERS),
        ("data/states/le.parquet", {"augment", "rank", "measure_le", "train@snqn-lea", "train@sa2c-lea"}),
        ("data/rewards/le.parquet", {"stamp_le", "train@snqn-lea", "train@sa2c-lea"}),
        ("data/actions/le.parquet", {"stamp_le", "train@snqn-lea", "train@sa2c-lea"}),
        ("data/le_quality", {"stamp_le"}),
        ("data/baselines/le", {"stamp_le"}),
        ("data/stamps/states/le.json", {f"signals@{name}" for name in USING["state"]}),
        ("data/stamps/rankings/le.json", {f"signals@{name}" for name in USING["ranking"]}),
        ("data/policies/snqn", {"evaluate@snqn"}),
        ("data/policies", {"tidy@policies", "export", "estimate_value", "report"}),
        ("data/evaluations", {"tidy@evaluations", "export", "report"}),
        ("data/signals", {"tidy@signals", "report"}),
    ],
)
def test_who_reads_an_artifact(path: str, readers: set[str]) -> None:
    """By hand: the stages that DVC runs where another has written this path anew."""
    ours = default_stages()
    assert {name for name in ours if path in {dep.def_path for dep in stages()[name].deps}} == readers


PLAIN = {"fetch_data", "preprocess", "estimate_value", "baselines"}
EXPORT, REPORT = {"tidy@policies", "tidy@evaluations"}, {"tidy@policies", "tidy@evaluations", "tidy@signals"}
LE = {"fetch_llm", "tokenize_items", "finetune_le", "annotate"}


@pytest.mark.parametrize(
    ("uses", "goal", "needed"),
    [
        ({}, "report", PLAIN | REPORT),
        ({}, "export", {"fetch_data", "preprocess"} | EXPORT),
        ({"items": "le"}, "report", PLAIN | REPORT | {"fetch_llm", "tokenize_items", "text_knn"}),
        ({"reward": "le"}, "export", {"fetch_data", "preprocess"} | EXPORT | LE),
        (
            {"reward": "le"},
            "report",
            PLAIN | REPORT | LE | {"text_knn", "augment", "measure_le", "evaluate_le", "stamp_le"},
        ),
    ],
)
def test_what_a_goal_needs(tmp_path: Path, uses: dict[str, str], goal: str, needed: set[str]) -> None:
    """By hand: what DVC runs for it, with one variant; without a signal no LLM. (`dvc repro` alone runs all stages.)"""
    for name in ("dvc.yaml", "settings/default.yaml"):
        shutil.copy(ROOT / name, tmp_path / ("params.yaml" if name.startswith("settings") else name))
    change_params(tmp_path, {"variants": {"one": read_yaml(PARAMS)["variants"]["snqn"] | uses}})
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        index = repo.index
        goal_stage = next(stage for stage in index.stages if stage.name == goal)
        found = {stage.name for stage in nx.descendants(index.graph, goal_stage)}
    wanted = needed | {"train@one", "evaluate@one"} | ({"signals@one"} if goal == "report" else set())
    assert found == wanted


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
    # it declares all of dataset, for DVC knows no key that only some data sets have; a new text downloads nothing
    read |= {"name", "text"} if name == "fetch_data" else set()
    # who goes through all variants reads which there are, whatever it reads of each
    variants = {leaf for leaf in spelled_out({"variants"}) if "variants" in read_by_stage(name)}
    assert sorted(leaf for leaf in spelled_out(declared(name)) - variants if leaf.split(".")[-1] not in read) == []
