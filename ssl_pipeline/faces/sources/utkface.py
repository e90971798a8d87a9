"""UTKFace, aligned and cropped: all that is known of a face stands in its file name."""

import re
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import UtkFaceSource
from ssl_pipeline.faces.sources.finding import Values, find_by_path
from ssl_pipeline.faces.sources.raw import RawFaces

COLUMNS = ("gender", "age_years", "origin")
GENDERS = ("male", "female")
ORIGINS = ("white", "black", "asian", "indian", "other")

_NAME = re.compile(r"([0-9]{1,3})_([01])_([0-4])_[0-9]{17}\.jpg(?:\.chip\.jpg)?")
_EXPECTED = "{age}_{gender 0-1}_{race 0-4}_{time, 17 digits}.jpg.chip.jpg"


def find_utkface(source: UtkFaceSource, *, root: Path) -> RawFaces:
    """List the images and read gender, age and origin out of their names.

    A name with a missing field, a missing dot, a space or a time of other than 17 digits is rejected, never guessed.
    Nobody is named, so each image is a person of its own.

    Raises:
        FaceTableError: if there are no images.
    """
    return find_by_path(source, root=root, columns=COLUMNS, expected=f"files named {_EXPECTED}", values_of=_values)


def _values(path: PurePosixPath) -> Values | str:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return f"malformed name: expected {_EXPECTED}, got '{path.name}'"
    age, gender, origin = match.groups()
    return GENDERS[int(gender)], age, ORIGINS[int(origin)]
