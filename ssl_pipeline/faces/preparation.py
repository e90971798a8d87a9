"""From sources to face tables: read, decode once, split by person, take leaks out of the pool. No face is lost unsaid."""

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
from ssl_pipeline.faces.inventory import REJECTED_COLUMNS, FaceInventory, counted
from ssl_pipeline.faces.leakage import remove_overlap
from ssl_pipeline.faces.near_duplicates import picture_ids
from ssl_pipeline.faces.pixels import decode_into
from ssl_pipeline.faces.sources.corrections import CorrectionCounts, Corrections
from ssl_pipeline.faces.sources.reading import read_source, source_name
from ssl_pipeline.faces.splitting import connected_groups, hold_out, limit_faces
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
_TEST_SEED, _LIMIT_SEED, _VALIDATION_SEED = 1, 2, 3


def prepare_faces(config: FacesConfig, labels: LabelsConfig, *, seed: int, directory: Path) -> dict[str, Any]:
    """Write the face tables and the pixels of a run, `OUTPUT_NAMES`, the same bytes for the same sources and seed.

    Args:
        config: the sources and how to split them.
        labels: the attributes.
        seed: of every draw.
        directory: where to write.

    Returns:
        Counts: ``sources.<name>.{role, found, rejected, filtered, beyond_limit, used}``, where found is the sum of the
        others, and of a cropped source ``cropped``, how many were cropped to a face and how many by the fallback
        (``face``, ``center_square``, ``whole``; ``crops.parquet`` names each); ``labeled.{train, validation, test,
        unused}``, ``corrections.{rows, applied, unmatched, values_changed}``, ``near_bin_edge`` (what was left out of
        training, and why), ``unlabeled``, ``unreadable_unlabeled``, ``rejected``,
        ``leakage`` (removed from the pool, by what they equal) and ``by_class``.

    Raises:
        FaceTableError: if there is nothing to train on, to validate with, to test on or to label.
    """
    space = labels.space
    found = _read(config, labels, seed=seed)
    _decode(found, directory / "pixels.npy", config)
    _reject_contradictions(found, space)
    found.faces = found.faces.assign(picture=picture_ids(found.faces, directory / "pixels.npy", config))
    if config.labeled.test_sources:
        partly = (found.faces["role"] == "test") & (space.class_ids(space.encode(found.faces)) < 0)
        found.reject(partly, "a test face needs all attributes known")
    found.log_rejected()
    _check_roles(found)
    everyone = found.faces[found.faces["role"] != "unlabeled"].sort_values("image_id", ignore_index=True)
    everyone["split"] = _split(everyone, config, space, seed=seed)
    near = _near_bin_edges(everyone, config, labels)
    everyone.loc[near, "split"] = "near border"
    labeled = everyone[everyone["split"].isin(["train", "validation", "test"])]
    _check_classes(labeled, space)
    pool = found.faces[found.faces["role"] == "unlabeled"].assign(split="unlabeled")
    # a face kept out of training because its person is in the test split is as much the test's as that one
    guarded = everyone[everyone["split"] != "unused"]
    guarded = guarded.replace({"split": {"held out": "test", "near border": "train"}})  # nor is it to be guessed anew
    pool, leakage = remove_overlap(pool, guarded)
    if pool.empty:
        raise FaceTableError(
            f"no face is left in the pool: all of them equal labeled ones ({leakage['removed']}); "
            "add sources to faces.unlabeled.sources"
        )
    leakage["labeled_removed"] = int((everyone["split"] == "held out").sum())
    hidden, truth = hide_labels(pool, config.unlabeled, labels)
    write_faces(directory / "labeled.parquet", labeled, space)
    write_faces(directory / "unlabeled.parquet", hidden, space)
    _write(directory / "unlabeled_truth.parquet", truth)
    _write(directory / "rejected.parquet", found.rejected.sort_values(["role", "source", "image_path", "reason"]))
    write_crops(directory / "crops.parquet", found.crops)
    _write_leaks(directory, leakage, found.faces)
    write_json(directory / "corrections.json", found.corrections)
    splits = Counter(labeled["split"])
    return {
        "sources": found.accounts(),
        "labeled": {
            **{split: splits[split] for split in ("train", "validation", "test")},
            "unused": int((everyone["split"] == "unused").sum()),
        },
        "corrections": found.corrections["counts"],
        "near_bin_edge": _near_bin_edge_account(everyone[near], config, labels),
        "unlabeled": len(pool),
        "unreadable_unlabeled": int((found.rejected["role"] == "unlabeled").sum()),
        "rejected": len(found.rejected),
        "leakage": leakage["removed"],
        "by_class": _by_class(labeled, space),
    }


