"""A config's teachers, each alone and together, with the config's settings and with others, over seeds.

python -m benchmarks.teachers --config configs/utkface.yaml --set faces.root=../shared/data --variant "middle|teacher.1.center_crop=0.75"

The pool trains no teacher: `--set faces.unlabeled.sources.0.limit=100` saves the features of its faces.
"""

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Annotated, Literal

import typer

from benchmarks import tables
from benchmarks.docs.marked_sections import replace_section
from benchmarks.pool_report import attribute_mean
from benchmarks.runner import (
    ConfigPath,
    Jobs,
    Measurement,
    Out,
    Overrides,
    Seeds,
    folder_name,
    member_directories,
    run_command,
)
from benchmarks.tables import Json
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.metrics import drop_tables
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.teachers import train_teacher

SPLITS: tuple[Literal["validation", "test"], ...] = ("validation", "test")


def main(
    config: ConfigPath,
    variants: Annotated[list[str], typer.Option("--variant", help="NAME|key=value|…; may be repeated.")],
    out: Out = Path("docs/teachers.md"),
    mark: Annotated[str, typer.Option(help="Name of the marked section to replace.")] = "variants",
    seeds: Seeds = "0,1,2",
    overrides: Overrides = None,
    jobs: Jobs = 1,
) -> None:
    """Train the teachers of every variant and seed, and write the table."""
    options = "".join(f" --variant {shlex.quote(variant)}" for variant in variants)
    measurement = Measurement.from_options("teachers", config, seeds, overrides, jobs, options=options)
    settings: dict[str, list[str]] = {"as in the config": []} | {
        name: parts for name, *parts in (text.split("|") for text in variants)
    }
    results = measurement.run(partial(measure_seed, settings=settings))
    replace_section(out, mark, report(results, list(settings), provenance=measurement.provenance()))
    print(f"written to {out}")


def measure_seed(measurement: Measurement, seed: int, *, settings: Mapping[str, list[str]]) -> dict[str, Json]:
    """Return, per variant and model (`together`: the vote of several), the scores on validation and test."""
    return {
        name: _measure(measurement.config("shift=null", *own, f"seed={seed}"), name) for name, own in settings.items()
    }


def _measure(config: RunConfig, variant: str) -> Json:
    run = RunDir(config.runs_root / f"{config.run_name}-teachers-{config.seed}" / folder_name(variant))
    prepare(config, run)
    train_teacher(config, run)
    models = member_directories(config, run)
    if len(models) != 1:
        models["together" if models else "network"] = run.teacher
    return {
        model: {split: drop_tables(evaluate(config, run, directory, split).scores) for split in SPLITS}
        for model, directory in models.items()
    }


def report(results: Sequence[Mapping[str, Json]], variants: Sequence[str], *, provenance: str) -> str:
    """Lay out the scores, per seed one result of `measure_seed`, as Markdown."""
    models = list(results[0][variants[0]])
    attributes = list(results[0][variants[0]][models[0]]["test"]["per_attribute"])
    rows = []
    for variant in variants:
        for model in models:
            own = {split: [of_seed[variant][model][split] for of_seed in results] for split in SPLITS}
            cells = [tables.mean_percent(own["test"], "macro_f1"), tables.mean_percent(own["test"], "accuracy")]
            cells += [tables.mean_percent(own["test"], "per_attribute", name, "accuracy") for name in attributes]
            means = {split: [attribute_mean(one) for one in own[split]] for split in SPLITS}
            by_seed = ", ".join(f"{value:.1f}" for value in means["test"])
            cells += [f"{mean(means['test']):.1f} ({by_seed})", f"{mean(means['validation']):.1f}"]
            rows.append([variant, model, *cells])
    header = ["", "model", "macro F1", "accuracy", *(f"{name} accuracy" for name in attributes)]
    header += ["mean of the attributes", "the same on validation"]
    note = "Percent on the test split, mean over the seeds; in brackets, seed by seed."
    return "\n".join(
        [f"{provenance}. {note}", "", *tables.markdown_table(header, "ll" + "r" * (len(attributes) + 4), rows)]
    )


if __name__ == "__main__":
    run_command(main)
