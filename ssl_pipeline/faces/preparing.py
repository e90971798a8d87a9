"""From sources to face tables: read, decode once, split by person, take leaks out of the pool. No face is lost unsaid."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config import FacesConfig, LabelsConfig, Source
from ssl_pipeline.errors import FaceTableError, list_of_faults
from ssl_pipeline.faces.framing import open_framers
from ssl_pipeline.faces.leakage import remove_overlap
from ssl_pipeline.faces.pixels import decode_into
from ssl_pipeline.faces.sources.reading import read_source, source_name
from ssl_pipeline.faces.splitting import same_person_or_picture, take_limit, take_share
from ssl_pipeline.faces.table import crop_table, write_crops, write_faces
from ssl_pipeline.labels import UNKNOWN, LabelSpace
from ssl_pipeline.runs import atomic_path, write_json

logger = logging.getLogger(__name__)

OUTPUT_NAMES = (
    "labeled.parquet",
    "unlabeled.parquet",
    "unlabeled_truth.parquet",
    "rejected.parquet",
    "crops.parquet",
    "leakage.json",
    "pixels.npy",
)
_REJECTED = ["source", "image_id", "image_path", "role", "reason"]
_TEST_SEED, _LIMIT_SEED, _VALIDATION_SEED = 1, 2, 3


@dataclass
class _Found:
    """The faces at hand, and the account of every source."""

    faces: pd.DataFrame
    rejected: pd.DataFrame
    crops: pd.DataFrame = field(default_factory=pd.DataFrame)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reject(self, rows: "pd.Series[bool]", reasons: Any) -> None:
        """Move faces to the rejected ones, with their reasons."""
        moved = self.faces.loc[rows].assign(reason=reasons)
        self.rejected = pd.concat([self.rejected, moved[_REJECTED]], ignore_index=True)
        self.faces = self.faces.loc[~rows]


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
        (``face``, ``center_square``, ``whole``; ``crops.parquet`` names each); ``labeled.{train, validation, test, unused}``, ``unlabeled``, ``unreadable_unlabeled``, ``rejected``,
        ``leakage`` (removed from the pool, by what they equal) and ``by_class``.

    Raises:
        FaceTableError: if there is nothing to train on, to validate with, to test on or to label.
    """
    space = labels.space
    found = _read(config, labels, seed=seed)
    _decode(found, directory / "pixels.npy", config)
    _reject_contradictions(found, space)
    if config.labeled.test_sources:
        partly = (found.faces["role"] == "test") & (space.class_ids(space.encode(found.faces)) < 0)
        found.reject(partly, "a test face needs all attributes known")
    _log_rejected(found.rejected)
    _check_roles(found)
    everyone = found.faces[found.faces["role"] != "unlabeled"].sort_values("image_id", ignore_index=True)
    everyone["split"] = _split(everyone, config, space, seed=seed)
    labeled = everyone[everyone["split"].isin(["train", "validation", "test"])]
    _check_classes(labeled, space)
    pool = found.faces[found.faces["role"] == "unlabeled"].assign(split="unlabeled")
    # a face kept out of training because its person is in the test split is as much the test's as that one
    guarded = everyone[everyone["split"] != "unused"].replace({"split": {"held out": "test"}})
    pool, leakage = remove_overlap(pool, guarded)
    if pool.empty:
        raise FaceTableError(
            f"no face is left in the pool: all of them equal labeled ones ({leakage['removed']}); "
            "add sources to faces.unlabeled.sources"
        )
    leakage["labeled_removed"] = int((everyone["split"] == "held out").sum())
    truth = pool[["image_id", *space.names]]
    if config.unlabeled.hide_labels:
        pool = pool.assign(**dict.fromkeys([*space.names, "age_years"]))
    write_faces(directory / "labeled.parquet", labeled, space)
    write_faces(directory / "unlabeled.parquet", pool, space)
    _write(directory / "unlabeled_truth.parquet", truth if config.unlabeled.hide_labels else truth.iloc[:0])
    _write(directory / "rejected.parquet", found.rejected.sort_values(["role", "source", "image_path", "reason"]))
    write_crops(directory / "crops.parquet", found.crops)
    write_json(directory / "leakage.json", leakage)
    splits = Counter(labeled["split"])
    return {
        "sources": _accounts(found),
        "labeled": {
            **{split: splits[split] for split in ("train", "validation", "test")},
            "unused": int((everyone["split"] == "unused").sum()),
        },
        "unlabeled": len(pool),
        "unreadable_unlabeled": int((found.rejected["role"] == "unlabeled").sum()),
        "rejected": len(found.rejected),
        "leakage": leakage["removed"],
        "by_class": _by_class(labeled, space),
    }


