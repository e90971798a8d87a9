"""RMFD, the Real-World Masked Face Dataset: the same people with and without a mask."""

from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import RmfdSource
from ssl_pipeline.faces.sources.finding import Values, find_by_path
from ssl_pipeline.faces.sources.raw import RawFaces

COLUMNS = ("person_id", "mask")
MASKS = {"AFDB_masked_face_dataset": "wear", "AFDB_face_dataset": "normal"}

_EXPECTED = f"folders {' and '.join(MASKS)} with a folder a person"


def find_rmfd(source: RmfdSource, *, root: Path) -> RawFaces:
    """List the images of both parts, wherever they lie below the source's folder.

    A person has the same name in both parts and stays one person. The set does not say how a mask is worn: all of its
    masked faces count as ``wear``.

    Raises:
        FaceTableError: if there are no images.
    """
    return find_by_path(source, root=root, columns=COLUMNS, expected=_EXPECTED, values_of=_values)


def _values(path: PurePosixPath) -> Values | str:
    part, person = path.parts[-3:-1] if len(path.parts) >= 3 else ("", "")
    if part not in MASKS:
        return f"expected {_EXPECTED}, got '{path.parent}/'"
    return person, MASKS[part]
