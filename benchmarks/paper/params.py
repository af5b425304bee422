"""benchmark.yaml -> configurations.yaml, and the params.yaml of each data set of the paper-scale benchmark.

In: benchmark.yaml, settings/default.yaml, settings/<data>.yaml and settings/controls.yaml. Out:
benchmarks/.work/benchmark/<data>/params.yaml with all variants of that data set, and configurations.yaml, which
benchmarks/dvc.yaml reads: a line for every configuration, the most important ones first, and for every control table.

    python -m benchmarks.paper.params             # configurations.yaml
    python -m benchmarks.paper.params scientific  # its params.yaml
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.support.jobs import DEFAULTS, ROOT, SETTINGS, WORK
from benchmarks.support.prepared import changes_of
from lea_core.common.artifacts import publish_file
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.params import FOLDERS, LE_AND_NEIGHBOURS, Params, assign, parse, read_yaml
from lea_core.params.overlay import round_trip, styled

HOME = ROOT / "benchmarks"  # of dvc.yaml
BENCHMARK = HOME / "paper" / "benchmark.yaml"
CONFIGURATIONS = HOME / "paper" / "configurations.yaml"
FOLDER = WORK / "benchmark"  # a folder below it for each data set
PARTS = {folder: part for part, folder in FOLDERS.items()}
NONE = dict.fromkeys(FOLDERS, "none")
HEAD = """\
# Made of benchmark.yaml by `python -m benchmarks.paper.params`: what dvc.yaml runs. Configurations are in the order of
# `make benchmark`. `folder` is where a control's table lies.

"""
FIRST = ("supervised", "snqn-lea")  # of a data set and backbone: they come first

# The LE's ranking with item neighbours: no control, so it is not in settings/controls.yaml.
EXTRA = {"ranking-le-item-knn": {"part": FOLDERS["ranking"], "source": LE_AND_NEIGHBOURS}}

Names = dict[str, dict[str, Any]]


def read_benchmark() -> dict[str, Any]:
    """benchmark.yaml as plain values."""
    return read_yaml(BENCHMARK)


def variants_of(benchmark: Mapping[str, Any], data: str) -> Names:
    """Every variant of a data set as params.yaml has it, by name: <backbone>-<method>-<lea, signal or control>.

    Raises `LeaError` where benchmark.yaml has no settings for a method.
    """
    known = benchmark["data"][data]
    wanted = [
        (backbone, method, ending, sources)
        for backbone in benchmark["backbones"]
        for method in benchmark["methods"]
        for ending, sources in _endings(method).items()
    ]
    for chosen in known["together"]:
        sources = {part: chosen[part] for part in FOLDERS if part in chosen}
        wanted += [(chosen["backbone"], method, chosen["name"], sources) for method in chosen["methods"]]
    found = {"-".join(filter(None, row[:3])): _variant(benchmark, data, *row) for row in wanted}
    if own := known["controls"]:
        found |= dict(_controls(benchmark, data, own["backbone"], own["method"]))
    return found


def _endings(method: str) -> dict[str, dict[str, str]]:
    """What a method is trained with: no signal of the LE, all, each alone. The supervised method reads no reward."""
    parts = [part for part in FOLDERS if not (method == "supervised" and part == "reward")]
    return {"": {}, "lea": dict.fromkeys(parts, "le"), **{part: {part: "le"} for part in parts}}


def _variant(
    benchmark: Mapping[str, Any], data: str, backbone: str, method: str, ending: str, sources: Mapping[str, str]
) -> dict[str, Any]:
    settings = benchmark["data"][data][backbone]
    if missing := [name for name in ("supervised", method) if name not in settings]:
        raise LeaError(f"{BENCHMARK}: data.{data}.{backbone} has no {missing[0]}: add its settings")
    own = dict(settings[method])
    if ending == "lea":
        shared = {key: value for key, value in settings["supervised"].items() if not key.startswith("methods.")}
        own = {**{key: value for key, value in own.items() if key.startswith("methods.")}, **shared}
    more = settings.get(f"{method}-{ending}", {})
    return {"backbone": backbone, "method": method, **NONE, **sources, "set": {**own, **more}}


def _controls(
    benchmark: Mapping[str, Any], data: str, backbone: str, method: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A variant for every control table, and those of settings/controls.yaml that are controls without any signal."""
    overlay = read_yaml(SETTINGS / "controls.yaml")
    tables = {name: (entry["part"], entry["source"]) for name, entry in overlay["controls"]["sources"].items()}
    tables |= {name: (entry["part"], "policy") for name, entry in overlay["controls"]["policies"].items()}
    for name, (folder, source) in tables.items():
        part = PARTS[folder]
        yield f"{backbone}-{method}-{name}", _variant(benchmark, data, backbone, method, part, {part: source})
    for name, control in overlay["variants"].items():
        if all(control[part] == "none" for part in FOLDERS) and control["method"] in ("supervised", method):
            plain = _variant(benchmark, data, backbone, control["method"], "", {})
            more = benchmark["data"][data][backbone].get(name, {})
            yield f"{backbone}-{name}", {**plain, "set": {**plain["set"], **control["set"], **more}}


