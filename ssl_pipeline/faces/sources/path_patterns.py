"""Face sets with labels in the paths of their images: UTKFace, AFAD, LFW, RMFD, MaskedFace-Net."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import AfadSource, LfwSource, MaskedFaceNetSource, RmfdSource, UtkFaceSource
from ssl_pipeline.faces.sources.listing import list_by_path
from ssl_pipeline.faces.sources.raw_faces import RawFaces, Values

PatternSource = AfadSource | LfwSource | MaskedFaceNetSource | RmfdSource | UtkFaceSource


@dataclass(frozen=True)
class PathPattern:
    """How a set encodes labels in the path of an image.

    Attributes:
        expected: the layout in words, for messages.
        regex: matches the end of an image's path, from the beginning of a folder or file name.
        columns: names of the values; without ``person_id``, every image is a different person.
        values: returns one value per column for a match.
    """

    expected: str
    regex: str
    columns: tuple[str, ...]
    values: Callable[[re.Match[str]], Values]


_UTKFACE_ORIGINS = ("white", "black", "asian", "indian", "other")
_MASK_STATES = {
    "Mask": ("wear", "nose, mouth, chin"),
    "Mask_Mouth_Chin": ("incorrect", "mouth, chin"),
    "Mask_Nose_Mouth": ("incorrect", "nose, mouth"),
    "Mask_Chin": ("incorrect", "chin"),
}
"""{end of a MaskedFace-Net name: (mask, mask_covers)}; the name lists what the mask covers."""

PATTERNS = {
    "utkface": PathPattern(
        expected="files named {age}_{gender 0-1}_{race 0-4}_{time, 17 digits}.jpg.chip.jpg",
        regex=r"([0-9]{1,3})_([01])_([0-4])_[0-9]{17}\.jpg(?:\.chip\.jpg)?",
        columns=("gender", "age_years", "origin"),
        values=lambda match: (("male", "female")[int(match[2])], match[1], _UTKFACE_ORIGINS[int(match[3])]),
    ),
    # All people are Asian. Images are small, down to 20 pixels; `filter.min_side_pixels` excludes the smallest.
    "afad": PathPattern(
        expected="folders {age}/{111 male or 112 female}/ above the images",
        regex=r"([0-9]{1,3})/(111|112)/[^/]+",
        columns=("gender", "age_years", "origin"),
        values=lambda match: ({"111": "male", "112": "female"}[match[2]], match[1], "asian"),
    ),
    # Original or deep-funneled. An image with another name than its folder lies with the wrong person.
    "lfw": PathPattern(
        expected="images named First_Last/First_Last_0001.jpg",
        regex=r"([^/]+)/\1_[0-9]{4}\.[^/.]+",
        columns=("person_id",),
        values=lambda match: (match[1],),
    ),
    # A person has the same folder name in both parts. The set does not label how a mask is worn: all are `wear`.
    "rmfd": PathPattern(
        expected="folders AFDB_masked_face_dataset and AFDB_face_dataset with one folder per person",
        regex=r"(AFDB_masked_face_dataset|AFDB_face_dataset)/([^/]+)/[^/]+",
        columns=("person_id", "mask"),
        values=lambda match: (match[2], "wear" if "masked" in match[1] else "normal"),
    ),
    # The number is the FFHQ image, the same in both parts (CMFD, IMFD), and identifies the person. If FFHQ is a source
    # too, keep its faces out of the held-out splits: nothing links the two sets.
    "maskedface_net": PathPattern(
        expected=f"names of five digits and one of {', '.join('_' + state for state in _MASK_STATES)}",
        regex=rf"([0-9]{{5}})_({'|'.join(_MASK_STATES)})\.[^/.]+",
        columns=("person_id", "mask", "mask_covers"),
        values=lambda match: (match[1], *_MASK_STATES[match[2]]),
    ),
}


def read_path_pattern(source: PatternSource, *, root: Path) -> RawFaces:
    """List the images at any depth and read labels from their paths; other paths are rejected.

    Raises:
        FaceTableError: if there are no images.
    """
    pattern = PATTERNS[source.type]
    regex = re.compile(rf"(?:.*/)?{pattern.regex}", re.DOTALL)

    def parse(path: PurePosixPath) -> Values | str:
        match = regex.fullmatch(str(path))
        return f"expected {pattern.expected}, got '{path}'" if match is None else pattern.values(match)

    return list_by_path(source, root=root, columns=pattern.columns, expected=pattern.expected, parse=parse)
