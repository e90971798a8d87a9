"""IMDB-WIKI: a Matlab file that lists crops with dates of birth and years of photographs; ages follow, and are noisy."""

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.io import loadmat

from ssl_pipeline.config.sources import ImdbWikiSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.finding import Listed, Values, find_listed, first_that_exists
from ssl_pipeline.faces.sources.raw import RawFaces, existing_folder

COLUMNS = ("person_id", "gender", "age_years")
FIELDS = ("dob", "photo_taken", "full_path", "gender", "face_score", "second_face_score")
MATLAB_DAY_OF_YEAR_1 = 366  # Matlab counts days from the year 0, Python's ordinals from the year 1
MAX_AGE_YEARS = 120


def find_imdb_wiki(source: ImdbWikiSource, *, root: Path) -> RawFaces:
    """Read ``imdb.mat`` or ``wiki.mat`` (Matlab 5, which holds arrays and runs nothing) and take the crops it lists.

    Age is what the person had on 1 July of the year in which the photograph was taken, as the set's authors compute
    it. Gender is 0 female, 1 male; NaN is unknown and the face is kept. The person is what a file's name begins with,
    as ``nm0000001``. Rejected are faces that the set's detector did not find (face_score −inf or NaN) or scored below
    `min_face_score`, images with a second face (second_face_score is no NaN), since nobody knows whose age it is, and
    ages that cannot be: a date of birth of no calendar, an age below 0 or above 120.

    Raises:
        FaceTableError: if there is no such file, or it does not hold what it should.
    """
    folder = existing_folder(source, root=root)
    path = first_that_exists(folder, ("imdb.mat", "wiki.mat"), source=source)
    return find_listed(source, root=root, columns=COLUMNS, entries=_entries(_read(path), path.name, source))


def age_on_1_july(birth_day: float, year: int) -> int | None:
    """Give the age in full years on 1 July of a year; None where the date of birth is no day of the calendar.

    >>> age_on_1_july(birth_day=date(1980, 7, 2).toordinal() + MATLAB_DAY_OF_YEAR_1, year=2000)
    19
    """
    try:
        birth = date.fromordinal(int(birth_day) - MATLAB_DAY_OF_YEAR_1)
    except (ValueError, OverflowError):  # also NaN
        return None
    return year - birth.year - ((birth.month, birth.day) > (7, 1))


def _read(path: Path) -> dict[str, Any]:
    """Give each of FIELDS as an array [N]."""
    try:
        record = loadmat(path, variable_names=[path.stem])[path.stem][0, 0]
        fields = {name: np.asarray(record[name]).ravel() for name in FIELDS}
        if len({len(values) for values in fields.values()}) != 1:
            raise ValueError("its fields have different lengths")
    except Exception as error:  # scipy's reader lets many kinds through where a file is damaged
        raise FaceTableError(
            f"{path}: not the Matlab 5 file of IMDB-WIKI, with one record '{path.stem}' of {', '.join(FIELDS)} "
            f"({type(error).__name__}: {error}); take it from the set again"
        ) from None
    return fields


def _entries(fields: dict[str, Any], file: str, source: ImdbWikiSource) -> Iterator[Listed]:
    for row in range(len(fields["full_path"])):
        path = "".join(np.asarray(fields["full_path"][row], dtype=str).ravel())
        values = _values({name: fields[name][row] for name in FIELDS}, path, source.min_face_score)
        yield Listed(path, values, place=f"{file} entry {row + 1}: ")


def _values(entry: dict[str, Any], path: str, min_face_score: float | None) -> Values | str:
    score, second = float(entry["face_score"]), float(entry["second_face_score"])
    if not math.isfinite(score):
        return f"no face was found (face_score {score:g})"
    if min_face_score is not None and score < min_face_score:
        return f"face_score {score:.2f} is below min_face_score {min_face_score:g}"
    if not math.isnan(second):
        return f"a second face was found (second_face_score {second:.2f})"
    year = float(entry["photo_taken"])
    age = age_on_1_july(float(entry["dob"]), int(year)) if math.isfinite(year) else None
    if age is None or not 0 <= age <= MAX_AGE_YEARS:
        return f"impossible age {age}: born on day {entry['dob']:g}, photographed in {year:g}"
    gender = {0.0: "female", 1.0: "male"}.get(float(entry["gender"]))  # NaN is neither
    return PurePosixPath(path).name.split("_")[0], gender, str(age)