def controls_of(benchmark: Mapping[str, Any], data: str) -> dict[str, Any]:
    """The section `controls` of a data set's params.yaml."""
    own = benchmark["data"][data]["controls"]
    if not own:
        return {"sources": {}, "policies": {}}
    overlay = read_yaml(SETTINGS / "controls.yaml")["controls"]
    sources = {**overlay["sources"], **EXTRA} if benchmark["data"][data]["together"] else overlay["sources"]
    policies = {
        name: {**entry, "policy": f"{own['backbone']}-{entry['policy']}"} for name, entry in overlay["policies"].items()
    }
    return {"sources": sources, "policies": policies}


def params_of(benchmark: Mapping[str, Any], data: str) -> tuple[dict[str, Any], Params]:
    """The parameters of a data set: as plain values, and checked.

    Raises `LeaError` where a key or value is wrong.
    """
    raw = read_yaml(DEFAULTS)
    for key, value in {**changes_of(data), **benchmark["changes"]}.items():
        try:
            assign(raw, key, value)
        except KeyError:
            raise LeaError(f"{BENCHMARK}: changes.{key} is no key of params.yaml: mend its spelling") from None
    raw["controls"] |= controls_of(benchmark, data)
    raw["variants"] = variants_of(benchmark, data)
    return raw, parse(raw, FOLDER / data / "params.yaml")


def configurations_of(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """What dvc.yaml goes through: data sets, control tables and configurations."""
    found: dict[str, Any] = {"data": list(benchmark["data"]), "controls": {}, "policies": {}}
    turns: dict[str, tuple[int, ...]] = {}
    rows: Names = {}
    for place, data in enumerate(benchmark["data"]):
        made = controls_of(benchmark, data)
        for kind, key in (("sources", "source"), ("policies", "policy")):
            for name, entry in made[kind].items():
                row = {"data": data, "control": name, "folder": entry["part"], key: entry[key]}
                found["controls" if kind == "sources" else kind][f"{data}-{name}"] = row
        for name, variant in variants_of(benchmark, data).items():
            plain = {key: value for key, value in variant.items() if key != "set"}
            rows[f"{data}-{name}"] = {"data": data, "variant": name, **plain}
            turns[f"{data}-{name}"] = (*_turn(name, variant, benchmark), place)
    ordered = sorted(rows, key=lambda name: turns[name])  # stable: the order of benchmark.yaml within a turn
    return {**found, "configurations": {name: rows[name] for name in ordered}}


def _turn(name: str, variant: Mapping[str, Any], benchmark: Mapping[str, Any]) -> tuple[int, ...]:
    """When a variant runs: backbone by backbone, without the LE and `lea` before single signals; controls last."""
    backbone, method = variant["backbone"], variant["method"]
    ending = name.removeprefix(f"{backbone}-")
    place = FIRST.index(ending) if ending in FIRST else len(FIRST)
    regular = ending == method or "le" in [variant[part] for part in FOLDERS]
    whole = ending in (method, f"{method}-lea")
    return (int(not regular), benchmark["backbones"].index(backbone), int(not whole), int(place == len(FIRST)))


def write_configurations(benchmark: Mapping[str, Any]) -> None:
    """configurations.yaml, where it is not as it should be."""
    wanted = configurations_of(benchmark)
    if not CONFIGURATIONS.exists() or read_yaml(CONFIGURATIONS) != wanted:
        rows = styled(wanted)
        for name in ("controls", "policies", "configurations"):
            for row in rows[name].values():
                row.fa.set_flow_style()
        _write(CONFIGURATIONS, HEAD, rows)


def write_params(benchmark: Mapping[str, Any], data: str) -> None:
    """The params.yaml of a data set."""
    raw, _ = params_of(benchmark, data)
    _write(FOLDER / data / "params.yaml", "# Made by benchmarks/paper/params.py.\n\n", styled(raw))


def _write(path: Path, head: str, values: Mapping[str, Any]) -> None:
    with publish_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head)
        round_trip().dump(values, file)


def main(argv: list[str]) -> None:
    """Write configurations.yaml, or the params.yaml of the data sets that `argv` names."""
    benchmark = read_benchmark()
    if unknown := [name for name in argv if name not in benchmark["data"]]:
        raise LeaError(f"{BENCHMARK}: data has no {unknown[0]}: write one of {', '.join(benchmark['data'])}")
    for name in argv:
        write_params(benchmark, name)
    if not argv:
        write_configurations(benchmark)


if __name__ == "__main__":
    run(main)
