"""What the paper-scale benchmark has found so far: `make benchmark`, at any time `python -m benchmarks.paper.report`.

In: the configurations that have run with the present parameters, here (benchmarks/.work/benchmark/<data>) or elsewhere
(benchmarks/results/cells, see store.py); the published rows of benchmark.yaml. Out, in benchmarks/results/:

  cells/         what was found here, to be kept
  benchmark.csv  dataset, backbone, variant, seed, split, metric, value; baselines have no backbone
  benchmark.md   tables, beside what others have published
  summary.json   by data set: the best variant with signals of the LE, chosen by validation NDCG@10, against its
                 supervised baseline

and their picture, docs/benchmark.png (plot.py). The same kept results give the same text on any machine.

Differences are of means over the test events; one interval is over users, of the mean over the seeds, the other over
users and seeds (lea_core/evaluation/significance.py). p is that of the paired randomisation test over users, corrected
by Holm over all variants of the data set that have a supervised baseline (lea_core/evaluation/comparisons.py). Any two
kept results are compared by

    python -m benchmarks.paper.report scientific sasrec-snqn-ranking-items sasrec-supervised-ranking-items
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.paper.inputs import MADE_OF, differences, told
from benchmarks.paper.params import CONFIGURATIONS, FOLDER, params_of, read_benchmark
from benchmarks.paper.plot import picture
from benchmarks.paper.slices import by_events, keep_events
from benchmarks.paper.store import STORE, keep, read_kept, seeds_of
from benchmarks.paper.summary import HR, NDCG, Found, beside_baseline, best, collect, summary
from benchmarks.support.jobs import RESULTS, ROOT
from benchmarks.support.written import save, table, write_ordered_json, write_text
from lea_core.common.artifacts import write_csv
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.evaluation.ablation import WORDS, section
from lea_core.evaluation.comparisons import compare_users
from lea_core.evaluation.results import best_baseline, doubts, interval

COLUMNS = ("dataset", "backbone", "variant", "seed", "split", "metric", "value")


def csv_rows(found: Found) -> Iterator[dict[str, Any]]:
    """A row for each result, seed, split and metric."""
    for name, kept in found.kept.items():
        backbone = kept.result.variant.backbone if kept.result.variant else ""
        for split, scores in (("valid", kept.result.valid), ("test", kept.result.scores)):
            for metric, score in scores.items():
                if metric.startswith("MRR"):
                    continue
                for seed, value in zip(seeds_of(found.params, kept.result), score.seeds, strict=True):
                    values = (found.name, backbone, name, seed, split, metric, value)
                    yield dict(zip(COLUMNS, values, strict=True))


def markdown(all_found: Sequence[Found], published: Mapping[str, Any]) -> str:
    """The tables of benchmark.md."""
    notes = [note for found in all_found for note in found.notes]
    commits = sorted({note["where"]["commit"][:10] for note in notes})
    machines = sorted({machine(note["where"]) for note in notes})
    spent = sum(note["seconds"] * note["where"]["cores"] for note in notes) / 3600
    more = sum(found.seconds for found in all_found) / 3600
    lines = [
        "# The paper-scale benchmark",
        "",
        f"`make benchmark`; cells ran at {', '.join(commits)}; {'; '.join(machines)}; {spent:.1f} core-hours of "
        f"training and ranking, all seeds, {more:.1f} h of all else, mostly the LE.",
        "",
        "Test split. ± is the standard deviation over seeds. The difference is of NDCG@10 from the supervised twin of "
        "the same backbone without the LE, with its 95 % intervals for these seeds (bootstrap over users) and for "
        "others (users and seeds), p of a paired randomisation test over users, corrected by Holm over the data set's "
        "variants with a twin. Published rows are others' numbers on the same data, split and ranking, and not ours.",
        "",
    ]
    for found in all_found:
        lines += [f"## {found.name}", "", *introduction(found), *scores(found, published.get(found.name, {})), ""]
        cautions = doubts(found.results)
        lines += ["Read with care:", "", *(f"- {one}" for one in cautions), ""] if cautions else []
        text = section(found.parts, [], found.results[0].measured.sentence) if found.parts else ""
        lines += [text.replace("## What", "### What")] if text else []
        lines += [f"- {part}: {said(verdict)}." for part, verdict in found.beats.items()]
        lines += [""] if found.beats else []
        lines += asked(found) + for_which_events(found)
    return "\n".join(lines)


def machine(place: Mapping[str, Any]) -> str:
    """Hardware in words."""
    cores = "1 core" if place["cores"] == 1 else f"{place['cores']} cores"
    known = f"{place['processor']}, {cores}, {place['gpu'] or 'no GPU'}, torch {place['torch']}"
    return known + (f", language models in {place['number_format']}" if "number_format" in place else "")


def said(verdict: Mapping[str, Any]) -> str:
    """A verdict in words."""
    word = WORDS[verdict["beats_its_controls"]]
    size = f"{verdict['difference']:+.4f}, over users and seeds {interval(verdict, '_with_seeds')}"
    rivals = f"the best of {verdict['controls_run']} of {verdict['controls']}, {verdict['best_control']}"
    return f"{word} ({verdict['variant']} against {rivals}: {size})"


def introduction(found: Found) -> list[str]:
    """How much has run, what it is made of, and the best results."""
    lines = [f"{len(found.notes)} of {len(found.params.variants)} cells have run."]
    if words := told(found.notes):
        lines.append(f"{words[0].upper()}{words[1:]}.")
    if found.results:
        lines.append(f"Ours: {found.results[0].measured.short}.")
    if chosen := best(found):
        lines.append(f"Best on validation of {chosen['chosen_among']} with LE parts: {chosen['best_lea']}.")
        if rival := beside_baseline(found, chosen["best_lea"]):
            lines.append(
                f"Best on validation of the baselines without the LLM: {rival['name']}, NDCG@10 {rival['ndcg10']:.4f}. "
                f"{chosen['best_lea']} differs from it by {rival['difference']:+.4f} (users {interval(rival)}, users "
                f"and seeds {interval(rival, '_with_seeds')}, p {rival['p_randomisation']:.4f})."
            )
    return [part for line in lines for part in (line, "")]


def scores(found: Found, published: Mapping[str, Any]) -> list[str]:
    """The table of published rows, baselines and variants of a data set."""
    rows = [
        [name, f"{row['hr10']:.4f}", f"{row['ndcg10']:.4f}", *[""] * 5, row["source"]]
        for name, row in published.items()
    ]
    for result in sorted(found.results, key=lambda result: result.variant is not None):  # baselines first
        row = found.comparisons.get(result.name)
        kind = {"variant": "ours", "control": "ours, control", "baseline": "ours, baseline"}[result.kind]
        measured = [str(result.scores[HR]), str(result.scores[NDCG]), f"{result.valid[NDCG].mean:.4f}"]
        rows.append([result.name, *measured, *(compared(row) if row else [""] * 4), kind])
    head = "system | >HR@10 | >NDCG@10 | >valid NDCG@10 | >difference | >users | >users and seeds | >p | source"
    return table(head, rows)


def compared(row: Mapping[str, Any]) -> list[str]:
    """A difference, its two intervals and its corrected p."""
    return [f"{row['difference']:+.4f}", interval(row), interval(row, "_with_seeds"), f"{row['p_holm']:.4f}"]


def asked(found: Found) -> list[str]:
    """The comparisons that benchmark.yaml names; nothing where none has run."""
    if not found.asked:
        return []
    rows = [[row["variant"], row["other"], *compared(row)] for row in found.asked]
    return [
        "### Asked besides",
        "",
        f"NDCG@10 of one minus the other, {found.results[0].measured.short}; p corrected by Holm over these "
        f"{len(rows)}.",
        "",
        *table("one | other | >difference | >users | >users and seeds | >p", rows),
        "",
    ]


def for_which_events(found: Found) -> list[str]:
    """The best variant with signals of the LE on each kind of test events; nothing where none or too little is kept."""
    chosen, rival = best(found), best_baseline(found.results, NDCG)
    if found.events is None or chosen is None or rival is None:
        return []
    beside = [chosen["twin"], rival.name]
    names = dict.fromkeys([chosen["best_lea"], *beside, "text_knn", "le"])
    return by_events({name: found.kept[name] for name in names if name in found.kept}, found.events, beside)


def difference(known: Mapping[str, Any], argv: Sequence[str]) -> str:
    """Of two kept results of a data set, in words. Raises `LeaError` where one is not kept."""
    if len(argv) != 3 or argv[0] not in known["data"]:
        raise LeaError(f"give one of {', '.join(known['data'])} and two names of {CONFIGURATIONS.name}, or nothing")
    data, own, other = argv
    params = params_of(known, data)[1]
    kept = {name: read_kept(params, STORE / data, name) for name in (own, other)}
    if absent := [name for name, one in kept.items() if one is None]:
        raise LeaError(f"{STORE / data}: has no {absent[0]} of these parameters: run its configuration")
    found = compare_users({name: one.users for name, one in kept.items() if one}, own, other)
    row = vars(found)
    notes = [one.note for one in kept.values() if one]
    files = [key for key in differences(notes[0], notes[-1].get(MADE_OF, {})) if key.startswith("data/")]
    return (
        f"{own} - {other}: {NDCG} {found.difference:+.4f}; over users {interval(row)}, p {found.p_randomisation:.4f}; "
        f"over users and seeds {interval(row, '_with_seeds')}, p {found.p_with_seeds:.4f}; not corrected"
        + (f"; not of the same {', '.join(files)}" if files else "")
    )


def keep_all(known: Mapping[str, Any]) -> None:
    """Keep what has run here."""
    for name in known["data"]:
        params = params_of(known, name)[1]
        keep(params, FOLDER / name, STORE / name)
        keep_events(params, FOLDER / name, STORE / name)


def main(argv: list[str]) -> None:
    """Write files and picture; or, given a data set and two of its results, print how the first differs."""
    known = read_benchmark()
    if argv:
        print(difference(known, argv))
        return
    keep_all(known)
    collected = [
        collect(name, params_of(known, name)[1], STORE / name, data["pairs"]) for name, data in known["data"].items()
    ]
    if not any(found.notes for found in collected):
        print("no configuration has run yet: there is nothing to collect")
        return
    written = [row for found in collected for row in csv_rows(found)]
    write_csv(RESULTS / "benchmark.csv", written, COLUMNS)
    result = {"command": "make benchmark", "data": {found.name: summary(found) for found in collected}}
    write_ordered_json(RESULTS / "summary.json", result)
    write_text(RESULTS / "benchmark.md", markdown(collected, known["published"]))
    save(picture([found for found in collected if found.notes]), ROOT / "docs" / "benchmark.png", dpi=110)
    for found in collected:
        words = told(found.notes)
        ran = f"{len(found.notes)} of {len(found.params.variants)} configurations have run"
        print(f"{found.name}: {ran}{words and f'; {words}'}")


if __name__ == "__main__":
    run(main)
