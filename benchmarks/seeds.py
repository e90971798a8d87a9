"""Run a config's full cycle over several seeds and write the table of teacher against promoted model.

    python -m benchmarks.seeds --config configs/utkface.yaml --set faces.root=../shared/data --out docs/utkface.md

Runs that are finished are not run again.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs.files import read_json


def main(
    config: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option(help="A Markdown file.")],
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    control: Annotated[bool, typer.Option(help="Also train the student's network on the human labels alone.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds at a time; they share the cores.")] = 1,
) -> None:
    """Run the seeds and write the table."""
    overrides = overrides or []
    base = load_config(config, overrides=overrides)
    run_names = {seed: f"{base.run_name}-seed-{seed}" for seed in seeds.split(",")}
    environment = environment_for(jobs)

    def run(seed: str) -> None:
        set_seed = [option for override in [*overrides, f"seed={seed}"] for option in ("--set", override)]
        options = ["--config", str(config), "--run-name", run_names[seed], *set_seed]
        for module in ("flows.full_cycle", *(["benchmarks.control"] if control else [])):
            subprocess.run([sys.executable, "-m", module, *options], check=True, env=environment)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, run_names))
    summaries = [read_json(base.runs_root / run_name / "summary.json") for run_name in run_names.values()]
    controls = [
        read_json(base.runs_root / run_name / "control/test/scores.json") for run_name in run_names.values() if control
    ]
    out.write_text(_report(config, overrides, summaries, controls, jobs=jobs), encoding="utf-8")
    print(f"written to {out}")


def environment_for(jobs: int) -> dict[str, str]:
    """Share the cores out: several runs with all threads on the same cores would wait for each other."""
    threads = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // jobs, 1))} if jobs > 1 else {}
    return dict(os.environ) | threads


def _report(
    config: Path,
    overrides: list[str],
    summaries: list[dict[str, Any]],
    controls: list[dict[str, Any]],
    *,
    jobs: int,
) -> str:
    first = summaries[0]
    names = list(first["teacher"]["test"]["per_attribute"])
    # where the faces lay is of no interest to a reader, and no path of one machine belongs in the docs
    shown = " ".join(f"--set {override}" for override in overrides if not override.startswith("faces.root="))
    at_a_time = f" --jobs {jobs}" if jobs > 1 else ""
    command = f"python -m benchmarks.seeds --config {config}{at_a_time} {shown}".strip()
    beside = f", {jobs} seeds at a time, so that minutes are longer than of one alone" if jobs > 1 else ""
    counts = first["counts"]
    lines = [
        f"# {config.stem}: teacher against promoted model",
        "",
        f"Written by `{command}`. Seeds {', '.join(str(summary['seed']) for summary in summaries)}; "
        f"{os.cpu_count()} cores, {platform.machine()}, {first['device']}, torch {first['versions']['torch']}; "
        f"{counts['train']} faces to train on, {counts['validation']} for validation, {counts['test']:,} test faces, "
        f"{counts['candidates']:,} in the pool{beside}. Figures are percent on the test split, which is used once.",
        "",
        "| seed | promoted | teacher macro F1 | promoted macro F1 | difference | teacher accuracy | promoted accuracy "
        "| accepted | minutes |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rows = []
    for summary in summaries:
        teacher, promoted = summary["teacher"]["test"], summary[summary["promoted"]]["test"]
        which = "teacher" if summary["promoted"] == "teacher" else f"student {summary['student']['round']}"
        f1, accuracy = (teacher["macro_f1"], promoted["macro_f1"]), (teacher["accuracy"], promoted["accuracy"])
        rows.append((*f1, *accuracy))
        lines.append(
            f"| {summary['seed']} | {which} | {_points(f1[0])} | {_points(f1[1])} | {100 * (f1[1] - f1[0]):+.1f} "
            f"| {_points(accuracy[0])} | {_points(accuracy[1])} | {summary['counts']['accepted']:,} "
            f"| {sum(summary['seconds'].values()) / 60:.1f} |"
        )
    means = [mean(column) for column in zip(*rows, strict=True)]
    differences = [100 * (row[1] - row[0]) for row in rows]
    lines.append(
        f"| mean | | {_points(means[0])} | {_points(means[1])} | **{mean(differences):+.1f}** "
        f"| {_points(means[2])} | {_points(means[3])} | | |"
    )
    spread = f" (standard deviation {stdev(differences):.1f} over seeds)" if len(differences) > 1 else ""
    lines += ["", f"Mean difference {mean(differences):+.1f} points of macro F1{spread}.", "", "## Per attribute", ""]
    lines += ["| attribute | teacher macro F1 | promoted macro F1 | difference |", "|---|---:|---:|---:|"]
    for name in names:
        one = mean(summary["teacher"]["test"]["per_attribute"][name]["macro_f1"] for summary in summaries)
        two = mean(summary[summary["promoted"]]["test"]["per_attribute"][name]["macro_f1"] for summary in summaries)
        lines.append(f"| {name} | {_points(one)} | {_points(two)} | {100 * (two - one):+.1f} |")
    return "\n".join([*lines, "", *_control(summaries, controls), *_per_class(summaries), *_purity(summaries)]) + "\n"


def _control(summaries: list[dict[str, Any]], controls: list[dict[str, Any]]) -> list[str]:
    if not controls:
        return []
    teachers = [summary["teacher"]["test"] for summary in summaries]
    promoted = [summary[summary["promoted"]]["test"] for summary in summaries]
    lines = [
        "## What the pool adds",
        "",
        "A student differs from its teacher in more than the pool: its network is wider and its training has other "
        "settings. The control has that network, those settings and as many steps, and learns from the human labels "
        "alone. The difference between promoted and control is what the pool's pseudo-labels add. Means over the "
        "seeds; in brackets, seed by seed.",
        "",
        "| | teacher | control | promoted | promoted − control |",
        "|---|---:|---:|---:|---:|",
    ]

    def line(what: str, score: Callable[[dict[str, Any]], float]) -> str:
        columns = [[100 * score(scores) for scores in models] for models in (teachers, controls, promoted)]
        differences = [one - other for one, other in zip(columns[2], columns[1], strict=True)]
        each = ", ".join(f"{difference:+.1f}" for difference in differences)
        cells = " | ".join(f"{mean(column):.1f}" for column in columns)
        return f"| {what} | {cells} | {mean(differences):+.1f} ({each}) |"

    for metric in ("macro_f1", "accuracy"):
        shown = metric.replace("macro_f1", "macro F1")
        lines.append(line(f"joint {shown}", itemgetter(metric)))
        for name in teachers[0]["per_attribute"]:
            lines.append(line(f"{name} {shown}", partial(_of_attribute, name, metric)))
    return [*lines, ""]


def _of_attribute(name: str, metric: str, scores: dict[str, Any]) -> float:
    return float(scores["per_attribute"][name][metric])


def _per_class(summaries: list[dict[str, Any]]) -> list[str]:
    lines = ["## Per class", "", "| class | test faces a seed | teacher F1 | promoted F1 |", "|---|---:|---:|---:|"]
    for name in summaries[0]["teacher"]["test"]["per_class"]:
        faces = mean(summary["teacher"]["test"]["per_class"][name]["num_faces"] for summary in summaries)
        one = mean(summary["teacher"]["test"]["per_class"][name]["f1"] for summary in summaries)
        two = mean(summary[summary["promoted"]]["test"]["per_class"][name]["f1"] for summary in summaries)
        lines.append(f"| {name} | {faces:.0f} | {_points(one)} | {_points(two)} |")
    return [*lines, ""]


def _purity(summaries: list[dict[str, Any]]) -> list[str]:
    if not all(summary["precision"] for summary in summaries):
        return []
    lines = [
        "## Precision of the accepted pseudo-labels",
        "",
        "Known only because the pool's labels were hidden, not absent. In the round whose student is reported.",
        "",
        "| seed | what | accepted | right |",
        "|---|---|---:|---:|",
    ]
    for summary in summaries:
        for what, values in summary["precision"].items():
            right = "–" if values["precision"] is None else f"{_points(values['precision'])} %"
            lines.append(f"| {summary['seed']} | {what} | {values['num']:,} | {right} |")
    return lines


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


if __name__ == "__main__":
    typer.run(main)
