"""Reading of a source: its faces, labels, corrections, filter and limit, with a reason for every rejected entry."""

import hashlib
import os
import unicodedata
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np
import pandas as pd

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.config.sources import (
    AfadSource,
    AllAgeFacesSource,
    AppaRealSource,
    CelebASource,
    CsvSource,
    DrawnSource,
    FairFaceSource,
    FolderSource,
    ImdbWikiSource,
    LfwSource,
    MaskBaseSource,
    MaskedFaceNetSource,
    MegaAgeAsianSource,
    RmfdSource,
    Source,
    UtkFaceSource,
    WebDatasetSource,
)
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.decoding import UnreadableFace, short_side_pixels
from ssl_pipeline.faces.image_files import list_files
from ssl_pipeline.faces.sampling import stratified_sample
from ssl_pipeline.faces.sources.all_age_faces import read_all_age_faces
from ssl_pipeline.faces.sources.appa_real import read_appa_real
from ssl_pipeline.faces.sources.celeba import read_celeba
from ssl_pipeline.faces.sources.columns import LabeledRows, label_rows
from ssl_pipeline.faces.sources.corrections import NO_CORRECTIONS, CorrectionCounts, Corrections
from ssl_pipeline.faces.sources.csv_table import matching_tables, read_csv_source
from ssl_pipeline.faces.sources.drawn import drawing_digest, read_drawn
from ssl_pipeline.faces.sources.fairface import read_fairface
from ssl_pipeline.faces.sources.folder import read_folder
from ssl_pipeline.faces.sources.imdb_wiki import read_imdb_wiki
from ssl_pipeline.faces.sources.maskbase import read_maskbase
from ssl_pipeline.faces.sources.megaage_asian import read_megaage_asian
from ssl_pipeline.faces.sources.path_patterns import read_path_pattern
from ssl_pipeline.faces.sources.raw_faces import RawFaces, existing_folder, source_folder, source_name
from ssl_pipeline.faces.sources.webdataset import read_webdataset
from ssl_pipeline.labels import BoolArray, LabelSpace

__all__ = ["REJECTED_COLUMNS", "SourceFaces", "fingerprint", "read_source", "source_name"]

REJECTED_COLUMNS = ["source", "image_id", "image_path", "reason"]


@dataclass(frozen=True)
class SourceFaces:
    """Faces and counts of a source.

    ``num_found == len(faces) + len(rejected) + len(passed_over) + num_filtered + num_beyond_limit``.

    Attributes:
        faces: one row per face, sorted by image_id: image_id (``name:relative path``), image_path (``root/path/…``),
            person_id (``people:person``), source; one nullable text column per attribute; age_years (float) and
            origin, null if unknown; derived, the known attributes that follow from how the image was made, joined by
            commas, null if there are none.
        rejected: REJECTED_COLUMNS; one row per file or table row that cannot be used.
        has_person: whether the source names the person of a face, bool [len(faces)].
        columns: names of the columns that the source's files give.
        passed_over: files in a listed folder that are not images, by their paths relative to the source's folder.
        num_found: files or table rows found.
        num_filtered: faces excluded by the source's filter.
        num_beyond_limit: faces excluded by the source's limit.
        corrections: counts over all faces found.
    """

    faces: pd.DataFrame
    rejected: pd.DataFrame
    has_person: BoolArray
    columns: tuple[str, ...]
    passed_over: list[str]
    num_found: int
    num_filtered: int
    num_beyond_limit: int
    corrections: CorrectionCounts


