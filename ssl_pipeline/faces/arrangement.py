"""Arrangement of a run's faces: read sources, decode, reject, split by person, remove leakage; only pixels are written."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError, list_of_faults
from ssl_pipeline.faces.bin_edges import near_bin_edge
from ssl_pipeline.faces.cropper import open_croppers
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.inventory import FaceInventory, most_common
from ssl_pipeline.faces.leakage import remove_overlap
from ssl_pipeline.faces.near_duplicates import picture_ids
from ssl_pipeline.faces.pixels import decode_into
from ssl_pipeline.faces.sources.reading import source_name
from ssl_pipeline.faces.splitting import hold_out, limit_faces
from ssl_pipeline.faces.table import crop_table
from ssl_pipeline.labels import UNKNOWN, LabelSpace

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "guarantee", "test")
_TEST_SEED, _LIMIT_SEED, _VALIDATION_SEED, _GUARANTEE_SEED = 1, 2, 3, 4
PEOPLE_UNKNOWN = (
    "people unknown: no labeled source gives person_id, so each picture counts as its own person, and one person may be "
    "in several splits; give person_id, e.g. levels: [person_id] or columns: {person_id: …}"
)


@dataclass(frozen=True)
class ArrangedFaces:
    """Faces of a run with their splits.

    Attributes:
        known: all labeled faces; split also says why a face is left out (``unused``, ``held out``, ``near bin edge``).
        labeled: the faces of train, validation and test.
        pool: the unlabeled faces without leaked ones.
        leakage: see `leakage.remove_overlap`; also labeled_removed and persons_known.
    """

    known: pd.DataFrame
    labeled: pd.DataFrame
    pool: pd.DataFrame
    leakage: dict[str, Any]


def arrange_faces(
    inventory: FaceInventory,
    config: FacesConfig,
    labels: LabelsConfig,
    *,
    seed: int,
    pixels: Path,
    max_decoded: int | None = None,
) -> ArrangedFaces:
    """Decode the faces of an inventory, reject the unusable ones, split the labeled ones, remove leaks from the pool.

    Args:
        inventory: faces read from the sources; unusable ones are moved to its rejected ones.
        config: sources and splits.
        labels: the attributes.
        seed: random seed.
        pixels: ``.npy`` file to write.
        max_decoded: decode a sample of this size; the other faces count as usable. None decodes all.

    Raises:
        FaceTableError: if there are no faces to train, validate or test on, or to label.
    """
    space = labels.space
    inventory.check_attributes(labels)
    inventory.check_pool(config)
    num_sampled = _decode(inventory, pixels, config, max_decoded=max_decoded, seed=seed)
    if num_sampled is not None:  # without all pixels there are no perceptual hashes
        config = config.model_copy(update={"near_duplicates": None})
    _reject_contradictions(inventory, space)
    inventory.faces = inventory.faces.assign(picture_id=picture_ids(inventory.faces, pixels, config))
    if config.labeled.test_sources:
        partly_known = (inventory.faces["role"] == "test") & (space.class_ids(space.encode(inventory.faces)) < 0)
        inventory.reject(partly_known, "a test face needs all attributes known")
    inventory.log_rejected()
    inventory.check_roles()
    known = inventory.faces[inventory.faces["role"] != "unlabeled"].sort_values("image_id", ignore_index=True)
    if not known["has_person"].any():
        logger.warning(PEOPLE_UNKNOWN)
    known["split"] = _split(known, config, space, seed=seed)
    near = _near_bin_edges(known, config, labels)
    known.loc[near, "split"] = "near bin edge"
    labeled = known[known["split"].isin(SPLITS)]
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
    leakage["persons_known"] = bool(labeled["has_person"].all())
    return ArrangedFaces(known, labeled, pool, leakage)


def _decode(
    inventory: FaceInventory, path: Path, config: FacesConfig, *, max_decoded: int | None, seed: int
) -> int | None:
    """Decode and crop every face, or a sample; reject those that cannot be read or have no face to crop.

    Returns:
        Size of the sample; None if every face was decoded. A face beyond the sample has its path as content_hash.
    """
    all_faces, num_sampled = inventory.faces, None
    if max_decoded is not None and len(all_faces) > max_decoded:
        num_sampled = max_decoded
        sample = np.random.default_rng(seed).choice(len(all_faces), size=max_decoded, replace=False)
        inventory.faces = all_faces.iloc[np.sort(sample)]
    with open_croppers(config.cropping) as cropper_of:
        croppers = {source_name(source): cropper_of(source) for source in config.all_sources}
        paths, sources = inventory.faces["image_path"].tolist(), inventory.faces["source"].tolist()
        decoded = decode_into(path, paths, size=config.image_size, croppers=[croppers[name] for name in sources])
    hashes = pd.Series(decoded.content_hash, index=inventory.faces.index, dtype=object)
    inventory.faces = inventory.faces.assign(content_hash=hashes, pixel_row=np.arange(len(inventory.faces)))
    inventory.crops = crop_table(inventory.faces, decoded.crop)
    reasons = pd.Series(decoded.reason, index=inventory.faces.index, dtype=object)
    unusable, decoded_faces = reasons.notna(), inventory.faces
    inventory.reject(unusable, reasons[unusable])
    inventory.count_crops([name for name, cropper in croppers.items() if cropper is not None])
    if num_sampled is not None:
        beyond = all_faces.drop(index=decoded_faces.index)
        beyond = beyond.assign(content_hash=beyond["image_path"], pixel_row=-1)
        inventory.faces = pd.concat([inventory.faces, beyond]).sort_index()
    for name, rows in decoded_faces.groupby("source", sort=False).groups.items():
        if unusable[rows].all():
            state, cure = "read", "put readable images there, or correct the source's path"
            if croppers[str(name)] is not None:
                state, cure = "used", "correct the source's path, lower min_score or set a fallback in faces.cropping"
            raise FaceTableError(
                f"none of the {len(rows):,} faces in '{name}' can be {state}: {'; '.join(most_common(reasons[rows]))}; "
                f"the first is {decoded_faces.loc[rows[0], 'image_path']}; {cure}"
            )
    return num_sampled


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


def _split(faces: pd.DataFrame, config: FacesConfig, space: LabelSpace, *, seed: int) -> "pd.Series[str]":
    """Assign one of `SPLITS`, ``unused`` (over the limit) or ``held out`` (linked to a test face)."""
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


def _check_classes(labeled: pd.DataFrame, space: LabelSpace) -> None:
    """Refuse to continue without test faces or with a class that has no validation face."""
    if not (labeled["split"] == "test").any():
        raise FaceTableError("no fully known labeled face is available for the test split; add labeled faces")
    by_class = count_by_class(labeled, space)
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


def count_by_class(labeled: pd.DataFrame, space: LabelSpace) -> dict[str, dict[str, int]]:
    """Count the labeled faces of each class by split."""
    ids = space.class_ids(space.encode(labeled))
    counts = Counter(zip(ids.tolist(), labeled["split"], strict=True))
    return {name: {split: counts[number, split] for split in SPLITS} for number, name in enumerate(space.class_names)}
