"""How well scores find wrong labels among faces of which 5 % were flipped; writes a part of docs/label-errors.md.

    python -m benchmarks.label_errors
    python -m benchmarks.label_errors --features data/models/face.parquet

Drawn faces: the labeled faces of configs/demo.yaml with other seeds, a teacher of 200 steps; their flipped labels go through a table of corrections
into a run of its own, so that the command `ssl-pipeline labels check` is measured as it is used: with `out_of_fold`, and
without it. With `--features` also UTKFace, from a table that `ssl-pipeline embed` wrote over its folder: linear heads,
fitted out of fold. Labels of all attributes are ranked together. The test split is not used.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from sklearn.metrics import average_precision_score

from benchmarks.docs.marked_sections import replace_section
from benchmarks.tables import markdown_table
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.label_errors import Score, score_labels
from ssl_pipeline.faces.feature_table import read_feature_table
from ssl_pipeline.faces.splitting import assign_folds
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import UNKNOWN, FloatArray, IntArray, LabelSpace
from ssl_pipeline.learning.linear_head import cross_fitted_probabilities
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.draw import draw
from ssl_pipeline.stages.label_check import held_out_probabilities
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.teachers import train_teacher

FLIPPED, NUM_FOLDS, STEPS = 0.05, 5, 200
SCORES: tuple[Score, ...] = get_args(Score)
MEASURES = ("average precision", "precision of the first 5 %", "recall of the first 10 %")
UTKFACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
_UTK_NAME = re.compile(r"(\d+)_([01])_\d+_")

Flipped = tuple[IntArray, npt.NDArray[np.bool_]]


def flip(codes: IntArray, num_values: tuple[int, ...], rng: np.random.Generator) -> Flipped:
    """Replace 5 % of the known labels of each attribute by another value; also return which, bool [N, A]."""
    wrong, flipped = np.zeros(codes.shape, bool), codes.copy()
    for position, number in enumerate(num_values):
        known = np.flatnonzero(codes[:, position] != UNKNOWN)
        rows = rng.choice(known, round(FLIPPED * len(known)), replace=False)
        flipped[rows, position] = (codes[rows, position] + rng.integers(1, number, len(rows))) % number
        wrong[rows, position] = True
    return flipped, wrong


def rank_errors(probabilities: list[FloatArray], flipped: Flipped) -> dict[str, tuple[float, ...]]:
    """Measure the rank of the wrong labels among all, for each score."""
    codes, wrong = flipped
    measured: dict[str, tuple[float, ...]] = {}
    for score in SCORES:
        scores, is_wrong = [], []
        for position, per_value in enumerate(probabilities):
            known = codes[:, position] != UNKNOWN
            scores.append(score_labels(per_value[known], codes[known, position], score=score))
            is_wrong.append(wrong[known, position])
        ranked = np.concatenate(is_wrong)[np.argsort(np.concatenate(scores), kind="stable")]
        first_5, first_10 = ranked[: round(0.05 * len(ranked))], ranked[: round(0.1 * len(ranked))]
        precision = average_precision_score(ranked, -np.arange(len(ranked)))
        measured[score] = (float(precision), float(first_5.mean()), float(first_10.sum() / ranked.sum()))
    return measured


def utkface(features: Path, num_faces: int, seed: int) -> dict[str, tuple[float, ...]]:
    """Flip labels of so many faces and rank them by linear heads on their features."""
    _, names, vectors = read_feature_table(features)
    matches = [_UTK_NAME.match(Path(name).name) for name in names]
    usable = np.flatnonzero([match is not None for match in matches])
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(usable, num_faces, replace=False))
    ages, genders = (np.array([int(matches[row][group]) for row in rows]) for group in (1, 2))
    codes = np.stack([genders, np.digitize(ages, [30, 60])], axis=1)
    flipped = flip(codes, UTKFACE.num_values, rng)
    folds = assign_folds(UTKFACE.class_ids(flipped[0]), np.arange(num_faces), num_folds=NUM_FOLDS, seed=seed)
    return rank_errors(cross_fitted_probabilities(vectors[rows], flipped[0], folds, UTKFACE), flipped)


def drawn(seed: int, *, out_of_fold: bool) -> dict[str, tuple[float, ...]]:
    """Flip labels of the demo's labeled faces, train on them as a run does, and rank them as the command does."""
    root = Path("data/label-errors")
    shared = [
        f"runs_root={root / 'runs'}",
        f"seed={seed}",
        f"faces.root={root / 'faces'}",
        "faces.unlabeled.sources.0.num_people=60",
    ]
    shared += [f"faces.labeled.sources.0.{key}" for key in (f"drawing_seed={1000 + seed}", f"path=home-{seed}")]
    shared += [f"teacher.training.steps={STEPS}"]
    shared += [f"out_of_fold={{num_folds: {NUM_FOLDS}}}"] if out_of_fold else []
    config = load_config(Path("configs/demo.yaml"), overrides=shared, run_name=f"clean-{seed}")
    draw(config)
    labeled = _prepared(config)
    labels, rng = config.labels.space, np.random.default_rng(seed)
    truth = labels.encode(labeled)
    flipped = flip(truth, labels.num_values, rng)
    changed = labels.decode(flipped[0])
    table = root / f"flipped-{seed}.csv"
    pd.DataFrame(
        [
            {
                "image_id": labeled["image_id"].iloc[row],
                "attribute": labels.names[position],
                "value": changed.iloc[row, position],
            }
            for row, position in zip(*np.nonzero(flipped[1]), strict=True)
        ]
    ).to_csv(table, index=False)
    config = load_config(
        Path("configs/demo.yaml"),
        overrides=[*shared, f"faces.corrections={table.absolute()}"],
        run_name=f"flipped-{seed}{'-out-of-fold' * out_of_fold}",
    )
    run = RunDir(config.runs_root / config.run_name)
    relabeled = _prepared(config)
    train_teacher(config, run)
    train_fold_teachers(config, run)
    faces, probabilities, _ = held_out_probabilities(config, run)
    # a flipped label may move a face to another split, which is stratified by class
    before = dict(zip(labeled["image_id"], truth, strict=True))
    assert len(relabeled) == len(labeled)
    codes = labels.encode(faces)
    return rank_errors(probabilities, (codes, np.stack([before[name] for name in faces["image_id"]]) != codes))


