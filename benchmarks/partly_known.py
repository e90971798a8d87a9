"""What does it help to know something of the pool? A config's full cycle with and without it, over several seeds.

    python -m benchmarks.partly_known --config configs/masked-utkface.yaml --out docs/masked-utkface.md

Runs that are finished are not run again.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from benchmarks.seeds import environment_for
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs.files import read_json

VARIANTS: dict[str, list[str]] = {"partly known": [], "nothing known": ["faces.unlabeled.hide_labels=true"]}
"""What is known of the pool, and what makes it so: as the config says, or all of it hidden."""
Scores = dict[str, Any]


def main(
    config: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option(help="A Markdown file.")],
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; they share the cores.")] = 1,
) -> None:
    """Run every seed with and without what is known, and write the tables."""
    base = load_config(config, overrides=overrides or [])
    environment = environment_for(jobs)

    def run(variant: str, seed: str) -> dict[str, Any]:
        run_name = f"{base.run_name}-{variant.replace(' ', '-')}-seed-{seed}"
        settings = [*(overrides or []), *VARIANTS[variant], f"seed={seed}"]
        options = ["--config", str(config), "--run-name", run_name, *(o for s in settings for o in ("--set", s))]
        subprocess.run([sys.executable, "-m", "flows.full_cycle", *options], check=True, env=environment)
        return read_json(base.runs_root / run_name / "summary.json")

    subprocess.run([sys.executable, "-m", "flows.build_masked_faces", "--config", str(config)], check=True)
    wanted = [(variant, seed) for seed in seeds.split(",") for variant in VARIANTS]
    with ThreadPoolExecutor(jobs) as pool:
        summaries = list(pool.map(lambda one: run(*one), wanted))
    of_variant = {
        variant: [summary for (own, _), summary in zip(wanted, summaries, strict=True) if own == variant]
        for variant in VARIANTS
    }
    out.write_text(_report(config, of_variant, jobs=jobs), encoding="utf-8")
    print(f"written to {out}")


def _report(config: Path, of_variant: dict[str, list[dict[str, Any]]], *, jobs: int) -> str:
    known, hidden = of_variant["partly known"], of_variant["nothing known"]
    models = {
        "teacher": [summary["teacher"]["test"] for summary in known],
        "student, nothing known": [summary["student"]["test"] for summary in hidden],
        "student, partly known": [summary["student"]["test"] for summary in known],
    }
    counts, first = known[0]["counts"], known[0]
    lines = [
        f"# {config.stem}: what knowing something of the pool helps",
        "",
        f"Written by `python -m benchmarks.partly_known --config {config}{f' --jobs {jobs}' if jobs > 1 else ''}`. Seeds "
        f"{', '.join(str(summary['seed']) for summary in known)}; {os.cpu_count()} cores, {platform.machine()}, "
        f"{first['device']}, torch {first['versions']['torch']}; {counts['train']:,} pictures to train on, "
        f"{counts['validation']:,} for validation, {counts['test']:,} to test on, {counts['candidates']:,} in the pool. "
        "*Nothing known* is the same pool with all its labels hidden. Students are judged whether or not the gate "
        "promoted them. Figures are percent on the test split, mean over the seeds, seed by seed in brackets; the test "
        "split is used once a run.",
        "",
        f"| | {' | '.join(models)} | partly known less teacher | partly known less nothing known |",
        f"|---|{'---:|' * (len(models) + 2)}",
        _line("joint macro F1", models, lambda scores: scores["macro_f1"]),
        _line("joint accuracy", models, lambda scores: scores["accuracy"]),
    ]
    for name in models["teacher"][0]["per_attribute"]:
        lines.append(_line(f"{name} macro F1", models, partial(_macro_f1, "per_attribute", name)))
    for origin in models["teacher"][0]["per_group"]["origin"]:
        faces = models["teacher"][0]["per_group"]["origin"][origin]["num_faces"]
        what = f"origin {origin} ({faces:,} pictures): joint macro F1"
        lines.append(_line(what, models, partial(_of_origin, origin)))
    lines += [
        "",
        "| seed | pool | accepted | precision of accepted guesses | promoted | minutes |",
        "|---|---|---:|---|---|---:|",
    ]
    for variant, summaries in of_variant.items():
        for summary in summaries:
            precision = ", ".join(
                f"{name} {100 * of['precision']:.1f} of {of['num']:,}"
                for name, of in summary["precision"].items()
                if of["precision"] is not None
            )
            minutes = sum(summary["seconds"].values()) / 60
            lines.append(
                f"| {summary['seed']} | {variant} | {summary['counts']['accepted']:,} | {precision} "
                f"| {summary['promoted']} | {minutes:.1f} |"
            )
    return "\n".join(lines) + "\n"


def _macro_f1(section: str, name: str, scores: Scores) -> float:
    return float(scores[section][name]["macro_f1"])


def _of_origin(origin: str, scores: Scores) -> float:
    return _macro_f1("origin", origin, scores["per_group"])


def _line(what: str, models: dict[str, list[Scores]], score: Callable[[Scores], float]) -> str:
    columns = {name: [100 * score(scores) for scores in of_seeds] for name, of_seeds in models.items()}
    cells = [f"{mean(values):.1f}" for values in columns.values()]
    for other in ("teacher", "student, nothing known"):
        differences = [a - b for a, b in zip(columns["student, partly known"], columns[other], strict=True)]
        each = ", ".join(f"{difference:+.1f}" for difference in differences)
        spread = f" ± {stdev(differences):.1f}" if len(differences) > 1 else ""
        cells.append(f"{mean(differences):+.1f}{spread} ({each})")
    return f"| {what} | {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