def _read(config: FacesConfig, labels: LabelsConfig, *, seed: int) -> _Found:
    """Read every source; each face knows its role."""
    roles: list[tuple[str, tuple[Source, ...]]] = [
        ("labeled", config.labeled.sources),
        ("test", config.labeled.test_sources),
        ("unlabeled", config.unlabeled.sources),
    ]
    faces, rejected, accounts = [], [], {}
    for role, sources in roles:
        for source in sources:
            read = read_source(source, root=config.root, labels=labels, seed=seed)
            faces.append(read.faces.assign(role=role))
            rejected.append(read.rejected.assign(role=role))
            accounts[source_name(source)] = {
                "role": role,
                "found": read.num_found,
                "filtered": read.num_filtered,
                "beyond_limit": read.num_beyond_limit,
            }
    return _Found(
        pd.concat(faces, ignore_index=True), pd.concat(rejected, ignore_index=True)[_REJECTED], sources=accounts
    )


def _decode(found: _Found, path: Path, config: FacesConfig) -> None:
    """Decode every face, cropped as its source says; reject those that cannot be read or have no face to crop to."""
    with open_framers(config.cropping) as framer_of:
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
                f"none of the {len(rows):,} faces in '{name}' can be {state}: {'; '.join(_counted(reasons[rows]))}; "
                f"the first is {found.faces.loc[rows[0], 'image_path']}; {cure}"
            )
    found.reject(unreadable, reasons[unreadable])
    _account_for_crops(found, [name for name, framer in framers.items() if framer is not None])


def _account_for_crops(found: _Found, cropped: list[str]) -> None:
    """Count a cropped source's crops by their kind, and say where a fallback was used."""
    for name in cropped:
        by_kind = Counter(found.crops.loc[found.crops["source"] == name, "crop"])
        found.sources[name]["cropped"] = dict(sorted(by_kind.items()))
        for kind in sorted(by_kind.keys() - {"face"}):
            logger.warning("%s: %d pictures without a face that counts are taken as %s", name, by_kind[kind], kind)


def _reject_contradictions(found: _Found, space: LabelSpace) -> None:
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


def _check_roles(found: _Found) -> None:
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
            + "; ".join([*_counted(reasons), *([f"{num_filtered:,} × left out by the filter"] if num_filtered else [])])
            + "; mend the files, widen the filter or add sources"
        )


def _split(faces: pd.DataFrame, config: FacesConfig, space: LabelSpace, *, seed: int) -> "pd.Series[str]":
    """Give each labeled face ``train``, ``validation``, ``test``, ``unused`` (over the limit) or ``held out``."""
    strata = space.class_ids(space.encode(faces))
    groups = same_person_or_picture(faces["person_id"].tolist(), faces["content_hash"].tolist())
    split = np.full(len(faces), "train", dtype=object)
    settings = config.labeled
    if settings.test_fraction is not None:
        chosen = take_share(strata, groups, fraction=settings.test_fraction, seed=(seed, _TEST_SEED), keep=2)
        split[chosen] = "test"
    else:
        is_test = (faces["role"] == "test").to_numpy(bool)
        split[np.isin(groups, groups[is_test])] = "held out"  # labeled, but a person or picture of the test
        split[is_test] = "test"
    rest = np.flatnonzero(split == "train")
    if settings.limit is not None:
        kept = take_limit(strata[rest], _renumber(groups[rest]), limit=settings.limit, seed=(seed, _LIMIT_SEED))
        split[rest[~kept]] = "unused"
        rest = rest[kept]
    chosen = take_share(
        strata[rest],
        _renumber(groups[rest]),
        fraction=settings.validation_fraction,
        seed=(seed, _VALIDATION_SEED),
    )
    split[rest[chosen]] = "validation"
    return pd.Series(split, index=faces.index)


def _renumber(groups: Any) -> Any:
    return np.unique(groups, return_inverse=True)[1]


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


def _log_rejected(rejected: pd.DataFrame) -> None:
    for name, rows in rejected.groupby("source"):
        logger.warning("%s: %d faces rejected: %s", name, len(rows), "; ".join(_counted(rows["reason"])))


def _counted(reasons: "pd.Series[str]", *, at_most: int = 3) -> list[str]:
    """Count the commonest reasons, and the others together."""
    common = Counter(reasons).most_common(at_most)
    num_others = len(reasons) - sum(number for _, number in common)
    others = [f"{num_others:,} × other reasons"] if num_others else []
    return [*(f"{number:,} × {reason}" for reason, number in common), *others]


def _accounts(found: _Found) -> dict[str, dict[str, Any]]:
    used, rejected = Counter(found.faces["source"]), Counter(found.rejected["source"])
    return {name: {**of, "rejected": rejected[name], "used": used[name]} for name, of in found.sources.items()}


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as beside:
        table.astype("string").to_parquet(beside, index=False)
