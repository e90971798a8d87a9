"""The precision guarantee on real faces: the precision reached in a pool of the labeled faces' origin, and of others.

python -m benchmarks.guarantee_on_faces --config configs/utkface.yaml --set faces.root=../shared/data

Each seed's pool, whose labels are hidden, is split in two: *home*, the faces of the labeled faces' origin, and
*elsewhere*, all others. Each part is selected from as if it were the whole pool; then the precision is looked up.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import tables
from benchmarks.runner import ConfigPath, Jobs, Measurement, Out, Overrides, Seeds, run_command, stored_result
from benchmarks.strategies import run_of
from benchmarks.strategies_report import BASE
from benchmarks.tables import Json
from ssl_pipeline.config.loading import dump_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import PrecisionGuarantee
from ssl_pipeline.evaluation.shift import separability
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.learning.predict import CheckpointPredictor, pooled_features
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.predict import RoundFaces, predict
from ssl_pipeline.stages.prepare import prepare

TARGETS, DELTA = (0.8, 0.9), 0.1
SIDES = ("home", "elsewhere")
_MAX_SHIFT_FACES = 2000


def main(
    config: ConfigPath,
    out: Out = Path("docs/guarantee.md"),
    seeds: Seeds = "0,1,2,3,4,5,6,7,8,9",
    overrides: Overrides = None,
    jobs: Jobs = 1,
) -> None:
    """Select by each seed's teachers, and count how often the guarantee held."""
    measurement = Measurement.from_options("guarantee_on_faces", config, seeds, overrides, jobs)
    out.write_text(report(measurement, measurement.run(measure_seed)), encoding="utf-8")
    print(f"written to {out}")


def measure_seed(measurement: Measurement, seed: int) -> Json:
    """Return the counts of accepted and of right labels in both parts of the pool; shares a run with `strategies`."""
    config = measurement.config("shift=null", f"seed={seed}")
    run = run_of(config, BASE)
    return stored_result(
        run.root / "guarantee.json", {"config": dump_config(config)}, lambda: _measure_run(config, run)
    )


