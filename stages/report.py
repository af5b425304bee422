"""report: every variant's evaluation and training, beside its twin and the baselines -> data/report/.

In: data/evaluations/, data/policies/, data/baselines/, data/interactions/, data/value/; where a variant uses a signal
of the LE also data/le_quality/, data/item_tokens/items.parquet, the LE's curve, rewards and actions, of which
data/signals/ has the hashes; params as dvc.yaml lists them. Out: report.md and report.html (for people), verdicts.json
(what both conclude), protocol.json (how the test events were ranked: every number in the CSV files but value.csv,
costs.csv and the validation scores of curves.csv), table.csv and le.json (for `lea report`, the former also for DVC's
bar plot), headline.json (DVC metrics: one number per variant), curves.csv (DVC's line plot), comparisons.csv,
beside_baseline.csv, slices.csv, lists.csv, value.csv, costs.csv, examples.json, chart.png, parts.csv and, where there
are controls or parts alone, parts.png (ablation.py). Alone: `python -m stages.report`.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from lea_core.common.artifacts import publish_folder, read_json, write_csv, write_json
from lea_core.common.entrypoint import no_arguments, run
from lea_core.params import load

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Write the report; takes no arguments."""
    from lea_core.evaluation import ablation
    from lea_core.evaluation.comparisons import COMPARISON, gather, read_log, user_scores
    from lea_core.evaluation.results import SELECTION, le_signals, ranked_baselines, read_results
    from lea_core.evaluation.verdicts import conclude
    from lea_core.metrics.protocol import mixed
    from lea_core.report.environment_table import le_note
    from lea_core.report.html.page import page
    from lea_core.report.markdown import draw, markdown, table_rows

    no_arguments(argv)
    params = load()
    headline = params.report.metric
    signals = le_signals(params.variants)
    baselines = ranked_baselines(params.baselines.names, signals)
    if left_out := [name for name in params.baselines.names if name not in baselines]:
        print(f"Not ranked, for no variant uses the LE: {', '.join(left_out)}")
    results = read_results(DATA, params.variants, params.train.seeds, baselines)
    # What lies there of an LE that no variant uses is another report's.
    le_quality = read_json(DATA / "le_quality" / "summary.json") if signals - {"items"} else {}
    rows = table_rows(results, headline)
    by_user = user_scores(results, headline)
    log = read_log(DATA, params.finetune_le.users_share, params.finetune_le.seed, signals)
    evidence = gather(results, headline, params.evaluate.cutoffs, by_user, log)
    curves = [
        {"line": result.name, "seed": int(row["seed"]), "epoch": int(row["epoch"]), SELECTION: row[SELECTION]}
        for result in results
        for row in result.curve
    ]
    parts = ablation.rows(by_user, results, headline, evidence.comparisons)
    judged = ablation.verdicts(by_user, results, headline)
    verdicts = conclude(results, headline, evidence.comparisons, evidence.beside_baseline, parts, judged)
    measured, mix = results[0].measured, mixed(params.preprocess.repeats, params.evaluate.mask_seen)
    le_measured = le_note(read_json(DATA / "le_quality" / "quality.json"), measured.items) if le_quality else ""
    how = {**asdict(measured), "sentence": measured.sentence, "in_words": f"{measured.in_words} {mix}".rstrip()}
    scores = {result.name: result.scores[headline].mean for result in results if result.variant}
    with publish_folder(DATA / "report") as folder:
        write_csv(folder / "table.csv", rows)
        write_csv(folder / "comparisons.csv", evidence.comparisons, COMPARISON)
        write_csv(folder / "beside_baseline.csv", evidence.beside_baseline, COMPARISON)
        write_csv(folder / "slices.csv", evidence.slices)
        write_csv(folder / "lists.csv", evidence.lists)
        write_json(folder / "protocol.json", how)
        write_json(folder / "verdicts.json", verdicts)
        write_json(folder / "le.json", {"summary": le_quality, "measured": le_measured})
        text = markdown(results, headline, le_quality, le_measured, evidence, verdicts, mix)
        write_csv(folder / "parts.csv", parts, ablation.COLUMNS)
        if parts:
            ablation.draw(parts, folder / "parts.png")
            said = [verdict["in_words"] for verdict in verdicts["parts"]]
            section = ablation.section(parts, said, measured.sentence)
            text += f"\n{section}\n![What each part buys](parts.png)\n"
        (folder / "report.md").write_text(text, encoding="utf-8")
        write_json(folder / "headline.json", scores)
        write_csv(folder / "curves.csv", curves)
        draw(results, headline, folder / "chart.png")
        shutil.copyfile(DATA / "value" / "value.csv", folder / "value.csv")
        page(folder, DATA, params)


if __name__ == "__main__":
    run(main)
