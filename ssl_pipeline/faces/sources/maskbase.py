"""MaskBase: a folder a person, ``{id}_{gender}_{race}_{age}``, with seven photographs of the same face."""

import re
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import MaskBaseSource
from ssl_pipeline.faces.sources.finding import Values, find_by_path
from ssl_pipeline.faces.sources.raw import RawFaces, existing_folder, is_image_name

COLUMNS = ("person_id", "mask", "gender", "age_years", "origin")
MASKS = {**{f"mask{number}": "wear" for number in range(1, 6)}, "incorrect_mask": "incorrect", "normal": "normal"}

_PERSON = re.compile(r"[0-9]+(?:-[0-9]+)?_(male|female)_([A-Za-z]+)_([0-9]{1,3})")


def find_maskbase(source: MaskBaseSource, *, root: Path) -> RawFaces:
    """List the photographs; the folder says gender, origin and age, the file's stem says the mask.

    The source's path may be the whole set, its ``train`` folder, or the ``images`` folder itself. A person is a
    folder, since ids are given twice. A file's extension does not matter. Rejected are images with another stem,
    outside a person's folder, or in a folder with a malformed name; other files are ignored, as is ``train.csv``,
    which repeats what the folders say.

    Raises:
        FaceTableError: if there are no photographs.
    """
    folder = existing_folder(source, root=root)
    inside = next((sub for sub in ("train/images", "images") if (folder / sub).is_dir()), ".")
    return find_by_path(
        source,
        root=root,
        columns=COLUMNS,
        expected="folders named {id}_{gender}_{race}_{age} with mask1 … mask5, incorrect_mask and normal",
        values_of=_values,
        inside=inside,
        is_looked_at=_is_looked_at,
    )


def _is_looked_at(path: str) -> bool:
    return is_image_name(path) or PurePosixPath(path).stem in MASKS


def _values(path: PurePosixPath) -> Values | str:
    """Read one path ``person/stem.ext`` into the values of COLUMNS, or give the reason why not."""
    if len(path.parts) != 2:
        return "expected the file in a folder {id}_{gender}_{race}_{age}"
    person = path.parts[0]
    match = _PERSON.fullmatch(person)
    if match is None:
        return f"malformed folder name: expected {{id}}_{{male|female}}_{{race}}_{{age}}, got '{person}'"
    if path.stem not in MASKS:
        return f"malformed name: expected one of {', '.join(MASKS)}, got '{path.stem}'"
    gender, origin, age = match.groups()
    return [person, MASKS[path.stem], gender, age, origin.lower()]
