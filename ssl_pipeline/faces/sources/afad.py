"""AFAD, the Asian Face Age Dataset, and AFAD-Lite: the folders above an image say age and gender."""

from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import AfadSource
from ssl_pipeline.faces.sources.finding import Values, find_by_path
from ssl_pipeline.faces.sources.raw import RawFaces

COLUMNS = ("gender", "age_years", "origin")
GENDERS = {"111": "male", "112": "female"}

_EXPECTED = "folders {age}/{111 male or 112 female}/ above the images"


def find_afad(source: AfadSource, *, root: Path) -> RawFaces:
    """List the images; the last two folders of a path, ``{age}/{gender code}/``, are read, wherever they lie.

    The whole set is of Asian people, so that origin is ``asian`` for all. Images are small, down to 20 pixels:
    `filter.min_side_pixels` leaves out the smallest. Nobody is named, so each image is a person of its own.

    Raises:
        FaceTableError: if there are no images.
    """
    return find_by_path(source, root=root, columns=COLUMNS, expected=_EXPECTED, values_of=_values)


def _values(path: PurePosixPath) -> Values | str:
    age, code = path.parts[-3:-1] if len(path.parts) >= 3 else ("", "")
    if not (age.isascii() and age.isdigit() and len(age) <= 3):
        return f"expected {_EXPECTED}, got '{path.parent}/'"
    if code not in GENDERS:
        return f"unknown gender code: expected 111 (male) or 112 (female), got '{code}'"
    return GENDERS[code], age, "asian"
