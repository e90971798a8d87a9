"""Preparation of a run's faces: read sources, decode, split by person, remove leakage, write the face tables."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError, list_of_faults
from ssl_pipeline.faces.bin_edges import near_bin_edge
from ssl_pipeline.faces.cropper import open_croppers
from ssl_pipeline.faces.hidden_labels import hide_labels
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.inventory import REJECTED_COLUMNS, FaceInventory, most_common
from ssl_pipeline.faces.leakage import remove_overlap
from ssl_pipeline.faces.near_duplicates import picture_ids
from ssl_pipeline.faces.pixels import decode_into
from ssl_pipeline.faces.sources.corrections import CorrectionCounts, Corrections
from ssl_pipeline.faces.sources.reading import read_source, source_name
from ssl_pipeline.faces.splitting import hold_out, limit_faces
from ssl_pipeline.faces.table import crop_table, write_crops, write_faces
from ssl_pipeline.labels import UNKNOWN, LabelSpace
from ssl_pipeline.runs.files import atomic_path, write_json

OUTPUT_NAMES = (
    "labeled.parquet",
    "unlabeled.parquet",
    "unlabeled_truth.parquet",
    "rejected.parquet",
    "crops.parquet",
    "leakage.json",
    "leakage.csv",
    "corrections.json",
    "pixels.npy",
)
_TEST_SEED, _LIMIT_SEED, _VALIDATION_SEED, _GUARANTEE_SEED = 1, 2, 3, 4
_SPLITS = ("train", "validation", "guarantee", "test")


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
        ``unlabeled``, ``unreadable_unlabeled``, ``rejected``, ``leakage`` (pool faces removed, by what they equal) and
        ``by_class``.

    Raises:
        FaceTableError: if there are no faces to train, validate or test on, or to label.
    """
    space = labels.space
    inventory = _read_sources(config, labels, seed=seed)
    _decode(inventory, directory / "pixels.npy", config)
    _reject_contradictions(inventory, space)
    inventory.faces = inventory.faces.assign(picture_id=picture_ids(inventory.faces, directory / "pixels.npy", config))
    if config.labeled.test_sources:
        partly_known = (inventory.faces["role"] == "test") & (space.class_ids(space.encode(inventory.faces)) < 0)
        inventory.reject(partly_known, "a test face needs all attributes known")
    inventory.log_rejected()
    _check_roles(inventory)
    known = inventory.faces[inventory.faces["role"] != "unlabeled"].sort_values("image_id", ignore_index=True)
    known["split"] = _split(known, config, space, seed=seed)
    near = _near_bin_edges(known, config, labels)
    known.loc[near, "split"] = "near bin edge"
    labeled = known[known["split"].isin(_SPLITS)]
    _check_classes(labeled, space)
    pool = inventory.faces[inventory.faces["role"] == "unlabeled"].assign(split="unlabeled")
    # Other pictures of a test person, and faces excluded near a bin edge, must not return through the pool.
    protected = known[known["split"] != "unused"].replace({"split": {"held out": "test", "near bin edge": "train"}})
    pool, leakage = remove_overlap(pool, protected)
    if pool.empty:
        raise FaceTableError(
            f"no face is left in the pool: all of them equal labeled ones ({leakage['removed']}); "
            "add sources to faces.unlabeled.sources"
        )
    leakage["labeled_removed"] = int((known["split"] == "held out").sum())
    visible, truth = hide_labels(pool, config.unlabeled, labels)
    write_faces(directory / "labeled.parquet", labeled, space)
    write_faces(directory / "unlabeled.parquet", visible, space)
    _write(directory / "unlabeled_truth.parquet", truth)
    _write(directory / "rejected.parquet", inventory.rejected.sort_values(["role", "source", "image_path", "reason"]))
    write_crops(directory / "crops.parquet", inventory.crops)
    _write_leakage(directory, leakage, inventory.faces)
    write_json(directory / "corrections.json", inventory.corrections)
    splits = Counter(known["split"])
    return {
        "sources": inventory.counts_by_source(),
        "labeled": {split: splits[split] for split in (*_SPLITS, "unused")},
        "corrections": inventory.corrections["counts"],
        "near_bin_edge": _near_bin_edge_counts(known[near], config, labels),
        "unlabeled": len(pool),
        "unreadable_unlabeled": int((inventory.rejected["role"] == "unlabeled").sum()),
        "rejected": len(inventory.rejected),
        "leakage": leakage["removed"],
        "by_class": _by_class(labeled, space),
    }