def _read(config: FacesConfig, labels: LabelsConfig, *, seed: int) -> FaceInventory:
    """Read every source; each face knows its role."""
    corrections = Corrections.read(config.correction_paths, labels)
    faces, rejected, accounts, counts = [], [], {}, []
    for role, source in config.roles:
        read = read_source(source, root=config.root, labels=labels, seed=seed, corrections=corrections)
        faces.append(read.faces.assign(role=role))
        rejected.append(read.rejected.assign(role=role))
        counts.append(read.corrections)
        accounts[source_name(source)] = {
            "role": role,
            "found": read.num_found,
            "filtered": read.num_filtered,
            "beyond_limit": read.num_beyond_limit,
        }
    return FaceInventory(
        faces=pd.concat(faces, ignore_index=True),
        rejected=pd.concat(rejected, ignore_index=True)[REJECTED_COLUMNS],
        corrections=corrections.report(CorrectionCounts.total(counts)),
        sources=accounts,
    )


def _decode(found: FaceInventory, path: Path, config: FacesConfig) -> None:
    """Decode every face, cropped as its source says; reject those that cannot be read or have no face to crop to."""
    with open_croppers(config.cropping) as framer_of:
        framers = {source_name(source): framer_of(source) for source in config.all_sources}
        of_rows = [framers[name] for name in found.faces["source"]]
        paths = found.faces["image_path"].tolist()
        decoded = decode_into(path, paths, size=config.image_size, framers=of_rows)
    hashes = pd.Series(decoded.content_hash, index=found.faces.index, dtype=object)
    found.faces = found.faces.assign(content_hash=hashes, pixel_row=np.arange(len(found.faces)))
    found.crops = crop_table(found.faces, decoded.framing)
    reasons = pd.Series(decoded.reason, index=found.faces.index, dtype=object)
    unreadable = reasons.notna()
    for name, rows in found.faces.groupby("source", sort=False).groups.items():
        if unreadable[rows].all():
            state, cure = "read", "put readable images there, or correct the source's path"
            if framers[str(name)] is not None:
                state, cure = "used", "correct the source's path, lower min_score or set a fallback in faces.cropping"
            raise FaceTableError(
                f"none of the {len(rows):,} faces in '{name}' can be {state}: {'; '.join(counted(reasons[rows]))}; "
                f"the first is {found.faces.loc[rows[0], 'image_path']}; {cure}"
            )
    found.reject(unreadable, reasons[unreadable])
    found.count_crops([name for name, framer in framers.items() if framer is not None])


def _reject_contradictions(found: FaceInventory, space: LabelSpace) -> None:
    """Reject labeled faces with the same bytes and different labels: nobody can say which are right."""
    labeled = found.faces[found.faces["role"] != "unlabeled"]
    codes = pd.DataFrame(space.encode(labeled), index=labeled.index)
    known = codes.where(codes != UNKNOWN)  # unknown contradicts nothing
    differ = (known.groupby(labeled["content_hash"]).transform("nunique") > 1).any(axis=1)
    if not differ.any():
        return
    ids = labeled[differ].groupby("content_hash")["image_id"].agg(_some_of)
    reasons = "the same picture with different labels: " + labeled.loc[differ, "content_hash"].map(ids)
    found.reject(differ.reindex(found.faces.index, fill_value=False), reasons)


def _some_of(ids: "pd.Series[str]") -> str:
    """Name a few faces: a placeholder picture may stand for thousands."""
    named = ", ".join(sorted(ids)[:3])
    return named if len(ids) <= 3 else f"{named} and {len(ids) - 3:,} more"


def _check_roles(found: FaceInventory) -> None:
    """Refuse to go on where no face is left to train and validate on, to test on, or to label, and say why."""
    keys = {"labeled": "labeled.sources", "test": "labeled.test_sources", "unlabeled": "unlabeled.sources"}
    for role, key in keys.items():
        accounts = [of for of in found.sources.values() if of["role"] == role]
        if not accounts or (found.faces["role"] == role).any():
            continue
        reasons = found.rejected.loc[found.rejected["role"] == role, "reason"]
        num_found, num_filtered = (sum(of[count] for of in accounts) for count in ("found", "filtered"))
        raise FaceTableError(
            f"faces.{key}: none of the {num_found:,} faces found can be used: "
            + "; ".join([*counted(reasons), *([f"{num_filtered:,} × left out by the filter"] if num_filtered else [])])
            + "; mend the files, widen the filter or add sources"
        )