def _measure_run(config: RunConfig, run: RunDir) -> Json:
    prepare(config, run)
    train_fold_teachers(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")  # by the fold teachers; this file need not exist
    faces = RoundFaces(run, 1)
    is_home = (faces.pool["origin"] == faces.labeled["origin"].iloc[0]).fillna(False).to_numpy(bool)
    parts = {
        side: _measure_part(rows, faces, config, run) for side, rows in zip(SIDES, (is_home, ~is_home), strict=True)
    }
    return {"num_held_out": len(faces.held_out), **parts}


def _measure_part(rows: np.ndarray, faces: RoundFaces, config: RunConfig, run: RunDir) -> Json:
    """Select from a part of the pool, and count the accepted labels that are right."""
    labels, pool = config.labels.space, faces.pool[rows]
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet").set_index("image_id").reindex(pool["image_id"])
    codes = labels.encode(truth.reset_index(drop=True))
    guarantees = {}
    for target in TARGETS:
        selection = select(
            faces.pool_probabilities[rows],
            labels.encode(pool),
            labels=labels,
            config=PrecisionGuarantee(type="precision_guarantee", target=target, delta=DELTA),
            image_ids=pool["image_id"].tolist(),
            held_out=HeldOutFaces(faces.held_out_probabilities, labels.encode(faces.held_out), "out-of-fold"),
        )
        right = selection.attribute_codes == codes
        values = {
            f"{attribute.name} {value}": _counts(
                right[:, position], selection.accepted[:, position] & (selection.attribute_codes[:, position] == code)
            )
            for position, attribute in enumerate(labels.attributes)
            for code, value in enumerate(attribute.values)
        }
        guarantees[str(target)] = {"values": values, "all": _counts(right, selection.accepted)}
    return {"num_faces": len(pool), "guarantees": guarantees, "shift": _shift(pool, faces, config, run)}


def _counts(right: np.ndarray, accepted: np.ndarray) -> dict[str, int]:
    return {"accepted": int(accepted.sum()), "right": int((right & accepted).sum())}


def _shift(pool: pd.DataFrame, faces: RoundFaces, config: RunConfig, run: RunDir) -> dict[str, Any]:
    """Measure how well a classifier separates a sample of the pool from the validation faces."""
    predictor = CheckpointPredictor.load(
        run.out_of_fold / "fold-0.safetensors", config.prediction, device=config.device
    )
    pixels, rng = open_pixels(run.faces / "pixels.npy"), np.random.default_rng(config.seed)
    size = min(_MAX_SHIFT_FACES, len(pool))
    sample = pool.iloc[np.sort(rng.choice(len(pool), size=size, replace=False))]
    shift = separability(
        pooled_features(predictor, pixels, sample["pixel_row"].to_numpy(np.int64)),
        pooled_features(predictor, pixels, faces.validation["pixel_row"].to_numpy(np.int64)),
        pool_people=sample["person_id"].tolist(),
        validation_people=faces.validation["person_id"].tolist(),
        seed=config.seed,
    )
    return {"auc": shift.auc, "standard_error": shift.standard_error}


def report(measurement: Measurement, results: Sequence[Json]) -> str:
    """Lay out the results, one per seed, as Markdown."""
    home, elsewhere = (int(np.mean([result[side]["num_faces"] for result in results])) for side in SIDES)
    header = ["pool", "guarantee", "seeds that accept anything", "of these, with at least the guaranteed precision"]
    header += ["values guaranteed", "of these kept", "labels accepted per seed", "precision: mean, lowest seed"]
    seed_header = ["seed", *(name for side in SIDES for name in [*(f"{side}, {t}" for t in TARGETS), f"{side}: AUC"])]
    rows = [_row(results, side, target) for side in SIDES for target in TARGETS]
    seed_rows = [[str(seed), *_cells(result)] for seed, result in zip(measurement.seeds, results, strict=True)]
    return "\n".join(
        [
            "# Is the guaranteed precision kept on real faces?",
            "",
            f"{measurement.provenance()}. Each seed splits the labeled faces differently and trains its own teachers. "
            f"Thresholds are tested on about {results[0]['num_held_out']} training faces, each predicted by the one "
            "teacher that did not learn from it; the pool is labeled by the teachers' mean. *Home*: the "
            f"{home:,} faces of the pool (mean) with the labeled faces' origin; *elsewhere*: the {elsewhere:,} of other "
            f"origins. A guarantee of each value holds with probability {1 - DELTA:g}.",
            "",
            *tables.markdown_table(header, "lrrrrrrl", rows),
            "",
            "Seed by seed: the precision of all accepted labels, percent, and how well a classifier separates that part "
            "of the pool from the validation faces (`shift`; AUC, strong from 0.6).",
            "",
            *tables.markdown_table(seed_header, "l" + "r" * (len(seed_header) - 1), seed_rows),
            "",
        ]
    )


def _row(results: Sequence[Json], side: str, target: float) -> list[str]:
    guarantees = [result[side]["guarantees"][str(target)] for result in results]
    precision = [
        counts["right"] / counts["accepted"]
        for counts in (guarantee["all"] for guarantee in guarantees)
        if counts["accepted"]
    ]
    values = [counts for one in guarantees for counts in one["values"].values() if counts["accepted"]]
    num_kept = sum(counts["right"] / counts["accepted"] >= target for counts in values)
    return [
        side,
        str(target),
        f"{len(precision)} of {len(results)}",
        str(sum(one >= target for one in precision)),
        str(len(values)),
        str(num_kept),
        f"{np.mean([one['all']['accepted'] for one in guarantees]):,.0f}",
        f"{100 * np.mean(precision):.1f}, {100 * min(precision):.1f}" if precision else "–",
    ]


def _cells(result: Json) -> list[str]:
    """Format a seed's precisions and shift, both parts of the pool."""
    cells = []
    for side in SIDES:
        for target in TARGETS:
            counts = result[side]["guarantees"][str(target)]["all"]
            precision = f"{100 * counts['right'] / max(counts['accepted'], 1):.1f} of {counts['accepted']:,}"
            cells.append(precision if counts["accepted"] else "–")
        cells.append(f"{result[side]['shift']['auc']:.2f} ± {result[side]['shift']['standard_error']:.2f}")
    return cells


if __name__ == "__main__":
    run_command(main)
