"""What the pool brings: students that learn from it in several ways, beside their control and their ceiling, over seeds.

python -m benchmarks.pool --config configs/utkface.yaml --set faces.root=../shared/data --mark recipes

Faces, teachers and predictions are made once per seed; the run of each row begins with links to them. Every student has the
config's network, start, steps, schedule, labeled draws and averaging. Each result is written to `--results` as it comes, and is
not measured again, here or on another machine; other settings need another folder. `--partial` writes the table from what is
there.
"""

import os
import shlex
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.docs.marked_sections import replace_section
from benchmarks.pool_report import CEILING, CONTROL, report
from benchmarks.runner import (
    ConfigPath,
    Jobs,
    Measurement,
    Out,
    Overrides,
    Seeds,
    folder_name,
    member_directories,
    portable_settings,
    run_command,
    stored_result,
)
from benchmarks.tables import Json
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.evaluation.metrics import drop_tables
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.fit import TRAINED
from ssl_pipeline.pseudo_labels.merging import human_table, write_training_table
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.draws import weigh_draws
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import TrainedModel, Training, teacher_weights, train_control, train_model, train_student

BASE, RECIPE = "teachers together", "recipe"
_ALL = "selection={type: fixed_threshold, confidence_threshold: 0.01, targets: soft}"
_THRESHOLD = "selection={type: fixed_threshold, confidence_threshold: 0.8, targets: hard}"
_FIXED = [  # pseudo-labels of the manifest: the same number of faces in a step, a quarter of them labeled
    "student.training.fixmatch=null",
    "student.training.batch_size=64",
    "student.training.labeled_fraction=0.25",
]
_AGREEMENT = (
    "student.training.fixmatch={faces_per_labeled: 3, targets: soft, confidence_threshold: {gender: 0.9, age: 0.8}"
)
_DISTILLATION = (
    "student.training.fixmatch={teacher_share: 1.0, faces_per_labeled: 3, targets: soft, confidence_threshold: 0.0}"
)
EQUALLY = "student.draws=null"
RESULTS = Path("benchmarks/results")
ROWS: dict[str, list[str]] = {
    CONTROL: [],
    "soft labels of one teacher": [_ALL, _DISTILLATION, EQUALLY],
    "soft labels of the teachers together": [_ALL, _DISTILLATION, EQUALLY],
    "threshold 0.8": [_THRESHOLD, *_FIXED, EQUALLY],
    "guaranteed precision 0.8": [
        "selection={type: precision_guarantee, target: 0.8}",
        "out_of_fold={num_folds: 5}",
        *_FIXED,
        EQUALLY,
    ],
    "agreement": [_ALL, f"{_AGREEMENT}, align: {{exponent: 0.5}}}}", EQUALLY],
    "agreement after soft labels": [_ALL, f"{_AGREEMENT}, align: {{exponent: 0.5}}}}", EQUALLY],
    RECIPE: [],
    CEILING: [],
}
"""Per row of the table: its settings, over the config's, which are the recipe's."""
_AFTER = {"agreement after soft labels": "soft labels of the teachers together"}
"""Rows whose student starts from another row's."""
_OTHER_LABELERS = ("soft labels of one teacher", "guaranteed precision 0.8")
"""Rows whose pool is not labeled by the teachers together: by the one that the student starts from, or by fold teachers."""
_SHARED = ("faces", "features", "round-00", "round-01/pseudo_labels/predictions", "round-01/pseudo_labels/held_out")


def main(
    config: ConfigPath,
    out: Out = Path("docs/pool.md"),
    mark: Annotated[str, typer.Option(help="Name of the marked section to replace.")] = "recipes",
    seeds: Seeds = "2,3,4,5,6,7",
    overrides: Overrides = None,
    jobs: Jobs = 1,
    results_folder: Annotated[Path, typer.Option("--results", help="A folder for the results.")] = RESULTS,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; may be repeated.")] = None,
    partial_table: Annotated[bool, typer.Option("--partial", help="Train nothing; use what is there.")] = False,
) -> None:
    """Train one student per row and seed, and write the table."""
    if unknown := [row for row in rows or [] if row not in ROWS]:
        raise ConfigError(f"--row {unknown[0]!r}: no such row; expected one of {', '.join(map(repr, ROWS))}")
    options = "".join(f" --row {shlex.quote(row)}" for row in rows or [])
    measurement = Measurement.from_options("pool", config, seeds, overrides, jobs, options=options)
    measure = partial(measure_seed, folder=results_folder, rows=rows or list(ROWS), stored_only=partial_table)
    of_seeds = zip(measurement.seeds, measurement.run(measure), strict=True)
    results = {seed: of_seed for seed, of_seed in of_seeds if BASE in of_seed}
    if not results:
        raise ConfigError(f"--results {results_folder}: no result of these seeds; measure first, without --partial")
    replace_section(out, mark, report(results, rows=[BASE, *(rows or ROWS)], provenance=measurement.provenance()))
    print(f"written to {out}")


