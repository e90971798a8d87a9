"""LFW, Labeled Faces in the Wild: a folder a person, and nothing is known but who it is."""

import re
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import LfwSource
from ssl_pipeline.faces.sources.finding import Values, find_by_path
from ssl_pipeline.faces.sources.raw import RawFaces

_EXPECTED = "images named First_Last/First_Last_0001.jpg"
_NUMBER = re.compile(r"_[0-9]{4}")


def find_lfw(source: LfwSource, *, root: Path) -> RawFaces:
    """List the images of the original or a deep-funneled copy; the folder above an image is the person.

    An image whose name is not its folder's with ``_`` and four digits is rejected: it lies with the wrong person.

    Raises:
        FaceTableError: if there are no images.
    """
    return find_by_path(source, root=root, columns=("person_id",), expected=_EXPECTED, values_of=_values)


def _values(path: PurePosixPath) -> Values | str:
    person = path.parent.name
    if not person or not path.stem.startswith(person) or not _NUMBER.fullmatch(path.stem[len(person) :]):
        return f"malformed name: expected {_EXPECTED}, got '{path}'"
    return (person,)
