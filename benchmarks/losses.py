"""Train a config's teacher with each loss over several seeds and write the table by which to choose one.

python -m benchmarks.losses --config configs/utkface.yaml --set faces.root=../shared/data --out docs/losses.md

Trainings that are finished are not run again.
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.learning.dataset import TrainingFaces
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of, read_json
from ssl_pipeline.runs.records import faces_digest
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.prepare import prepare

CROSS_ENTROPY: dict[str, Any] = {"type": "cross_entropy"}
FOCAL: dict[str, Any] = {"type": "focal", "gamma": 2.0}
MIXTURE = {"type": "mixture", "terms": [{"weight": 0.4, "loss": {"type": "f1"}}, {"weight": 0.6, "loss": FOCAL}]}
ROWS: dict[str, tuple[dict[str, Any], bool]] = {
    "cross-entropy": (CROSS_ENTROPY, True),
    "cross-entropy, label smoothing 0.1": (CROSS_ENTROPY | {"label_smoothing": 0.1}, True),
    "focal, γ = 2": (FOCAL, True),
    "F1": ({"type": "f1"}, True),
    "0.4 · F1 + 0.6 · focal": (MIXTURE, True),
    "cross-entropy, no balance": (CROSS_ENTROPY, False),
    "cross-entropy, balanced class weights": (CROSS_ENTROPY | {"class_weights": "balanced"}, False),
}
"""What a row is called: its loss, and whether an epoch draws the classes equally often."""
METRICS = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "expected_calibration_error": "ECE",
    "log_loss": "log loss, nats",
}
BASE = next(iter(ROWS))


def main(
    config: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option(help="A Markdown file.")],
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Train, judge on the test split, and write the table."""
    table: dict[str, list[dict[str, Any]]] = {name: [] for name in ROWS}
    counts: dict[str, int] = {}
    for seed in seeds.split(","):
        loaded = load_config(config, overrides=[*(overrides or []), f"seed={seed}"])
        run = RunDir(loaded.runs_root / f"{loaded.run_name}-losses-seed-{seed}")
        counts = dict(prepare(loaded, run).counts["labeled"])
        for name in ROWS:
            scores = train_and_judge(loaded, run, name)
            table[name].append(scores)
            print(f"seed {seed}, {name}: macro F1 {scores['macro_f1']:.3f}", flush=True)
    out.write_text(_report(config, seeds.split(","), counts, table), encoding="utf-8")
    print(f"written to {out}")


def train_and_judge(config: RunConfig, run: RunDir, name: str) -> dict[str, Any]:
    """Train the teacher with the loss of a row and give its scores on the test split, which choose nothing here."""
    loss, class_balanced = ROWS[name]
    role = config.teacher.model_dump(mode="json")
    role["training"] |= {"loss": loss, "class_balanced": class_balanced}
    directory = run.root / f"losses/{digest_of(role)[:12]}"
    faces = TrainingFaces.from_directory(run.faces, labels=config.labels)
    fit(
        RoleConfig.model_validate(role),
        faces,
        directory=directory,
        seed=config.seed,
        device=config.device,
        inputs=faces_digest(run),
        name=name,
    )
    evaluate(config, run, directory, "test")
    return read_json(directory / "test" / "scores.json")


def _report(config: Path, seeds: list[str], counts: dict[str, int], table: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        f"# {config.stem}: one teacher, each loss",
        "",
        f"Written by `python -m benchmarks.losses --config {config}`: the config's teacher, its loss and balance apart. "
        f"Seeds {', '.join(seeds)}; {os.cpu_count()} cores, {platform.machine()}, torch {version('torch')}; "
        f"{counts['train']} faces to train on, {counts['validation']} to choose the epoch by (its best macro F1), "
        f"{counts['test']:,} test faces a seed. Joint classes, percent, mean over the seeds ± standard deviation. ECE is "
        "the expected calibration error in 15 bins; the lower the better, as the log loss.",
        "",
        f"| loss | {' | '.join(METRICS.values())} | macro F1 less that of {BASE}, seed by seed |",
        f"|---|{'---:|' * (len(METRICS) + 1)}",
    ]
    for name, scores in table.items():
        cells = [_cell([one[metric] for one in scores], percent=metric != "log_loss") for metric in METRICS]
        differences = [
            100 * (one["macro_f1"] - base["macro_f1"]) for one, base in zip(scores, table[BASE], strict=True)
        ]
        each = "" if name == BASE else ", ".join(f"{difference:+.1f}" for difference in differences)
        lines.append(f"| {name} | {' | '.join(cells)} | {each} |")
    lines += [
        "",
        "The rows before *no balance* draw every class equally often (`class_balanced: true`); the last two draw every "
        "face equally often, once without any balance and once with balance in the loss.",
        "",
        *_per_class(table),
    ]
    return "\n".join(lines) + "\n"


def _per_class(table: dict[str, list[dict[str, Any]]]) -> list[str]:
    classes = list(table[BASE][0]["per_class"])
    lines = ["## F1 per class", "", f"| loss | {' | '.join(classes)} |", f"|---|{'---:|' * len(classes)}"]
    for name, scores in table.items():
        cells = [f"{100 * mean(one['per_class'][own]['f1'] for one in scores):.1f}" for own in classes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(values: list[float], *, percent: bool) -> str:
    values = [100 * value for value in values] if percent else values
    digits = 1 if percent else 2
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    typer.run(main)