def measure_seed(
    measurement: Measurement, seed: int, *, folder: Path, rows: list[str], stored_only: bool = False
) -> dict[str, Json]:
    """Return the result of the teachers and of each row."""
    configs = {
        row: measurement.config("shift=null", *ROWS.get(row, []), "selection.guards.on_fault=warn", f"seed={seed}")
        for row in (BASE, *rows, *map(_AFTER.get, rows))
        if row is not None
    }
    results = {}
    for row in (BASE, *rows):
        config = configs[row]
        path = folder / config.run_name / f"seed-{seed}" / f"{folder_name(row)}.json"
        if stored_only and not path.is_file():
            continue
        results[row] = stored_result(path, portable_settings(config), partial(_timed_row, configs, row))
        print(f"seed {seed}, {row}: accuracy {100 * results[row]['test']['accuracy']:.1f} %", flush=True)
    return results


def run_of(config: RunConfig, row: str) -> RunDir:
    """Return the run directory of a row; the seed is the config's."""
    return RunDir(config.runs_root / f"{config.run_name}-pool-{config.seed}" / folder_name(row))


def _timed_row(configs: Mapping[str, RunConfig], row: str) -> Json:
    """Measure a row and add its processor seconds, which other work on the machine hardly changes; none if it was resumed."""
    whole = not run_of(configs[row], row).root.exists()
    started = time.process_time()
    result = _measure_row(configs, row)
    return result | {"processor_seconds": time.process_time() - started if whole else None}


def _measure_row(configs: Mapping[str, RunConfig], row: str) -> Json:
    config = configs[row]
    run = run_of(config, row)
    if row == BASE:
        return _measure_teachers(config, run)
    _teach(configs[BASE], run_of(config, BASE))  # again, where their result came from another machine
    for shared in _SHARED if row != CEILING else _SHARED[1:]:
        source = run_of(config, BASE).root / shared
        if source.exists() and not (run.root / shared).exists():
            shutil.copytree(source, run.root / shared, copy_function=os.link)
    if row == CEILING:
        return _measure_ceiling(config, run)
    if row in _OTHER_LABELERS:
        shutil.rmtree(run.pseudo_labels(1), ignore_errors=True)
        train_fold_teachers(config, run)
        teacher = teacher_weights(config, run, 1).parent if config.out_of_fold is None else run.teacher
        predict(config, run, 1, teacher / "best.safetensors")
    selection = select(config, run, 1)
    if (before := _AFTER.get(row)) is not None:
        start = run_of(config, before).student(1) / TRAINED
        if not start.is_file():
            _measure_row(configs, before)
        student = _train(config, run, start)
    else:
        student = (train_control if row == CONTROL else train_student)(config, run, 1)
    return _result(config, run, student) | {"counts": selection.counts, "precision": selection.precision}


def _measure_teachers(config: RunConfig, run: RunDir) -> Json:
    """Evaluate the teachers together and each on the test split."""
    teacher = _teach(config, run)
    members = member_directories(config, run)
    return _result(config, run, teacher) | {
        "seconds": teacher.seconds + sum(StageRecord.read(path).seconds for path in members.values()),
        "members": {name: _test_scores(config, run, path) for name, path in members.items()},
        "counts": StageRecord.read(run.faces).result,
    }


def _teach(config: RunConfig, run: RunDir) -> TrainedModel:
    """Prepare, train the teachers and predict, unless it is done."""
    prepare(config, run)
    teacher = train_teacher(config, run)
    predict(config, run, 1, teacher.checkpoint)
    return teacher


def _measure_ceiling(config: RunConfig, run: RunDir) -> Json:
    """Train the same student with the true labels of the whole pool, as known values in the pool's term."""
    unlabeled = config.faces.unlabeled.model_copy(update={"hide_labels": False})
    config = config.model_copy(update={"faces": config.faces.model_copy(update={"unlabeled": unlabeled})})
    prepare(config, run)
    return _result(config, run, _train(config, run, teacher_weights(config, run, 1)))


def _train(config: RunConfig, run: RunDir, start: Path) -> TrainedModel:
    """Train the student from another model's weights, without the manifest's pseudo-labels."""
    labeled = read_faces(run.faces / "labeled.parquet")
    table = run.student(1) / "training.parquet"

    def training_table() -> Path:
        write_training_table(table, human_table(labeled[labeled["split"] == "train"], labels=config.labels.space))
        return table

    draws, seed = weigh_draws(config, run, 1), config.seed * 1000 + 1  # the seed of every row's student
    training = Training("student", run.student(1), seed=seed, start=start, draws=draws)
    fixmatch = config.student.training.fixmatch
    assert fixmatch is not None
    own = config.student.training.model_copy(update={"fixmatch": fixmatch.model_copy(update={"teacher_share": 0.0})})
    role = config.student.model_copy(update={"training": own})
    return train_model(config, role, run, training, training_table)


def _result(config: RunConfig, run: RunDir, model: TrainedModel) -> Json:
    return {"test": _test_scores(config, run, model.directory), "seconds": model.seconds}


def _test_scores(config: RunConfig, run: RunDir, directory: Path) -> Json:
    return drop_tables(evaluate(config, run, directory, "test").scores)


if __name__ == "__main__":
    run_command(main)