def _split(faces: pd.DataFrame, config: FacesConfig, space: LabelSpace, *, seed: int) -> "pd.Series[str]":
    """Give each labeled face ``train``, ``validation``, ``test``, ``unused`` (over the limit) or ``held out``."""
    strata = space.class_ids(space.encode(faces))
    groups = connected_groups(faces["person_id"].tolist(), faces["picture"].tolist())
    split = np.full(len(faces), "train", dtype=object)
    settings = config.labeled
    if settings.test_fraction is not None:
        chosen = hold_out(strata, groups, fraction=settings.test_fraction, seed=(seed, _TEST_SEED), keep=2)
        split[chosen] = "test"
    else:
        is_test = (faces["role"] == "test").to_numpy(bool)
        split[np.isin(groups, groups[is_test])] = "held out"  # labeled, but a person or picture of the test
        split[is_test] = "test"
    rest = np.flatnonzero(split == "train")
    if settings.limit is not None:
        kept = limit_faces(strata[rest], groups[rest], limit=settings.limit, seed=(seed, _LIMIT_SEED))
        split[rest[~kept]] = "unused"
        rest = rest[kept]
    fraction = settings.validation_fraction
    chosen = hold_out(strata[rest], groups[rest], fraction=fraction, seed=(seed, _VALIDATION_SEED))
    split[rest[chosen]] = "validation"
    return pd.Series(split, index=faces.index)


def _near_bin_edges(everyone: pd.DataFrame, config: FacesConfig, labels: LabelsConfig) -> "pd.Series[bool]":
    """Mark the training faces whose age lies too near to a border.

    Raises:
        FaceTableError: if a class would be left without a face to train on.
    """
    train = everyone["split"] == "train"
    settings = config.labeled
    if settings.drop_near_bin_edges is None:
        return train & False
    ages = everyone["age_years"].to_numpy(np.float64)
    bin_edges = [border for attribute in labels.made_from_age for border in attribute.bin_edges]
    near = train & near_bin_edge(ages, bin_edges, within=settings.drop_near_bin_edges, side=settings.drop_side)
    ids = pd.Series(labels.space.class_ids(labels.space.encode(everyone)), index=everyone.index)
    starved = sorted(set(ids[train]) - set(ids[train & ~near]) - {UNKNOWN})
    if starved:
        rows = [f"{labels.space.class_name(number)}: {int((ids[train] == number).sum())} faces" for number in starved]
        headline = (
            f"faces.labeled.drop_near_bin_edges {settings.drop_near_bin_edges:g} (drop_side {settings.drop_side}) leaves "
            f"{len(starved)} classes without a training face; drop fewer years, or one side of the bin_edges only"
        )
        raise FaceTableError(list_of_faults(headline, rows))
    return near


def _near_bin_edge_account(near: pd.DataFrame, config: FacesConfig, labels: LabelsConfig) -> dict[str, Any]:
    """Tell what was left out of training, by border; of two near bin_edges a face counts at both."""
    within, side = config.labeled.drop_near_bin_edges, config.labeled.drop_side
    if within is None:
        return {}
    ages = near["age_years"].to_numpy(np.float64)
    by_border = {
        f"{attribute.name} {border:g}": int(near_bin_edge(ages, [border], within=within, side=side).sum())
        for attribute in labels.made_from_age
        for border in attribute.bin_edges
    }
    years = "year" if within == 1 else "years"
    return {"reason": f"age within {within:g} {years} of a border, {side}", "faces": len(near), "by_border": by_border}


def _check_classes(labeled: pd.DataFrame, space: LabelSpace) -> None:
    if not (labeled["split"] == "test").any():
        raise FaceTableError("no labeled face is fully known and free for the test split; add labeled faces")
    by_class = _by_class(labeled, space)
    starved = [name for name, counts in by_class.items() if counts["validation"] == 0]
    if starved:
        rows = [
            f"{name}: {sum(counts.values())} labeled, {counts['train']} train, {counts['validation']} validation"
            for name, counts in by_class.items()
            if name in starved
        ]
        headline = (
            f"{len(starved)} of {space.num_classes} classes have no validation face; add labeled faces, raise "
            "faces.labeled.validation_fraction (or limit), or have fewer classes"
        )
        raise FaceTableError(list_of_faults(headline, rows))


def _by_class(labeled: pd.DataFrame, space: LabelSpace) -> dict[str, dict[str, int]]:
    ids = space.class_ids(space.encode(labeled))
    counts = Counter(zip(ids.tolist(), labeled["split"], strict=True))
    splits = ("train", "validation", "test")
    return {name: {split: counts[number, split] for split in splits} for number, name in enumerate(space.class_names)}


def _write_leaks(directory: Path, leakage: dict[str, Any], faces: pd.DataFrame) -> None:
    """Write what was removed from the pool: counts and pairs, and a table of what equals what, both with their paths."""
    write_json(directory / "leakage.json", leakage)
    paths = faces.drop_duplicates("image_id").set_index("image_id")["image_path"]
    table = pd.DataFrame(leakage["pairs"], columns=["image_id", "same_as", "split", "why"])
    table.insert(1, "image_path", table["image_id"].map(paths))
    table.insert(3, "same_as_path", table["same_as"].map(paths))
    with atomic_path(directory / "leakage.csv") as beside:
        table.to_csv(beside, index=False, lineterminator="\n", encoding="utf-8")


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as beside:
        table.astype("string").to_parquet(beside, index=False)