def _read_sources(config: FacesConfig, labels: LabelsConfig, *, seed: int) -> FaceInventory:
    corrections = Corrections.read(config.correction_paths, labels)
    faces, rejected, counts, correction_counts = [], [], {}, []
    for role, source in config.roles:
        result = read_source(source, root=config.root, labels=labels, seed=seed, corrections=corrections)
        faces.append(result.faces.assign(role=role))
        rejected.append(result.rejected.assign(role=role))
        correction_counts.append(result.corrections)
        counts[source_name(source)] = {
            "role": role,
            "found": result.num_found,
            "passed_over": len(result.passed_over),
            "filtered": result.num_filtered,
            "beyond_limit": result.num_beyond_limit,
        }
    return FaceInventory(
        faces=pd.concat(faces, ignore_index=True),
        rejected=pd.concat(rejected, ignore_index=True)[REJECTED_COLUMNS],
        corrections=corrections.report(CorrectionCounts.total(correction_counts)),
        sources=counts,
    )


def _decode(inventory: FaceInventory, path: Path, config: FacesConfig) -> None:
    """Decode and crop every face; reject those that cannot be read or have no face to crop."""
    with open_croppers(config.cropping) as cropper_of:
        croppers = {source_name(source): cropper_of(source) for source in config.all_sources}
        paths, sources = inventory.faces["image_path"].tolist(), inventory.faces["source"].tolist()
        decoded = decode_into(path, paths, size=config.image_size, croppers=[croppers[name] for name in sources])
    hashes = pd.Series(decoded.content_hash, index=inventory.faces.index, dtype=object)
    inventory.faces = inventory.faces.assign(content_hash=hashes, pixel_row=np.arange(len(inventory.faces)))
    inventory.crops = crop_table(inventory.faces, decoded.crop)
    reasons = pd.Series(decoded.reason, index=inventory.faces.index, dtype=object)
    unusable = reasons.notna()
    for name, rows in inventory.faces.groupby("source", sort=False).groups.items():
        if unusable[rows].all():
            state, cure = "read", "put readable images there, or correct the source's path"
            if croppers[str(name)] is not None:
                state, cure = "used", "correct the source's path, lower min_score or set a fallback in faces.cropping"
            raise FaceTableError(
                f"none of the {len(rows):,} faces in '{name}' can be {state}: {'; '.join(most_common(reasons[rows]))}; "
                f"the first is {inventory.faces.loc[rows[0], 'image_path']}; {cure}"
            )
    inventory.reject(unusable, reasons[unusable])
    inventory.count_crops([name for name, cropper in croppers.items() if cropper is not None])


def _reject_contradictions(inventory: FaceInventory, space: LabelSpace) -> None:
    """Reject labeled faces with equal files and different labels: the right label is unknown."""
    labeled = inventory.faces[inventory.faces["role"] != "unlabeled"]
    codes = pd.DataFrame(space.encode(labeled), index=labeled.index)
    known = codes.where(codes != UNKNOWN)  # unknown contradicts nothing
    differ = (known.groupby(labeled["content_hash"]).transform("nunique") > 1).any(axis=1)
    if not differ.any():
        return
    ids = labeled[differ].groupby("content_hash")["image_id"].agg(_abbreviate)
    reasons = "the same picture with different labels: " + labeled.loc[differ, "content_hash"].map(ids)
    inventory.reject(differ.reindex(inventory.faces.index, fill_value=False), reasons)


def _abbreviate(ids: "pd.Series[str]") -> str:
    """Join the first few ids: thousands of faces may share one placeholder picture."""
    joined = ", ".join(sorted(ids)[:3])
    return joined if len(ids) <= 3 else f"{joined} and {len(ids) - 3:,} more"


def _check_roles(inventory: FaceInventory) -> None:
    """Refuse to continue, with the reasons, if no face is left for training, test or the pool."""
    keys = {"labeled": "labeled.sources", "test": "labeled.test_sources", "unlabeled": "unlabeled.sources"}
    for role, key in keys.items():
        sources = [counts for counts in inventory.sources.values() if counts["role"] == role]
        if not sources or (inventory.faces["role"] == role).any():
            continue
        reasons = most_common(inventory.rejected.loc[inventory.rejected["role"] == role, "reason"])
        num_found, num_filtered = (sum(counts[name] for counts in sources) for name in ("found", "filtered"))
        if num_filtered:
            reasons.append(f"{num_filtered:,} × excluded by the filter")
        raise FaceTableError(
            f"faces.{key}: none of the {num_found:,} faces found can be used: {'; '.join(reasons)}; "
            "correct the files, widen the filter or add sources"
        )


