"""MaskedFace-Net: masks drawn on the faces of FFHQ; an image's name says how its mask is worn."""

import re
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import MaskedFaceNetSource
from ssl_pipeline.faces.sources.finding import Values, find_by_path
from ssl_pipeline.faces.sources.raw import RawFaces

COLUMNS = ("person_id", "mask", "mask_covers")
WORN = {
    "Mask": ("wear", "nose, mouth, chin"),
    "Mask_Mouth_Chin": ("incorrect", "mouth, chin"),
    "Mask_Nose_Mouth": ("incorrect", "nose, mouth"),
    "Mask_Chin": ("incorrect", "chin"),
}
"""{what a name ends with: (mask, mask_covers)}; the name tells what the mask covers."""

_NAME = re.compile(rf"([0-9]{{5}})_({'|'.join(WORN)})")
_EXPECTED = f"names of five digits and one of {', '.join('_' + worn for worn in WORN)}"


def find_maskedface_net(source: MaskedFaceNetSource, *, root: Path) -> RawFaces:
    """List the images of CMFD and IMFD, the correctly and the incorrectly masked part, at any depth.

    ``mask`` is ``wear`` or ``incorrect``; ``mask_covers`` tells the three wrong ways apart. The number is the FFHQ
    picture's, and the same in both parts, so that it serves as the person. Whoever adds FFHQ itself as another source
    must see to it that its faces are not held out: nothing here knows that they are the same.

    Raises:
        FaceTableError: if there are no images.
    """
    return find_by_path(source, root=root, columns=COLUMNS, expected=_EXPECTED, values_of=_values)


def _values(path: PurePosixPath) -> Values | str:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return f"malformed name: expected {_EXPECTED}, got '{path.stem}'"
    number, worn = match.groups()
    return number, *WORN[worn]
