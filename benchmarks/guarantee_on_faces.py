"""Is the guaranteed precision kept on real faces? Teachers of many seeds, a pool of the validation's origin and one of others.

    python -m benchmarks.guarantee_on_faces --config configs/utkface.yaml --set faces.root=../shared/data

Of each seed's pool, whose labels are hidden, the faces of the labeled faces' origin are one population, all others the
shifted one. Each is selected from by itself, as if it were the whole pool; then the truth is looked up.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.seeds import environment_for
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import PrecisionGuarantee
from ssl_pipeline.evaluation.shift import separability
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.learning.predict import CheckpointPredictor, pooled_features
from ssl_pipeline.pseudo_labels.held_out import HeldOutFaces
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json, write_json
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.open import environment
from ssl_pipeline.stages.predict import RoundFaces, predict
from ssl_pipeline.stages.prepare import prepare

TARGETS = (0.8, 0.9)
DELTA = 0.1
_MAX_FACES = 2000


def main(
    config: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option(help="A Markdown file.")] = Path("docs/guarantee.md"),
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2,3,4,5,6,7,8,9",
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds at a time; they share the cores.")] = 1,
    only: Annotated[str | None, typer.Option(help="Do this seed alone, and write no table.")] = None,
) -> None:
    """Guarantee by every seed's teachers, and count how often the guarantee was kept."""
    settings = [*(overrides or []), "shift=null"]
    if only is not None:
        _do(load_config(config, overrides=[*settings, f"seed={only}"]))
        return
    options = ["--config", str(config), *(option for s in overrides or [] for option in ("--set", s))]

    def start(seed: str) -> None:
        command = [sys.executable, "-m", "benchmarks.guarantee_on_faces", *options, "--only", seed]
        subprocess.run(command, check=True, env=environment_for(jobs))

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(start, seeds.split(",")))
    loaded = load_config(config, overrides=settings)
    found = [read_json(_run_of(loaded, int(seed)).root / "guarantee.json") for seed in seeds.split(",")]
    shown = "".join(
        f" --set {setting}" for setting in overrides or [] if not setting.startswith(("faces.root=", "runs_root="))
    )
    command = f"python -m benchmarks.guarantee_on_faces --config {config} --seeds {seeds} --jobs {jobs}{shown}"
    out.write_text(_report(found, command=command, about=environment(loaded), seeds=seeds), encoding="utf-8")
    print(f"written to {out}")


def _run_of(config: RunConfig, seed: int) -> RunDir:
    """The base runs of benchmarks.strategies serve here, too."""
    return RunDir(config.runs_root / f"{config.run_name}-strategies-{seed}" / "base")