def _split(faces: pd.DataFrame, config: FacesConfig, space: LabelSpace, *, seed: int) -> "pd.Series[str]":
    """Assign one of `_SPLITS`, ``unused`` (over the limit) or ``held out`` (linked to a test face)."""
    strata = space.class_ids(space.encode(faces))
    groups = independent_units(faces)
    split = np.full(len(faces), "train", dtype=object)
    settings = config.labeled
    if settings.test_fraction is not None:
        is_test = hold_out(strata, groups, fraction=settings.test_fraction, seed=(seed, _TEST_SEED), keep=2)
    else:
        is_test = (faces["role"] == "test").to_numpy(bool)
        split[np.isin(groups, groups[is_test])] = "held out"
    split[is_test] = "test"
    rest = np.flatnonzero(split == "train")
    if settings.limit is not None:
        kept = limit_faces(strata[rest], groups[rest], limit=settings.limit, seed=(seed, _LIMIT_SEED))
        split[rest[~kept]] = "unused"
        rest = rest[kept]
    if settings.guarantee_fraction:
        fraction = settings.guarantee_fraction
        is_kept = hold_out(strata[rest], groups[rest], fraction=fraction, seed=(seed, _GUARANTEE_SEED), keep=2)
        split[rest[is_kept]] = "guarantee"
        rest = rest[~is_kept]
    fraction = settings.validation_fraction
    is_validation = hold_out(strata[rest], groups[rest], fraction=fraction, seed=(seed, _VALIDATION_SEED))
    split[rest[is_validation]] = "validation"
    return pd.Series(split, index=faces.index)


def _near_bin_edges(faces: pd.DataFrame, config: FacesConfig, labels: LabelsConfig) -> "pd.Series[bool]":
    """Mark the training faces with an age too near a bin edge.

    Raises:
        FaceTableError: if a class would have no training face left.
    """
    train = faces["split"] == "train"
    settings = config.labeled
    if settings.drop_near_bin_edges is None:
        return train & False
    ages = faces["age_years"].to_numpy(np.float64)
    bin_edges = [edge for attribute in labels.made_from_age for edge in attribute.bin_edges]
    near = train & near_bin_edge(ages, bin_edges, within=settings.drop_near_bin_edges, side=settings.drop_side)
    ids = pd.Series(labels.space.class_ids(labels.space.encode(faces)), index=faces.index)
    emptied = sorted(set(ids[train]) - set(ids[train & ~near]) - {UNKNOWN})
    if emptied:
        rows = [f"{labels.space.class_name(number)}: {int((ids[train] == number).sum())} faces" for number in emptied]
        headline = (
            f"faces.labeled.drop_near_bin_edges {settings.drop_near_bin_edges:g} (drop_side {settings.drop_side}) leaves "
            f"{len(emptied)} classes without a training face; drop fewer years, or one side of the bin edges only"
        )
        raise FaceTableError(list_of_faults(headline, rows))
    return near


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


def _check_classes(labeled: pd.DataFrame, space: LabelSpace) -> None:
    """Refuse to continue without test faces or with a class that has no validation face."""
    if not (labeled["split"] == "test").any():
        raise FaceTableError("no fully known labeled face is available for the test split; add labeled faces")
    by_class = _by_class(labeled, space)
    without = {name: counts for name, counts in by_class.items() if counts["validation"] == 0}
    if without:
        rows = [
            f"{name}: {sum(counts.values())} labeled, {counts['train']} train, {counts['validation']} validation"
            for name, counts in without.items()
        ]
        headline = (
            f"{len(without)} of {space.num_classes} classes have no validation face; add labeled faces, raise "
            "faces.labeled.validation_fraction (or limit), or define fewer classes"
        )
        raise FaceTableError(list_of_faults(headline, rows))


def _by_class(labeled: pd.DataFrame, space: LabelSpace) -> dict[str, dict[str, int]]:
    ids = space.class_ids(space.encode(labeled))
    counts = Counter(zip(ids.tolist(), labeled["split"], strict=True))
    return {name: {split: counts[number, split] for split in _SPLITS} for number, name in enumerate(space.class_names)}


def _write_leakage(directory: Path, leakage: dict[str, Any], faces: pd.DataFrame) -> None:
    """Write the faces removed from the pool: counts and pairs as JSON, pairs with their paths as CSV."""
    write_json(directory / "leakage.json", leakage)
    paths = faces.drop_duplicates("image_id").set_index("image_id")["image_path"]
    table = pd.DataFrame(leakage["pairs"], columns=["image_id", "same_as", "split", "why"])
    table.insert(1, "image_path", table["image_id"].map(paths))
    table.insert(3, "same_as_path", table["same_as"].map(paths))
    with atomic_path(directory / "leakage.csv") as partial:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as partial:
        table.astype("string").to_parquet(partial, index=False)
