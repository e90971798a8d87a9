"""Selection strategies compared: per strategy one student, from the same teachers' predictions, over several seeds.

python -m benchmarks.strategies --config configs/utkface.yaml --set faces.root=../shared/data --mark all

Faces, teachers and predictions are made once per seed; the run of each strategy begins with links to them. Every student
has the config's network and settings, and the same number of steps. Finished work is not repeated; other settings need
another runs_root.
"""

import math
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from benchmarks.docs.marked_sections import replace_section
from benchmarks.runner import ConfigPath, Jobs, Measurement, Out, Overrides, Seeds, run_command, stored_result
from benchmarks.strategies_report import ALL_TRUE, BASE, report
from benchmarks.tables import Json
from ssl_pipeline.config.loading import dump_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.evaluation.metrics import drop_tables
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.inference.voting import SoftVote
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.pseudo_labels.merging import human_table, write_training_table
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.evaluate import evaluate, evaluate_split
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import Training, train_model, train_student

MIN_SHARE_RATIO = 0.2
"""A value is starved if its share of the accepted labels is below this fraction of its share of the training faces."""
STRATEGIES: dict[str, list[str]] = {
    "human labels alone": ["selection={type: fixed_threshold, confidence_threshold: 1.0}"],
    "everything, soft": ["selection={type: fixed_threshold, confidence_threshold: 0.01}"],
    "everything, soft, a quarter of the draws human": [
        "selection={type: fixed_threshold, confidence_threshold: 0.01}",
        "student.training.labeled_fraction=0.25",
    ],
    "fixed threshold 0.8": ["selection={type: fixed_threshold, confidence_threshold: 0.8}"],
    "balanced top-k, 1,500 of each value": ["selection={type: balanced_top_k, k: 1500}"],
    "percentile curriculum, the surest 40 %": ["selection={type: percentile_curriculum, step_percent: 40}"],
    "self-adaptive": ["selection={type: self_adaptive}"],
    "Gaussian weights": ["selection={type: gaussian_weights}"],
    "agreement, 0.7, deviation 0.1": [
        "selection={type: ensemble_agreement, confidence_threshold: 0.7, max_deviation: 0.1}",
    ],
    "everything, aligned to training": [
        "selection={type: fixed_threshold, confidence_threshold: 0.01, align: training}",
    ],
    "guaranteed precision 0.8": ["selection={type: precision_guarantee, target: 0.8}"],
    "consistency training 0.8": [
        "selection={type: fixed_threshold, confidence_threshold: 1.0}",
        "student.training.fixmatch={confidence_threshold: 0.8}",
        "student.training.batch_size=64",
    ],
}
"""Per row of the table: its settings."""
_SHARED = ("faces", "round-00", "round-01/pseudo_labels/predictions", "round-01/pseudo_labels/held_out")


def main(
    config: ConfigPath,
    out: Out = Path("docs/strategies.md"),
    mark: Annotated[str, typer.Option(help="Name of the marked section to replace.")] = "all",
    seeds: Seeds = "0,1,2",
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of every student.")] = 500,
    jobs: Jobs = 1,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; may be repeated.")] = None,
) -> None:
    """Train one student per strategy and seed, and write the table."""
    if unknown := [row for row in rows or [] if row not in STRATEGIES]:
        raise ConfigError(f"--row {unknown[0]!r}: no such row; expected one of {', '.join(map(repr, STRATEGIES))}")
    options = f" --steps {steps}" + "".join(f" --row '{row}'" for row in rows or [])
    measurement = Measurement.from_options("strategies", config, seeds, overrides, jobs, options=options)
    results = measurement.run(partial(measure_seed, rows=rows or list(STRATEGIES), steps=steps))
    by_row = {row: [of_seed[row] for of_seed in results] for row in results[0]}
    replace_section(out, mark, report(by_row, provenance=measurement.provenance()))
    print(f"written to {out}")


def measure_seed(measurement: Measurement, seed: int, *, rows: list[str], steps: int) -> dict[str, Json]:
    """Return the result of each row, the base and the student of all true labels included."""
    results = {}
    for row in (BASE, *rows, ALL_TRUE):
        # A row's selection replaces the whole section, so the guards are set after it.
        settings = ["shift=null", *STRATEGIES.get(row, []), "selection.guards.on_fault=warn"]
        config = measurement.config(*settings, f"seed={seed}")
        path = run_of(config, row).root / "result.json"
        work = partial(_measure_row, config, row, steps)
        results[row] = stored_result(path, {"config": dump_config(config), "steps": steps}, work)
    return results