def _do(config: RunConfig) -> None:
    run = _run_of(config, config.seed)
    if (run.root / "guarantee.json").is_file():
        return
    prepare(config, run)
    train_fold_teachers(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")  # the teachers out of fold stand for it
    faces = RoundFaces(run, 1)
    home = (faces.pool["origin"] == faces.labeled["origin"].iloc[0]).fillna(False).to_numpy(bool)
    found = {
        "num_held_out": len(faces.held_out),
        "home": _population(home, faces, config, run),
        "elsewhere": _population(~home, faces, config, run),
    }
    write_json(run.root / "guarantee.json", found)


def _population(rows: np.ndarray, faces: RoundFaces, config: RunConfig, run: RunDir) -> dict[str, Any]:
    """Guarantee on a part of the pool, and look up how often it was right."""
    labels, pool = config.labels.space, faces.pool[rows]
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet").set_index("image_id").reindex(pool["image_id"])
    codes = labels.encode(truth.reset_index(drop=True))
    guarantees = {}
    for target in TARGETS:
        chosen = select(
            faces.pool_probabilities[rows],
            labels.encode(pool),
            labels=labels,
            config=PrecisionGuarantee(type="precision_guarantee", target=target, delta=DELTA),
            image_ids=pool["image_id"].tolist(),
            held_out=HeldOutFaces(faces.held_out_probabilities, labels.encode(faces.held_out), "out-of-fold"),
        )
        right = chosen.attribute_codes == codes
        values = {
            f"{attribute.name} {value}": _counts(
                right[:, place], chosen.accepted[:, place] & (chosen.attribute_codes[:, place] == code)
            )
            for place, attribute in enumerate(labels.attributes)
            for code, value in enumerate(attribute.values)
        }
        guarantees[str(target)] = {"values": values, "all": _counts(right, chosen.accepted)}
    return {"num_faces": len(pool), "guarantees": guarantees, "shift": _shift(pool, faces, config, run)}


def _counts(right: np.ndarray, accepted: np.ndarray) -> dict[str, int]:
    return {"accepted": int(accepted.sum()), "right": int((right & accepted).sum())}


def _shift(pool: pd.DataFrame, faces: RoundFaces, config: RunConfig, run: RunDir) -> dict[str, Any]:
    predictor = CheckpointPredictor.load(
        run.out_of_fold / "fold-0.safetensors", config.prediction, device=config.device
    )
    pixels, rng = open_pixels(run.faces / "pixels.npy"), np.random.default_rng(config.seed)
    some = pool.iloc[np.sort(rng.choice(len(pool), size=min(_MAX_FACES, len(pool)), replace=False))]
    sides = [pooled_features(predictor, pixels, of["pixel_row"].to_numpy(np.int64)) for of in (some, faces.validation)]
    found = separability(
        *sides,
        pool_people=some["person_id"].tolist(),
        validation_people=faces.validation["person_id"].tolist(),
        seed=config.seed,
    )
    return {"auc": found.auc, "standard_error": found.standard_error}


def _report(found: list[dict[str, Any]], *, command: str, about: dict[str, Any], seeds: str) -> str:
    home, elsewhere = (int(np.mean([one[side]["num_faces"] for one in found])) for side in ("home", "elsewhere"))
    lines = [
        "# Is the guaranteed precision kept on real faces?",
        "",
        f"Written by `{command}`. Seeds {seeds.replace(',', ', ')}; {os.cpu_count()} cores, {about['machine']}, "
        f"{about['device']}, torch {about['versions']['torch']}. Each seed splits the labeled faces anew and trains its "
        f"own teachers. Thresholds are tested on about {found[0]['num_held_out']} training faces, each as predicted by the "
        "one teacher that did not learn from it; the pool is labeled by the teachers' mean. *Home*: the "
        f"{home:,} faces of the pool (mean) of the labeled faces' own origin; *elsewhere*: the {elsewhere:,} of other "
        f"origins. A guarantee of each value holds with probability {1 - DELTA:g}.",
        "",
        "| pool | guarantee | seeds that accept anything | of these, precision of all accepted at least the guarantee "
        "| values guaranteed | of these kept | labels accepted a seed | precision: mean, lowest seed |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for side in ("home", "elsewhere"):
        for target in TARGETS:
            guarantees = [one[side]["guarantees"][str(target)] for one in found]
            of_seed = [one["all"] for one in guarantees if one["all"]["accepted"]]
            precision = [of["right"] / of["accepted"] for of in of_seed]
            values = [of for one in guarantees for of in one["values"].values() if of["accepted"]]
            kept = sum(of["right"] / of["accepted"] >= target for of in values)
            shown = f"{100 * np.mean(precision):.1f}, {100 * min(precision):.1f}" if precision else "–"
            lines.append(
                f"| {side} | {target} | {len(of_seed)} of {len(found)} | {sum(one >= target for one in precision)} "
                f"| {len(values)} | {kept} | {np.mean([one['all']['accepted'] for one in guarantees]):,.0f} | {shown} |"
            )
    lines += [
        "",
        "Seed by seed: the precision of all accepted labels, percent, and how well a classifier tells that part of the pool "
        "from the validation faces (`shift`; AUC, strong from 0.6).",
        "",
        "| seed | " + " | ".join(f"home, {t}" for t in TARGETS) + " | home: AUC | "
        + " | ".join(f"elsewhere, {t}" for t in TARGETS) + " | elsewhere: AUC |",
        "|---|" + "---:|" * (2 * len(TARGETS) + 2),
    ]  # fmt: skip
    for seed, one in zip(seeds.split(","), found, strict=True):
        cells = []
        for side in ("home", "elsewhere"):
            for target in TARGETS:
                of = one[side]["guarantees"][str(target)]["all"]
                cells.append(
                    f"{100 * of['right'] / of['accepted']:.1f} of {of['accepted']:,}" if of["accepted"] else "–"
                )
            cells.append(f"{one[side]['shift']['auc']:.2f} ± {one[side]['shift']['standard_error']:.2f}")
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
