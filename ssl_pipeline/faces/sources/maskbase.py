"""MaskBase: one folder per person, ``{id}_{gender}_{race}_{age}``, with seven photographs of the same face."""

import re
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import MaskBaseSource
from ssl_pipeline.faces.sources.listing import list_by_path
from ssl_pipeline.faces.sources.raw_faces import RawFaces, Values, existing_folder

MASKS = {**{f"mask{number}": "wear" for number in range(1, 6)}, "incorrect_mask": "incorrect", "normal": "normal"}

_PERSON = re.compile(r"[0-9]+(?:-[0-9]+)?_(male|female)_([A-Za-z]+)_([0-9]{1,3})")


def read_maskbase(source: MaskBaseSource, *, root: Path) -> RawFaces:
    """List the photographs; the folder gives gender, origin and age, the file's stem gives the mask.

    The source's path may be the set, its ``train`` folder or its ``images`` folder. The person is the folder, since
    ids repeat. File extensions are ignored. Rejected are images with an unknown stem, outside a person's folder, or in
    a malformed folder. Other files are ignored, including ``train.csv``, which repeats the folder names.

    Raises:
        FaceTableError: if there are no photographs.
    """
    folder = existing_folder(source, root=root)
    return list_by_path(
        source,
        root=root,
        columns=("person_id", "mask", "gender", "age_years", "origin"),
        expected="folders named {id}_{gender}_{race}_{age} with mask1 … mask5, incorrect_mask and normal",
        parse=_parse,
        subfolder=next((name for name in ("train/images", "images") if (folder / name).is_dir()), "."),
    )


def _parse(path: PurePosixPath) -> Values | str:
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
