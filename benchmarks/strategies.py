"""Which selection serves a student best? One student by each strategy, from the same teachers' predictions, over seeds.

    python -m benchmarks.strategies --config configs/utkface.yaml --set faces.root=../shared/data --mark all

Faces, teachers and predictions are made once a seed; each strategy's run begins with links to them. Every student has
the network and the settings of the config and as many steps, whatever it learns from. What is finished is not done again;
other settings want another runs_root.
"""

import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.marks import fill
from benchmarks.seeds import environment_for
from benchmarks.strategies_report import strategies_report
from ssl_pipeline.config.loading import dump_config, load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError, PipelineError, RunError
from ssl_pipeline.evaluation.metrics import without_tables
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.inference.voting import SoftVote
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.pseudo_labels.merging import human_table, write_training_table
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json, write_json
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.evaluate import evaluate, evaluate_split
from ssl_pipeline.stages.open import environment
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.train import Training, train_model, train_student, train_teacher

STARVED_BELOW = 0.2
"""A value is starved if its share of the accepted labels is below so many times its share of the training faces."""

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
"""What each row of the table sets."""
ALL_TRUE = "all true labels"
_SHARED = ("faces", "round-00", "round-01/pseudo_labels/predictions", "round-01/pseudo_labels/held-out")


def main(
    config: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option(help="A Markdown file with marks for the table.")] = Path("docs/strategies.md"),
    mark: Annotated[str, typer.Option(help="Which of the marks.")] = "all",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of every student.")] = 500,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time; they share the cores.")] = 1,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; may be repeated.")] = None,
    only: Annotated[str | None, typer.Option(help="Do this one of --seeds, as SEED:ROW, and write no table.")] = None,
) -> None:
    """Train a student by each strategy in each seed, and write the table."""
    settings = [*(overrides or []), "shift=null"]
    if only is not None:
        seed, row = only.split(":", 1)
        _do(config, settings, int(seed), row, steps=steps)
        return
    rows = rows or list(STRATEGIES)
    if strange := [row for row in rows if row not in STRATEGIES]:
        raise ConfigError(f"--row {strange[0]!r}: no such row; expected one of {', '.join(map(repr, STRATEGIES))}")
    options = ["--config", str(config), "--steps", str(steps), *(o for s in overrides or [] for o in ("--set", s))]

    def start(wanted: str) -> None:
        command = [sys.executable, "-m", "benchmarks.strategies", *options, "--only", wanted]
        subprocess.run(command, check=True, env=environment_for(jobs))

    every = seeds.split(",")
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, [f"{seed}:base" for seed in every]))
        list(pool.map(start, [f"{seed}:{row}" for seed in every for row in (*rows, ALL_TRUE)]))
    loaded = load_config(config, overrides=settings)
    found = {row: [_result(loaded, int(seed), row) for seed in every] for row in ("base", *rows, ALL_TRUE)}
    about = {**environment(loaded), "seeds": every, "steps": steps, "jobs": jobs, "config": str(config)}
    shown = [of for of in overrides or [] if not of.startswith(("faces.root=", "runs_root="))]
    about["rows"] = rows if rows != list(STRATEGIES) else []
    fill(out, mark, strategies_report(found, about=about, overrides=shown))
    print(f"written to {out}")


def _run_of(config: RunConfig, seed: int, row: str) -> RunDir:
    name = "".join(letter if letter.isalnum() else "-" for letter in row)
    return RunDir(config.runs_root / f"{config.run_name}-strategies-{seed}" / name)


def _result(config: RunConfig, seed: int, row: str) -> dict[str, Any]:
    return read_json(_run_of(config, seed, row).root / "result.json")


def _do(path: Path, settings: list[str], seed: int, row: str, *, steps: int) -> None:
    """Do one cell of the table, unless it is done."""
    own = [*STRATEGIES.get(row, []), "selection.guards.on_fault=warn"]  # what a row selects replaces the whole section
    config = load_config(path, overrides=[*settings, *own, f"seed={seed}"])
    run, made_by = _run_of(config, seed, row), {"config": dump_config(config), "steps": steps}
    if (run.root / "result.json").is_file():
        if read_json(run.root / "made_by.json") != made_by:
            raise RunError(f"{run.root}: a result of other settings lies there; give another --set runs_root=FOLDER")
        return
    if row == "base":
        result = _make_base(config, run)
    else:
        base = _run_of(config, seed, "base")
        for shared in _SHARED:
            if not (run.root / shared).exists():
                shutil.copytree(base.root / shared, run.root / shared, copy_function=os.link)
        result = _all_true(config, run, steps) if row == ALL_TRUE else _by_strategy(config, run, steps)
    write_json(run.root / "made_by.json", made_by)
    write_json(run.root / "result.json", result)