def read_source(
    source: Source, *, root: Path, labels: LabelsConfig, seed: int, corrections: Corrections = NO_CORRECTIONS
) -> SourceFaces:
    """Read a source's faces: map columns, derive attributes, correct, check, filter and limit, in this order.

    Files that are not images, and hidden ones (``.DS_Store``, ``._0001.jpg``), are passed over and counted. The limit keeps the proportions of the
    combinations of known attributes; it depends on the seed and the source's name, not on the order of rows or files.
    No image is decoded; `min_side_pixels` reads headers.

    Args:
        source: one section of the config.
        root: folder that the source's path is relative to.
        labels: the attributes, and how numbers become their values.
        seed: the run's seed.
        corrections: an invalid value that is corrected does not reject its row.

    Returns:
        Faces, rejected entries and counts.

    Raises:
        FaceTableError: if the folder or table is missing or empty, the mapping names missing columns, or the filter
            needs a column that the source does not have.
    """
    raw = read_raw(source, root=root)
    rows = label_rows(raw, source, labels)
    corrected = corrections.apply(_with_identity(raw, rows, source, root=root), labels)
    all_faces = corrected.faces
    faults = _rejection_reasons(raw, rows, all_faces, corrected=corrected.cells)
    usable = all_faces.drop(index=list(faults)).sort_values("image_id")
    _check_filter(source, rows, usable)
    passing = _apply_filter(usable, source)
    headers = _check_headers(passing, source.filter.min_side_pixels)
    faults |= {row: raw.locations[row] + reason for row, reason in headers.unreadable.items()}
    passing = passing.drop(index=[*headers.too_small, *headers.unreadable])
    kept = _apply_limit(passing, source, space=labels.space, seed=seed)
    return SourceFaces(
        faces=kept.drop(columns=["min_age_years", "max_age_years"])
        .assign(derived=_derived_names(kept, source))
        .reset_index(drop=True),
        rejected=_rejected_table(raw, all_faces, faults, source, root=root),
        has_person=rows.table["person_id"].notna().to_numpy(bool)[kept.index],
        columns=tuple(raw.columns),
        passed_over=raw.passed_over,
        num_found=len(raw.paths) + len(raw.rejected) + len(raw.passed_over),
        num_filtered=len(usable) - len(passing) - len(headers.unreadable),
        num_beyond_limit=len(passing) - len(kept),
        corrections=corrected.counts,
    )


def fingerprint(source: Source, *, root: Path) -> str:
    """Digest a source without reading its files; a changed digest means that the source must be read again.

    For drawn faces the digest covers the parameters. For other sources it covers the relative path, size and
    modification time of every file below the folder (and of the table), hidden files excluded.

    Raises:
        FaceTableError: if the source's folder does not exist.
    """
    if isinstance(source, DrawnSource):
        return drawing_digest(source)
    folder = existing_folder(source, root=root)
    files = {name: folder / name for name in list_files(folder)} if folder.is_dir() else {folder.name: folder}
    if isinstance(source, CsvSource):
        files |= {str(source.table): table for table in matching_tables(source, folder)}
    digest = hashlib.sha256(source.type.encode())
    for name, file in sorted(files.items()):
        try:
            stat = file.stat()
        except OSError:  # a broken link, or a file that was just deleted
            digest.update(os.fsencode(f"{name}\0gone\0"))
        else:
            digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()


def read_raw(source: Source, *, root: Path) -> RawFaces:  # noqa: C901 - one case per type of source
    """Read a source's faces as its own files describe them.

    Raises:
        FaceTableError: if the folder or table is missing, empty or of another set.
    """
    match source:
        case DrawnSource():
            return read_drawn(source, root=root)
        case FolderSource():
            return read_folder(source, root=root)
        case CsvSource():
            return read_csv_source(source, root=root)
        case WebDatasetSource():
            return read_webdataset(source, root=root)
        case MaskBaseSource():
            return read_maskbase(source, root=root)
        case FairFaceSource():
            return read_fairface(source, root=root)
        case AllAgeFacesSource():
            return read_all_age_faces(source, root=root)
        case AppaRealSource():
            return read_appa_real(source, root=root)
        case MegaAgeAsianSource():
            return read_megaage_asian(source, root=root)
        case CelebASource():
            return read_celeba(source, root=root)
        case ImdbWikiSource():
            return read_imdb_wiki(source, root=root)
        case AfadSource() | LfwSource() | MaskedFaceNetSource() | RmfdSource() | UtkFaceSource():
            return read_path_pattern(source, root=root)
        case _:
            assert_never(source)


def _with_identity(raw: RawFaces, rows: LabeledRows, source: Source, *, root: Path) -> pd.DataFrame:
    """Add the identity columns; an image without a named person is a different person."""
    name, folder = source_name(source), source_folder(source, root=root)
    persons, people = rows.table["person_id"], source.people or name
    paths = [unicodedata.normalize("NFC", path) for path in raw.paths]  # macOS decomposes letters in file names
    identity = {
        "image_id": [f"{name}:{path}" for path in paths],
        "image_path": [str(folder / path) for path in raw.paths],
        "person_id": [f"{people}:{person or path}" for person, path in zip(persons, paths, strict=True)],
        "source": [name] * len(raw.paths),
    }
    return pd.concat([pd.DataFrame(identity, dtype="str"), rows.table.drop(columns="person_id")], axis=1)


