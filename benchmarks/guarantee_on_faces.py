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
from scipy.stats import binomtest

from benchmarks import tables
from benchmarks.pool import run_of
from benchmarks.runner import ConfigPath, Jobs, Measurement, Out, Overrides, Seeds, run_command, stored_result
from benchmarks.tables import Json
from ssl_pipeline.config.evaluation import ShiftConfig
from ssl_pipeline.config.loading import dump_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import PrecisionGuarantee
from ssl_pipeline.evaluation.shift import is_strong, separability
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.learning.predict import CheckpointPredictor, pooled_features
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.round_faces import RoundFaces

TARGETS, DELTA = (0.8, 0.9), 0.1
SIDES = ("home", "elsewhere")
STRONG_AUC = ShiftConfig().strong_auc
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
    """Return the counts of accepted and of right labels in both parts of the pool."""
    config = measurement.config("selection={type: precision_guarantee}", "shift=null", f"seed={seed}")
    run = run_of(config, "guarantee")
    return stored_result(
        run.root / "guarantee.json", {"config": dump_config(config)}, lambda: _measure_run(config, run)
    )


def _measure_run(config: RunConfig, run: RunDir) -> Json:
    prepare(config, run)
    train_fold_teachers(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")  # by the fold teachers; this file need not exist
    faces = RoundFaces(config, run, 1)
    is_home = (faces.pool["origin"] == faces.labeled["origin"].iloc[0]).fillna(False).to_numpy(bool)
    parts = {
        side: _measure_part(rows, faces, config, run) for side, rows in zip(SIDES, (is_home, ~is_home), strict=True)
    }
    return {"num_held_out": len(faces.held_out.codes), **parts}


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
            held_out=faces.held_out,
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
        units=independent_units(pd.concat([sample, faces.validation])),
        seed=config.seed,
    )
    return {
        "auc": shift.auc,
        "standard_error": shift.standard_error,
        "strong": is_strong(shift.auc, shift.standard_error, strong_auc=STRONG_AUC),
    }


def report(measurement: Measurement, results: Sequence[Json]) -> str:
    """Lay out the results, one per seed, as Markdown."""
    home, elsewhere = (int(np.mean([result[side]["num_faces"] for result in results])) for side in SIDES)
    header = ["pool", "guarantee", "withheld", "values guaranteed", "broken", "p", "labels accepted per seed"]
    header += ["values that would have been", "broken of these", "precision of their labels: mean, lowest seed"]
    seed_header = ["seed", *(name for side in SIDES for name in [*(f"{side}, {t}" for t in TARGETS), f"{side}: AUC"])]
    rows = [_row(results, side, target) for side in SIDES for target in TARGETS]
    seed_rows = [[str(seed), *_cells(result)] for seed, result in zip(measurement.seeds, results, strict=True)]
    return "\n".join(
        [
            "# Is the guaranteed precision kept on real faces?",
            "",
            f"{measurement.provenance()}. Each seed splits the labeled faces differently and trains its own teachers. "
            f"Thresholds are tested on about {results[0]['num_held_out']} training faces; each of them, and each face of "
            "the pool, is predicted by one of the fold teachers, which was not trained on it. *Home*: the "
            f"{home:,} faces of the pool (mean) with the labeled faces' origin; *elsewhere*: the {elsewhere:,} of other "
            f"origins. A guarantee of each value holds with probability {1 - DELTA:g}; p: how likely that many or more are "
            f"broken if so (binomial). A guarantee is withheld under strong shift (`shift`: an AUC from {STRONG_AUC:g}, two "
            "standard errors above 0.5); the last columns tell what it would have been worth.",
            "",
            *tables.markdown_table(header, "lrrrrrrrrl", rows),
            "",
            "Seed by seed: the precision of all labels accepted if nothing is withheld, percent, and how well a classifier "
            "separates that part of the pool from the validation faces (AUC; **strong**: withheld).",
            "",
            *tables.markdown_table(seed_header, "l" + "r" * (len(seed_header) - 1), seed_rows),
            "",
        ]
    )


def _row(results: Sequence[Json], side: str, target: float) -> list[str]:
    guarantees = [result[side]["guarantees"][str(target)] for result in results]
    given = [one for one, result in zip(guarantees, results, strict=True) if not result[side]["shift"]["strong"]]
    num, broken = _num_values(given, target)
    num_all, broken_all = _num_values(guarantees, target)
    precision = [one["all"]["right"] / one["all"]["accepted"] for one in guarantees if one["all"]["accepted"]]
    p_value = binomtest(broken, num, DELTA, alternative="greater").pvalue if num else 1.0
    accepted = sum(one["all"]["accepted"] for one in given) / len(results)
    return [
        side,
        str(target),
        f"{len(results) - len(given)} of {len(results)} seeds",
        str(num),
        str(broken),
        f"{p_value:.2f}" if num else "–",
        f"{accepted:,.0f}",
        str(num_all),
        str(broken_all),
        f"{100 * np.mean(precision):.1f}, {100 * min(precision):.1f}" if precision else "–",
    ]


def _num_values(guarantees: Sequence[Json], target: float) -> tuple[int, int]:
    """Count the guaranteed values and those with a lower precision."""
    values = [counts for one in guarantees for counts in one["values"].values() if counts["accepted"]]
    return len(values), sum(counts["right"] / counts["accepted"] < target for counts in values)


def _cells(result: Json) -> list[str]:
    """Format a seed's precisions and shift, both parts of the pool."""
    cells = []
    for side in SIDES:
        for target in TARGETS:
            counts = result[side]["guarantees"][str(target)]["all"]
            precision = f"{100 * counts['right'] / max(counts['accepted'], 1):.1f} of {counts['accepted']:,}"
            cells.append(precision if counts["accepted"] else "–")
        shift = result[side]["shift"]
        auc = f"{shift['auc']:.2f} ± {shift['standard_error']:.2f}"
        cells.append(f"**{auc}**" if shift["strong"] else auc)
    return cells


if __name__ == "__main__":
    run_command(main)