def _prepared(config: RunConfig) -> pd.DataFrame:
    run = RunDir(config.runs_root / config.run_name)
    prepare(config, run)
    faces = read_faces(run.faces / "labeled.parquet")
    return faces[faces["split"] != "test"].reset_index(drop=True)


def _rows(name: str, results: list[dict[str, tuple[float, ...]]]) -> Iterator[list[str]]:
    for score in SCORES:
        columns = list(zip(*(result[score] for result in results), strict=True))
        cells = [
            f"{100 * mean(column):.1f}" + (f" ± {100 * stdev(column):.1f}" if len(column) > 1 else "")
            for column in columns
        ]
        yield [name, score.replace("_", " "), *cells]


def main(
    features: Annotated[Path | None, typer.Option(help="Features of UTKFace; without, drawn faces only.")] = None,
    seeds: Annotated[str, typer.Option(help="Of UTKFace, separated by commas.")] = "100,101,102,103,104,105",
    drawn_seeds: Annotated[str, typer.Option(help="Of drawn faces, separated by commas; empty: none.")] = "100,101",
    out: Annotated[Path, typer.Option(help="The page whose section is replaced.")] = Path("docs/label-errors.md"),
) -> None:
    """Measure each score and write the table."""
    rows: list[list[str]] = []
    options = ""
    if features is not None:
        numbers = list(map(int, seeds.split(",")))
        options += f" --features FILE --seeds {seeds}"
        for num_faces in (500, 4000):
            results = [utkface(features, num_faces, seed) for seed in numbers]
            rows += _rows(f"UTKFace, {num_faces:,} faces, linear heads on face-recognition features", results)
    options += f" --drawn-seeds {drawn_seeds}"
    for out_of_fold in (False, True) if drawn_seeds else ():
        results = [drawn(seed, out_of_fold=out_of_fold) for seed in map(int, drawn_seeds.split(","))]
        rows += _rows(
            "360 drawn faces, " + ("`out_of_fold`" if out_of_fold else "linear heads on the teacher's features"),
            results,
        )
    header = ["faces and predictions", "score", *MEASURES]
    text = [f"`python -m benchmarks.label_errors{options}`, %, mean ± standard deviation over seeds:", ""]
    text += markdown_table(header, "llrrr", rows)
    print("\n".join(text))
    replace_section(out, "label-errors", "\n".join(text))


if __name__ == "__main__":
    typer.run(main)
