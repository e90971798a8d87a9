"""Drawn people: the images and index that `synthetic.people.drawing` writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssl_pipeline.config.sources import DrawnSource
from ssl_pipeline.errors import FaceTableError, RunError
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, collect_faces, source_folder
from ssl_pipeline.runs.files import digest_of, read_json

COLUMNS = ("person_id", "mask", "gender", "age_years", "origin")
INDEX_NAME = "drawn.json"
STARTED_NAME = ".drawing.json"
DRAWING_VERSION = 1
"""Raise it when `synthetic.people` draws other pixels from the same parameters: older drawings are then refused."""


def drawing_digest(source: DrawnSource) -> str:
    """Digest the parameters of a drawing."""
    return digest_of({"type": source.type, "version": DRAWING_VERSION, **drawing_parameters(source)})


def read_drawn(source: DrawnSource, *, root: Path) -> RawFaces:
    """List the faces of a drawing by its index.

    Raises:
        FaceTableError: if there is no drawing of these parameters.
    """
    folder = source_folder(source, root=root)
    if read_digest(folder / INDEX_NAME) != drawing_digest(source):
        raise FaceTableError(f"{folder}: no drawing of these parameters ({describe(source)}); run the stage `draw`")

    def entries() -> Iterator[Entry]:
        for row in read_json(folder / INDEX_NAME)["faces"]:
            exists = (folder / row["file"]).is_file()
            values = [str(row[column]) for column in COLUMNS]
            missing = f"no such file {folder / row['file']}; delete {folder} to redraw"
            yield Entry(row["file"], values if exists else missing)

    return collect_faces(entries(), COLUMNS)


def drawing_parameters(source: DrawnSource) -> dict[str, Any]:
    """Return the settings that determine the images."""
    names = ("population", "num_people", "images_per_person", "size_pixels", "drawing_seed")
    return {name: getattr(source, name) for name in names}


def read_digest(path: Path) -> str | None:
    """Read the digest of a drawing's parameters; None if the file is missing or damaged."""
    try:
        return str(read_json(path).get("digest"))
    except RunError:
        return None


def describe(source: DrawnSource) -> str:
    """Format the parameters of a drawing for a message."""
    return ", ".join(f"{name} {value}" for name, value in drawing_parameters(source).items())
