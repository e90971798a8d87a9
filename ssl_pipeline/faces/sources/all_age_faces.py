"""All-Age-Faces: one image a person; its name says serial number and age, and the serial number the gender."""

import re
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import AllAgeFacesSource
from ssl_pipeline.faces.sources.finding import Values, find_by_path, first_that_exists, read_lines
from ssl_pipeline.faces.sources.raw import RawFaces, existing_folder

COLUMNS = ("gender", "age_years")
LAST_FEMALE, LAST = 7380, 13321  # serial numbers 0…7380 are female, 7381…13321 male
LISTED_GENDERS = {"0": "female", "1": "male"}  # the other way round than in most sets

_FOLDERS = {"aligned": ("aligned faces", "aligned_faces"), "original": ("original images", "original_images")}
_NAME = re.compile(r"([0-9]{5})A([0-9]{2,3})")
_EXPECTED = "images named {serial number, 5 digits}A{age}.jpg"


def find_all_age_faces(source: AllAgeFacesSource, *, root: Path) -> RawFaces:
    """List the images of one of the set's two folders, which show the same faces; origin is unknown (mostly Asian).

    The gender follows from the serial number. Where ``image sets/{train,val}.txt`` are there (``{name} {0 female, 1
    male}`` a line), a face of which they say otherwise is rejected.

    Raises:
        FaceTableError: if the folder or its images are not there.
    """
    folder = existing_folder(source, root=root)
    images = first_that_exists(folder, _FOLDERS[source.images], source=source)
    listed = _listed_genders(folder)

    def values_of(path: PurePosixPath) -> Values | str:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            return f"malformed name: expected {_EXPECTED}, got '{path.name}'"
        serial, age = match.groups()
        if int(serial) > LAST:
            return f"serial number {serial} lies beyond the set's last, {LAST}"
        gender = "female" if int(serial) <= LAST_FEMALE else "male"
        if listed.get(path.stem, gender) != gender:
            return f"contradiction: the serial number says {gender}, the image sets say {listed[path.stem]}"
        return gender, age

    return find_by_path(source, root=root, columns=COLUMNS, expected=_EXPECTED, values_of=values_of, inside=images.name)


def _listed_genders(folder: Path) -> dict[str, str]:
    """Read what the image sets say of genders, by an image's stem; lines of another form say nothing."""
    genders = {}
    for subset in ("train", "val"):
        path = folder / "image sets" / f"{subset}.txt"
        for line in read_lines(path) if path.is_file() else []:
            name, _, code = line.strip().rpartition(" ")
            if code in LISTED_GENDERS:
                genders[PurePosixPath(name).stem] = LISTED_GENDERS[code]
    return genders
