"""Preparation of a run's faces: arrange them and write the face tables."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.faces.arrangement import SPLITS, arrange_faces, count_by_class
from ssl_pipeline.faces.bin_edges import near_bin_edge
from ssl_pipeline.faces.hidden_labels import hide_labels
from ssl_pipeline.faces.inventory import read_inventory
from ssl_pipeline.faces.table import write_crops, write_faces
from ssl_pipeline.runs.files import atomic_path, write_json
from ssl_pipeline.runs.spreadsheet_cells import without_formulas

OUTPUT_NAMES = (
    "labeled.parquet",
    "unlabeled.parquet",
    "unlabeled_truth.parquet",
    "rejected.parquet",
    "crops.parquet",
    "leakage.json",
    "leakage.csv",
    "corrections.json",
    "cropping.json",
    "pixels.npy",
)


def prepare_faces(config: FacesConfig, labels: LabelsConfig, *, seed: int, directory: Path) -> dict[str, Any]:
    """Write the face tables and pixels of a run, `OUTPUT_NAMES`; equal sources and seeds give equal bytes.

    Args:
        config: sources and splits.
        labels: the attributes.
        seed: random seed.
        directory: output folder.

    Returns:
        Counts: ``sources.<name>.{role, found, passed_over, rejected, filtered, beyond_limit, used}``, where found is the sum of the
        others; for a cropped source also ``cropped``, the number of crops by type (``face``, ``center_square``,
        ``whole``; listed in ``crops.parquet``); ``labeled.{train, validation, guarantee, test, unused}``,
        ``corrections.{rows, applied, unmatched, values_changed}``, ``near_bin_edge`` (faces excluded from training),
        ``unlabeled``, ``unreadable_unlabeled``, ``rejected``, ``leakage`` (pool faces removed, by what they equal),
        ``by_class`` and ``persons_known`` (whether each labeled face has a person_id).

    Raises:
        FaceTableError: if there are no faces to train, validate or test on, or to label.
    """
    space = labels.space
    inventory = read_inventory(config, labels, seed=seed)
    try:
        arranged = arrange_faces(inventory, config, labels, seed=seed, pixels=directory / "pixels.npy")
    finally:  # the reasons are needed most when no face is usable
        rejected = inventory.rejected.sort_values(["role", "source", "image_path", "reason"])
        _write(directory / "rejected.parquet", rejected)
    known, labeled, pool, leakage = arranged.known, arranged.labeled, arranged.pool, arranged.leakage
    visible, truth = hide_labels(pool, config.unlabeled, labels)
    write_faces(directory / "labeled.parquet", labeled, space)
    write_faces(directory / "unlabeled.parquet", visible, space)
    _write(directory / "unlabeled_truth.parquet", truth)
    write_crops(directory / "crops.parquet", inventory.crops)
    _write_leakage(directory, leakage, inventory.faces)
    write_json(directory / "corrections.json", inventory.corrections)
    rules = config.crop_rules
    write_json(directory / "cropping.json", {"rules": None if rules is None else rules.model_dump(mode="json")})
    splits = Counter(known["split"])
    return {
        "sources": inventory.counts_by_source(),
        "labeled": {split: splits[split] for split in (*SPLITS, "unused")},
        "corrections": inventory.corrections["counts"],
        "near_bin_edge": _near_bin_edge_counts(known[known["split"] == "near bin edge"], config, labels),
        "unlabeled": len(pool),
        "unreadable_unlabeled": int((inventory.rejected["role"] == "unlabeled").sum()),
        "rejected": len(inventory.rejected),
        "leakage": leakage["removed"],
        "by_class": count_by_class(labeled, space),
        "persons_known": leakage["persons_known"],
    }


def _near_bin_edge_counts(near: pd.DataFrame, config: FacesConfig, labels: LabelsConfig) -> dict[str, Any]:
    """Count the excluded training faces per bin edge; a face near two edges counts for both."""
    within, side = config.labeled.drop_near_bin_edges, config.labeled.drop_side
    if within is None:
        return {}
    ages = near["age_years"].to_numpy(np.float64)
    by_bin_edge = {
        f"{attribute.name} {edge:g}": int(near_bin_edge(ages, [edge], within=within, side=side).sum())
        for attribute in labels.made_from_age
        for edge in attribute.bin_edges
    }
    years = "year" if within == 1 else "years"
    reason = f"age within {within:g} {years} of a bin edge, {side}"
    return {"reason": reason, "faces": len(near), "by_bin_edge": by_bin_edge}


def _write_leakage(directory: Path, leakage: dict[str, Any], faces: pd.DataFrame) -> None:
    """Write the faces removed from the pool: counts and pairs as JSON, pairs with their paths as CSV."""
    write_json(directory / "leakage.json", leakage)
    paths = faces.drop_duplicates("image_id").set_index("image_id")["image_path"]
    table = pd.DataFrame(leakage["pairs"], columns=["image_id", "same_as", "split", "why"])
    table.insert(1, "image_path", table["image_id"].map(paths))
    table.insert(3, "same_as_path", table["same_as"].map(paths))
    with atomic_path(directory / "leakage.csv") as partial:
        table.apply(without_formulas).to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as partial:
        table.astype("string").to_parquet(partial, index=False)