def run_of(config: RunConfig, row: str) -> RunDir:
    """Return the run directory of a row; the seed is the config's."""
    name = "".join(letter if letter.isalnum() else "-" for letter in row)
    return RunDir(config.runs_root / f"{config.run_name}-strategies-{config.seed}" / name)


def _measure_row(config: RunConfig, row: str, steps: int) -> Json:
    run = run_of(config, row)
    if row == BASE:
        return _measure_base(config, run)
    for shared in _SHARED:
        if not (run.root / shared).exists():
            shutil.copytree(run_of(config, BASE).root / shared, run.root / shared, copy_function=os.link)
    return _measure_all_true(config, run, steps) if row == ALL_TRUE else _measure_strategy(config, run, steps)


def _measure_base(config: RunConfig, run: RunDir) -> Json:
    """Prepare, train the teacher and the fold teachers, predict; evaluate the teacher and the fold teachers' vote."""
    prepare(config, run)
    calibration, vote_scores = train_teacher(config, run).calibration, None
    folds = train_fold_teachers(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    if folds is not None:
        checkpoints = sorted(run.out_of_fold.glob("fold-*.safetensors"))
        vote = SoftVote.load(checkpoints, config.prediction, device=config.device)
        calibration, vote_scores = folds.calibration, drop_tables(evaluate_split(vote, config, run, "test").scores)
    return {
        "test": evaluate(config, run, run.teacher, "test").scores,
        "together": vote_scores,
        "calibration": calibration,
        "counts": StageRecord.read(run.faces).result,
    }


def _measure_strategy(config: RunConfig, run: RunDir, steps: int) -> Json:
    selection = select(config, run, 1)
    manifest = read_manifest(run.pseudo_labels(1) / "manifest.parquet")
    train = read_faces(run.faces / "labeled.parquet").query("split == 'train'")
    num_faces = len(train)
    if config.student.training.fixmatch is None:
        num_faces += int(manifest.known_or_accepted.any(axis=1).sum())
    student = train_student(_with_steps(config, num_faces, steps), run, 1)
    num_accepted = manifest.accepted.sum(axis=0).tolist()
    return {
        "counts": selection.counts,
        "labels": dict(zip(manifest.labels.names, num_accepted, strict=True)),
        "precision": selection.precision,
        "starved": _starved_values(manifest, train),
        "test": evaluate(config, run, run.student(1), "test").scores,
        "seconds": student.seconds,
    }


def _measure_all_true(config: RunConfig, run: RunDir, steps: int) -> Json:
    """Train the same student on the true labels of the whole pool: an upper limit for better pseudo-labels."""
    labels, directory = config.labels.space, run.root / "student"
    train = read_faces(run.faces / "labeled.parquet").query("split == 'train'")
    pool = read_faces(run.faces / "unlabeled.parquet")
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet").set_index("image_id")
    for name in labels.names:
        pool[name] = truth[name].reindex(pool["image_id"]).to_numpy()
    faces = pd.concat([train, pool.astype({name: train[name].dtype for name in labels.names})], ignore_index=True)

    def training_table() -> Path:
        write_training_table(directory / "training.parquet", human_table(faces, labels=labels))
        return directory / "training.parquet"

    config = _with_steps(config, len(faces), steps)
    training = Training("student of all true labels", directory, seed=config.seed * 1000 + 1)
    student = train_model(config, config.student, run, training, training_table)
    return {"test": evaluate(config, run, directory, "test").scores, "seconds": student.seconds}


def _with_steps(config: RunConfig, num_faces: int, steps: int) -> RunConfig:
    """Set the student's epochs to come nearest to a number of steps, a tenth of them as warm-up."""
    training = config.student.training
    epochs = max(round(steps / math.ceil(num_faces / training.batch_size)), 1)
    scheduler = training.scheduler.model_copy(update={"warmup_epochs": min(max(round(epochs / 10), 1), epochs - 1)})
    training = training.model_copy(update={"epochs": epochs, "scheduler": scheduler})
    return config.model_copy(update={"student": config.student.model_copy(update={"training": training})})


def _starved_values(manifest: Manifest, train: pd.DataFrame) -> list[str]:
    """List the values with too few accepted labels, see `MIN_SHARE_RATIO`."""
    starved: list[str] = []
    for position, attribute in enumerate(manifest.labels.attributes):
        codes = manifest.codes[manifest.accepted[:, position], position]
        shares = np.bincount(codes, minlength=len(attribute.values)) / max(len(codes), 1)
        training_shares = train[attribute.name].value_counts(normalize=True).reindex(attribute.values, fill_value=0)
        starved += np.array(attribute.values)[shares < MIN_SHARE_RATIO * training_shares.to_numpy()].tolist()
    return starved


if __name__ == "__main__":
    run_command(main)
