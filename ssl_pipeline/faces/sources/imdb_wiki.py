"""IMDB-WIKI: a Matlab file of crops with dates of birth and years of photographs; the ages are noisy."""

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.io import loadmat

from ssl_pipeline.config.sources import ImdbWikiSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.listing import first_existing, list_by_entry
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, Values, existing_folder

COLUMNS = ("person_id", "gender", "age_years")
FIELDS = ("dob", "photo_taken", "full_path", "gender", "face_score", "second_face_score")
MATLAB_DAY_OF_YEAR_1 = 366  # Matlab counts days from year 0, Python's ordinals from year 1
MAX_AGE_YEARS = 120


def read_imdb_wiki(source: ImdbWikiSource, *, root: Path) -> RawFaces:
    """Read the crops listed in ``imdb.mat`` or ``wiki.mat`` (Matlab 5: arrays, no code).

    The age is that on 1 July of the photograph's year, as the authors compute it. Gender is 0 female, 1 male, NaN
    unknown. The person is the beginning of the file name, e.g. ``nm0000001``. Rejected are faces without a detection
    (face_score −inf or NaN) or below `min_face_score`; images with a second face (second_face_score is not NaN), since
    the age may belong to either; and impossible ages: an invalid date of birth, below 0 or above 120.

    Raises:
        FaceTableError: if the file does not exist or is malformed.
    """
    folder = existing_folder(source, root=root)
    path = first_existing(folder, ("imdb.mat", "wiki.mat"), source=source)
    return list_by_entry(source, root=root, columns=COLUMNS, entries=_entries(_read_fields(path), path.name, source))


def age_on_1_july(birth_day: float, year: int) -> int | None:
    """Return the age in full years on 1 July of a year; None if the date of birth is invalid.

    >>> age_on_1_july(birth_day=date(1980, 7, 2).toordinal() + MATLAB_DAY_OF_YEAR_1, year=2000)
    19
    """
    try:
        birth = date.fromordinal(int(birth_day) - MATLAB_DAY_OF_YEAR_1)
    except (ValueError, OverflowError):  # also NaN
        return None
    return year - birth.year - ((birth.month, birth.day) > (7, 1))


def _read_fields(path: Path) -> dict[str, Any]:
    """Read {field: array [N]} for all FIELDS."""
    try:
        record = loadmat(path, variable_names=[path.stem])[path.stem][0, 0]
        fields = {name: np.asarray(record[name]).ravel() for name in FIELDS}
        if len({len(values) for values in fields.values()}) != 1:
            raise ValueError("its fields have different lengths")
    except Exception as error:  # scipy raises many types for damaged files
        raise FaceTableError(
            f"{path}: not the Matlab 5 file of IMDB-WIKI, with one record '{path.stem}' of {', '.join(FIELDS)} "
            f"({type(error).__name__}: {error}); copy it from the set again"
        ) from None
    return fields


def _entries(fields: dict[str, Any], file: str, source: ImdbWikiSource) -> Iterator[Entry]:
    for row in range(len(fields["full_path"])):
        path = "".join(np.asarray(fields["full_path"][row], dtype=str).ravel())
        values = _values({name: fields[name][row] for name in FIELDS}, path, source.min_face_score)
        yield Entry(path, values, f"{file} entry {row + 1}: ")


def _values(record: dict[str, Any], path: str, min_face_score: float | None) -> Values | str:
    score, second_score = float(record["face_score"]), float(record["second_face_score"])
    if not math.isfinite(score):
        return f"no face was detected (face_score {score:g})"
    if min_face_score is not None and score < min_face_score:
        return f"face_score {score:.2f} is below min_face_score {min_face_score:g}"
    if not math.isnan(second_score):
        return f"a second face was detected (second_face_score {second_score:.2f})"
    year = float(record["photo_taken"])
    age = age_on_1_july(float(record["dob"]), int(year)) if math.isfinite(year) else None
    if age is None or not 0 <= age <= MAX_AGE_YEARS:
        return f"impossible age {age}: born on day {record['dob']:g}, photographed in {year:g}"
    gender = {0.0: "female", 1.0: "male"}.get(float(record["gender"]))  # NaN is unknown
    return PurePosixPath(path).name.split("_")[0], gender, str(age)
