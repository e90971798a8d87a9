"""Reading a source: find its faces, map and check what is said of them, filter, limit. Nothing is left out unsaid."""

import hashlib
import os
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
)
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.decoding import UnreadableFace, short_side_pixels
from ssl_pipeline.faces.sampling import stratified_sample
from ssl_pipeline.faces.sources.afad import find_afad
from ssl_pipeline.faces.sources.all_age_faces import find_all_age_faces
from ssl_pipeline.faces.sources.appa_real import find_appa_real
from ssl_pipeline.faces.sources.celeba import find_celeba
from ssl_pipeline.faces.sources.columns import LabeledRows, label_rows
from ssl_pipeline.faces.sources.corrections import NO_CORRECTIONS, CorrectionCounts, Corrections
from ssl_pipeline.faces.sources.csv_table import find_in_csv
from ssl_pipeline.faces.sources.drawn import drawing_digest, find_drawn
from ssl_pipeline.faces.sources.fairface import find_fairface
from ssl_pipeline.faces.sources.folder import find_in_folder
from ssl_pipeline.faces.sources.imdb_wiki import find_imdb_wiki
from ssl_pipeline.faces.sources.lfw import find_lfw
from ssl_pipeline.faces.sources.maskbase import find_maskbase
from ssl_pipeline.faces.sources.maskedface_net import find_maskedface_net
from ssl_pipeline.faces.sources.megaage_asian import find_megaage_asian
from ssl_pipeline.faces.sources.raw import (
    RawFaces,
    existing_folder,
    list_files,
    source_folder,
    source_name,
    without_odd_names,
)
from ssl_pipeline.faces.sources.rmfd import find_rmfd
from ssl_pipeline.faces.sources.utkface import find_utkface
from ssl_pipeline.labels import LabelSpace

__all__ = ["REJECTED_COLUMNS", "SourceFaces", "fingerprint", "read_source", "source_name"]

REJECTED_COLUMNS = ["source", "image_id", "image_path", "reason"]


@dataclass(frozen=True)
class SourceFaces:
    """What a source came to. ``num_found == len(faces) + len(rejected) + num_filtered + num_beyond_limit``.

    Attributes:
        faces: one row a face, by image_id: image_id (``name:relative path``), image_path (``root/path/…``),
            person_id (``people:person``), source; one nullable text column an attribute; age_years (float, years) and
            origin, both null where unknown; derived, the known attributes that nobody had to look for, joined by
            commas, null where there is none.
        rejected: REJECTED_COLUMNS; one row for each file or row that cannot be used.
        num_found: files or rows looked at.
        num_filtered: left out by the source's filter.
        num_beyond_limit: left out by the source's limit.
        corrections: what they came to, over all rows that were found.
    """

    faces: pd.DataFrame
    rejected: pd.DataFrame
    num_found: int
    num_filtered: int
    num_beyond_limit: int
    corrections: CorrectionCounts


def read_source(
    source: Source, *, root: Path, labels: LabelsConfig, seed: int, corrections: Corrections = NO_CORRECTIONS
) -> SourceFaces:
    """Read a source's faces: map columns and values, derive attributes, correct, check, filter, limit, in this order.

    Hidden files (``.DS_Store``, ``._0001.jpg``) are ignored and not counted. The limit keeps the proportions of the
    combinations of attributes that are known; it depends on the seed and the source's name alone, not on the order of
    rows or files. No image is decoded; `min_side_pixels` reads headers.

    Args:
        source: one section of the config.
        root: the folder that the source's path is relative to.
        labels: the attributes, and how numbers become their values.
        seed: the run's seed.
        corrections: what to put right; a wrong value that is corrected is no longer a fault of its row.

    Returns:
        The faces, what was rejected with its reason, and the counts.

    Raises:
        FaceTableError: if the folder or table is missing or empty, the mapping names what is not there, or the filter
            asks for what the source does not know.
    """
    raw = without_odd_names(_find(source, root=root))
    rows = label_rows(raw, source, labels)
    corrected = corrections.apply(_identify(raw, rows, source, root=root), labels)
    identified = corrected.faces
    faults = _faults(raw, rows, identified, mended=corrected.cells)
    usable = identified.drop(index=list(faults)).sort_values("image_id")
    _check_filter(source, rows, usable)
    passing = _pass_filter(usable, source)
    headers = _look_at_headers(passing, source.filter.min_side_pixels)
    faults |= {row: raw.places[row] + reason for row, reason in headers.unreadable.items()}
    passing = passing.drop(index=[*headers.too_small, *headers.unreadable])
    kept = _limited(passing, source, space=labels.space, seed=seed)
    return SourceFaces(
        faces=kept.drop(columns=["age_least", "age_most"])
        .assign(derived=_derived(kept, source))
        .reset_index(drop=True),
        rejected=_rejected(raw, identified, faults, source, root=root),
        num_found=len(raw.paths) + len(raw.rejected),
        num_filtered=len(usable) - len(passing) - len(headers.unreadable),
        num_beyond_limit=len(passing) - len(kept),
        corrections=corrected.counts,
    )


