"""All-Age-Faces: one image per person, named by serial number and age; the serial number gives the gender."""

import re
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import AllAgeFacesSource
from ssl_pipeline.faces.sources.listing import first_existing, list_by_path, read_lines
from ssl_pipeline.faces.sources.raw_faces import RawFaces, Values, existing_folder

LAST_FEMALE, LAST = 7380, 13321  # serial numbers: 0…7380 female, 7381…13321 male
LISTED_GENDERS = {"0": "female", "1": "male"}  # the opposite of most sets

_FOLDERS = {"aligned": ("aligned faces", "aligned_faces"), "original": ("original images", "original_images")}
_NAME = re.compile(r"([0-9]{5})A([0-9]{2,3})")
_EXPECTED = "images named {serial number, 5 digits}A{age}.jpg"


def read_all_age_faces(source: AllAgeFacesSource, *, root: Path) -> RawFaces:
    """List the images of one of the two folders, which show the same faces; origin is unknown (mostly Asian).

    If ``image sets/{train,val}.txt`` exist (lines ``{name} {0 female, 1 male}``), a face with a contradicting gender
    is rejected.

    Raises:
        FaceTableError: if the folder or its images do not exist.
    """
    folder = existing_folder(source, root=root)
    images = first_existing(folder, _FOLDERS[source.images], source=source)
    listed_genders = _read_listed_genders(folder)

    def parse(path: PurePosixPath) -> Values | str:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            return f"malformed name: expected {_EXPECTED}, got '{path.name}'"
        serial, age = match.groups()
        if int(serial) > LAST:
            return f"serial number {serial} exceeds the set's last, {LAST}"
        gender = "female" if int(serial) <= LAST_FEMALE else "male"
        if listed_genders.get(path.stem, gender) != gender:
            return f"contradiction: {gender} by serial number, {listed_genders[path.stem]} by the image sets"
        return gender, age

    columns = ("gender", "age_years")
    return list_by_path(source, root=root, columns=columns, expected=_EXPECTED, parse=parse, subfolder=images.name)


def _read_listed_genders(folder: Path) -> dict[str, str]:
    """Read {stem of an image: gender} from the image sets; malformed lines are ignored."""
    genders = {}
    for subset in ("train", "val"):
        path = folder / "image sets" / f"{subset}.txt"
        for line in read_lines(path) if path.is_file() else []:
            name, _, code = line.strip().rpartition(" ")
            if code in LISTED_GENDERS:
                genders[PurePosixPath(name).stem] = LISTED_GENDERS[code]
    return genders