def _rejection_reasons(
    raw: RawFaces, rows: LabeledRows, faces: pd.DataFrame, *, corrected: AbstractSet[tuple[int, str]]
) -> dict[int, str]:
    """Return {row: reason} for rows with invalid values that are not corrected, and for images listed twice."""
    reasons: dict[int, list[str]] = {}
    for row, faults in rows.faults.items():
        if uncorrected := [fault for column, fault in faults.items() if (row, column) not in corrected]:
            reasons[row] = uncorrected
    repeated = faces.duplicated("image_id")
    contradicting_ids = faces.loc[repeated & ~faces.duplicated(), "image_id"]
    contradicting = faces["image_id"].isin(contradicting_ids)
    for row in np.flatnonzero(contradicting).tolist():
        reasons.setdefault(row, []).append("duplicate image id, and its rows contradict each other")
    for row in np.flatnonzero(repeated & ~contradicting).tolist():
        reasons.setdefault(row, []).append("duplicate image id, equal to an earlier row")
    return {row: raw.locations[row] + "; ".join(reasons[row]) for row in sorted(reasons)}


def _check_filter(source: Source, rows: LabeledRows, usable: pd.DataFrame) -> None:
    """Refuse a filter on a column without known values: it would exclude every face."""
    for key in ("origin", "min_age_years", "max_age_years"):
        column = "origin" if key == "origin" else "age_years"
        available = column in rows.available or (column == "age_years" and "age_range" in rows.available)
        values = usable["origin" if key == "origin" else "min_age_years"]
        unknown = not available or (len(usable) > 0 and bool(values.isna().all()))
        if getattr(source.filter, key) is not None and unknown:
            raise FaceTableError(
                f"source '{source_name(source)}' has no known '{column}', so filter.{key} would exclude every face; "
                f"remove filter.{key}, or name the source's column in columns.{column}"
            )


def _apply_filter(usable: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Keep the faces with a known and selected origin and age, bounds included."""
    passes = pd.Series(True, index=usable.index)
    if source.filter.origin is not None:
        passes &= usable["origin"].isin(source.filter.origin)
    if source.filter.min_age_years is not None:
        passes &= usable["min_age_years"] >= source.filter.min_age_years
    if source.filter.max_age_years is not None:
        passes &= usable["max_age_years"] <= source.filter.max_age_years
    return usable[passes]


@dataclass(frozen=True)
class _Headers:
    too_small: list[int]
    unreadable: dict[int, str]


def _check_headers(faces: pd.DataFrame, min_side_pixels: int | None) -> _Headers:
    """Read image headers: rows with a short side below the minimum, and rows without a readable header."""
    too_small: list[int] = []
    unreadable: dict[int, str] = {}
    if min_side_pixels is not None:
        for row, path in zip(faces.index.tolist(), faces["image_path"], strict=True):
            try:
                if short_side_pixels(Path(path)) < min_side_pixels:
                    too_small.append(row)
            except UnreadableFace as error:
                unreadable[row] = str(error)
    return _Headers(too_small, unreadable)


def _apply_limit(faces: pd.DataFrame, source: Source, *, space: LabelSpace, seed: int) -> pd.DataFrame:
    """Sample at most `limit` faces, stratified by the combination of known attributes; unknown is one more value."""
    if source.limit is None or source.limit >= len(faces):
        return faces
    strata = space.known_combinations(space.encode(faces))
    name_seed = int.from_bytes(hashlib.sha256(source_name(source).encode()).digest()[:8])
    return faces.iloc[stratified_sample(strata, size=source.limit, rng=np.random.default_rng([seed, name_seed]))]


def _derived_names(faces: pd.DataFrame, source: Source) -> "pd.Series[str]":
    names = [[name for name in source.derived if face[name] is not None] for face in faces.to_dict("records")]
    return pd.Series([",".join(known) or None for known in names], index=faces.index, dtype=object)


def _rejected_table(
    raw: RawFaces, faces: pd.DataFrame, faults: Mapping[int, str], source: Source, *, root: Path
) -> pd.DataFrame:
    """List rejected entries, then faces that were rejected later."""
    name, folder = source_name(source), source_folder(source, root=root)
    entries = [(name, f"{name}:{entry.path}", str(folder / entry.path), entry.reason) for entry in raw.rejected]
    ids, paths = faces["image_id"].tolist(), faces["image_path"].tolist()
    faulty = [(name, ids[row], paths[row], reason) for row, reason in sorted(faults.items())]
    return pd.DataFrame([*entries, *faulty], columns=REJECTED_COLUMNS, dtype="str")