def _make_base(config: RunConfig, run: RunDir) -> dict[str, Any]:
    """Faces, teacher, teachers out of fold, predictions; how good the teacher is, and all of them together if there are any."""
    prepare(config, run)
    calibration = train_teacher(config, run).calibration
    folds = train_fold_teachers(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    teacher = evaluate(config, run, run.teacher, "test").scores
    counts, together = StageRecord.read(run.faces).result, None
    if folds is not None:
        checkpoints = sorted(run.out_of_fold.glob("fold-*.safetensors"))
        vote = SoftVote.load(checkpoints, config.prediction, device=config.device)
        calibration, together = (
            folds.calibration,
            without_tables(evaluate_split(vote, config, run, "test").scores),
        )
    return {"test": teacher, "together": together, "calibration": calibration, "counts": counts}


def _by_strategy(config: RunConfig, run: RunDir, steps: int) -> dict[str, Any]:
    selection = select(config, run, 1)
    manifest = read_manifest(run.pseudo_labels(1) / "manifest.parquet")
    train = read_faces(run.faces / "labeled.parquet").query("split == 'train'")
    num_learned = len(train)
    if config.student.training.fixmatch is None:
        num_learned += int(manifest.taught.any(axis=1).sum())
    student = train_student(_with_steps(config, num_learned, steps), run, 1)
    scores = evaluate(config, run, run.student(1), "test").scores
    return {
        "counts": selection.counts,
        "labels": {name: int(manifest.accepted[:, place].sum()) for place, name in enumerate(manifest.labels.names)},
        "precision": selection.precision,
        "starved": _starved(manifest, train),
        "test": scores,
        "seconds": student.seconds,
    }


def _all_true(config: RunConfig, run: RunDir, steps: int) -> dict[str, Any]:
    """The same student with the truth about the whole pool: what better labels alone could bring."""
    labels, directory = config.labels.space, run.root / "student"
    train = read_faces(run.faces / "labeled.parquet").query("split == 'train'")
    pool = read_faces(run.faces / "unlabeled.parquet")
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet").set_index("image_id")
    for name in labels.names:
        pool[name] = truth[name].reindex(pool["image_id"]).to_numpy()
    everyone = pd.concat([train, pool.astype({name: train[name].dtype for name in labels.names})], ignore_index=True)

    def table() -> Path:
        write_training_table(directory / "training.parquet", human_table(everyone, labels=labels))
        return directory / "training.parquet"

    config = _with_steps(config, len(everyone), steps)
    training = Training("student of all true labels", directory, seed=config.seed * 1000 + 1)
    student = train_model(config, config.student, run, training, table)
    return {"test": evaluate(config, run, directory, "test").scores, "seconds": student.seconds}


def _with_steps(config: RunConfig, num_learned: int, steps: int) -> RunConfig:
    """Give the student as many epochs as come nearest to so many steps, a tenth of them to warm up."""
    training = config.student.training
    epochs = max(round(steps / math.ceil(num_learned / training.batch_size)), 1)
    scheduler = training.scheduler.model_copy(update={"warmup_epochs": min(max(round(epochs / 10), 1), epochs - 1)})
    training = training.model_copy(update={"epochs": epochs, "scheduler": scheduler})
    return config.model_copy(update={"student": config.student.model_copy(update={"training": training})})


def _starved(manifest: Manifest, train: pd.DataFrame) -> list[str]:
    starved = []
    for place, attribute in enumerate(manifest.labels.attributes):
        codes = manifest.codes[manifest.accepted[:, place], place]
        share = np.bincount(codes, minlength=len(attribute.values)) / max(len(codes), 1)
        expected = train[attribute.name].value_counts(normalize=True)
        starved += [
            value
            for value, of in zip(attribute.values, share, strict=True)
            if of < STARVED_BELOW * expected.get(value, 0)
        ]
    return starved


if __name__ == "__main__":
    try:
        typer.run(main)
    except PipelineError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except subprocess.CalledProcessError as error:  # one of our own has said why
        sys.exit(error.returncode)