def fingerprint(source: Source, *, root: Path) -> str:
    """Digest a source cheaply, so that another digest means that it has to be read again.

    Drawn faces follow from their parameters alone. For any other source it covers the relative path, size and time of
    change of every file below its folder (and of its table), hidden ones left out; not what the files hold.

    Raises:
        FaceTableError: if the source's folder is not there.
    """
    if isinstance(source, DrawnSource):
        return drawing_digest(source)
    folder = existing_folder(source, root=root)
    files = {name: folder / name for name in list_files(folder)}
    if isinstance(source, CsvSource):
        files[str(source.table)] = folder / source.table
    digest = hashlib.sha256(source.type.encode())
    for name, file in sorted(files.items()):
        try:
            stat = file.stat()
        except OSError:  # a broken link, or a file that has just gone
            digest.update(os.fsencode(f"{name}\0gone\0"))
        else:
            digest.update(os.fsencode(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()


def _find(source: Source, *, root: Path) -> RawFaces:  # noqa: C901 - a case a kind of source
    match source:
        case DrawnSource():
            return find_drawn(source, root=root)
        case FolderSource():
            return find_in_folder(source, root=root)
        case CsvSource():
            return find_in_csv(source, root=root)
        case UtkFaceSource():
            return find_utkface(source, root=root)
        case MaskBaseSource():
            return find_maskbase(source, root=root)
        case FairFaceSource():
            return find_fairface(source, root=root)
        case AfadSource():
            return find_afad(source, root=root)
        case AllAgeFacesSource():
            return find_all_age_faces(source, root=root)
        case AppaRealSource():
            return find_appa_real(source, root=root)
        case MegaAgeAsianSource():
            return find_megaage_asian(source, root=root)
        case CelebASource():
            return find_celeba(source, root=root)
        case ImdbWikiSource():
            return find_imdb_wiki(source, root=root)
        case LfwSource():
            return find_lfw(source, root=root)
        case MaskedFaceNetSource():
            return find_maskedface_net(source, root=root)
        case RmfdSource():
            return find_rmfd(source, root=root)
        case _:
            assert_never(source)


def _identify(raw: RawFaces, rows: LabeledRows, source: Source, *, root: Path) -> pd.DataFrame:
    """Give every row its identity; somebody whom the source does not name is a person of one image."""
    name, folder = source_name(source), source_folder(source, root=root)
    persons, people = rows.table["person_id"], source.people or name
    identity = {
        "image_id": [f"{name}:{path}" for path in raw.paths],
        "image_path": [str(folder / path) for path in raw.paths],
        "person_id": [f"{people}:{person or path}" for person, path in zip(persons, raw.paths, strict=True)],
        "source": [name] * len(raw.paths),
    }
    return pd.concat([pd.DataFrame(identity, dtype="str"), rows.table.drop(columns="person_id")], axis=1)


def _faults(
    raw: RawFaces, rows: LabeledRows, identified: pd.DataFrame, *, mended: AbstractSet[tuple[int, str]]
) -> dict[int, str]:
    """Give each row that cannot be used its reason: wrong values that nobody mended, an image listed twice."""
    reasons: dict[int, list[str]] = {}
    for row, faults in rows.faults.items():
        if left := [fault for column, fault in faults.items() if (row, column) not in mended]:
            reasons[row] = left
    again = identified.duplicated("image_id")
    contradicted = identified.loc[again & ~identified.duplicated(), "image_id"]
    contradictory = identified["image_id"].isin(contradicted)
    for row in np.flatnonzero(contradictory).tolist():
        reasons.setdefault(row, []).append("duplicate image id, and its rows contradict each other")
    for row in np.flatnonzero(again & ~contradictory).tolist():
        reasons.setdefault(row, []).append("duplicate image id, and an earlier row says the same")
    return {row: raw.places[row] + "; ".join(reasons[row]) for row in sorted(reasons)}


def _check_filter(source: Source, rows: LabeledRows, usable: pd.DataFrame) -> None:
    """Refuse a filter on what the source never knows: it would leave out every face."""
    asked = {
        "origin": source.filter.origin,
        "min_age_years": source.filter.min_age_years,
        "max_age_years": source.filter.max_age_years,
    }
    for key, value in asked.items():
        column = "origin" if key == "origin" else "age_years"
        known = column in rows.known or (column == "age_years" and "age_range" in rows.known)
        values = usable["origin" if key == "origin" else "age_least"]
        unknown = not known or (len(usable) > 0 and bool(values.isna().all()))
        if value is not None and unknown:
            raise FaceTableError(
                f"source '{source_name(source)}' does not know '{column}', so filter.{key} would leave out every face; "
                f"remove filter.{key}, or name the source's column in columns.{column}"
            )


def _pass_filter(usable: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Keep the faces whose origin and age are known and asked for, bounds included."""
    passes = pd.Series(True, index=usable.index)
    if source.filter.origin is not None:
        passes &= usable["origin"].isin(source.filter.origin)
    if source.filter.min_age_years is not None:
        passes &= usable["age_least"] >= source.filter.min_age_years
    if source.filter.max_age_years is not None:
        passes &= usable["age_most"] <= source.filter.max_age_years
    return usable[passes]


@dataclass(frozen=True)
class _Headers:
    too_small: list[int]
    unreadable: dict[int, str]


def _look_at_headers(faces: pd.DataFrame, min_side_pixels: int | None) -> _Headers:
    """Look at the headers of the images: rows whose short side is below the minimum, and rows without a header."""
    too_small: list[int] = []
    unreadable: dict[int, str] = {}
    if min_side_pixels is not None:
        for row, path in faces["image_path"].items():
            try:
                if short_side_pixels(Path(path)) < min_side_pixels:
                    too_small.append(int(str(row)))
            except UnreadableFace as error:
                unreadable[int(str(row))] = str(error)
    return _Headers(too_small, unreadable)


def _limited(faces: pd.DataFrame, source: Source, *, space: LabelSpace, seed: int) -> pd.DataFrame:
    """Draw at most `limit` faces, the combinations of known attributes in proportion; unknown is a value of its own."""
    if source.limit is None or source.limit >= len(faces):
        return faces
    strata = space.known_combinations(space.encode(faces))
    name = int.from_bytes(hashlib.sha256(source_name(source).encode()).digest()[:8])
    return faces.iloc[stratified_sample(strata, size=source.limit, rng=np.random.default_rng([seed, name]))]


def _derived(faces: pd.DataFrame, source: Source) -> "pd.Series[str]":
    names = [[name for name in source.derived if value_of[name] is not None] for value_of in faces.to_dict("records")]
    return pd.Series([",".join(known) or None for known in names], index=faces.index, dtype=object)


def _rejected(
    raw: RawFaces, identified: pd.DataFrame, faults: Mapping[int, str], source: Source, *, root: Path
) -> pd.DataFrame:
    """List what was rejected, files that are no face first."""
    name, folder = source_name(source), source_folder(source, root=root)
    found = [(name, f"{name}:{no.path}", str(folder / no.path), no.reason) for no in raw.rejected]
    ids, paths = identified["image_id"].tolist(), identified["image_path"].tolist()
    faulty = [(name, ids[row], paths[row], reason) for row, reason in sorted(faults.items())]
    return pd.DataFrame([*found, *faulty], columns=REJECTED_COLUMNS, dtype="str")
