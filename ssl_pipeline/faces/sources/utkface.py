"""UTKFace, aligned and cropped: all that is known of a face stands in its file name."""

import re
from pathlib import Path

from ssl_pipeline.config import UtkFaceSource
from ssl_pipeline.faces.sources.raw import (
    RawFaces,
    Rejection,
    existing_folder,
    is_image_name,
    list_files,
    nothing_found,
    raw_faces,
)

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
    folder = existing_folder(source, root=root)
    paths = [path for path in list_files(folder) if is_image_name(path)]
    if not paths:
        raise nothing_found(source, folder, root=root, expected=f"files named {_EXPECTED}")
    rows: list[tuple[str, list[str | None]]] = []
    rejected = []
    for path in paths:
        name = path.rpartition("/")[2]
        if match := _NAME.fullmatch(name):
            age, gender, origin = match.groups()
            rows.append((path, [GENDERS[int(gender)], age, ORIGINS[int(origin)]]))
        else:
            rejected.append(Rejection(path, f"malformed name: expected {_EXPECTED}, got '{name}'"))
    return raw_faces(rows, COLUMNS, rejected)
