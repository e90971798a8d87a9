"""Drawn people, as `synthetic.people.drawing` left them: a folder of images and an index."""

from pathlib import Path
from typing import Any

from ssl_pipeline.config.sources import DrawnSource
from ssl_pipeline.errors import FaceTableError, RunError
from ssl_pipeline.faces.sources.raw import RawFaces, Rejection, raw_faces, source_folder
from ssl_pipeline.runs.files import digest_of, read_json

COLUMNS = ("person_id", "mask", "gender", "age_years", "origin")
INDEX_NAME = "drawn.json"
STARTED_NAME = ".drawing.json"
DRAWING_VERSION = 1
"""Raised whenever `synthetic.people` would draw other pixels from the same parameters: older drawings are then refused."""


def drawing_digest(source: DrawnSource) -> str:
    """Digest the parameters that the drawn faces follow from."""
    return digest_of({"type": source.type, "version": DRAWING_VERSION, **drawing_parameters(source)})


def find_drawn(source: DrawnSource, *, root: Path) -> RawFaces:
    """List the faces of a drawing by its index.

    Raises:
        FaceTableError: if nothing was drawn yet, or the folder holds another drawing.
    """
    folder = source_folder(source, root=root)
    if read_digest(folder / INDEX_NAME) != drawing_digest(source):
        raise FaceTableError(
            f"{folder}: no drawing of these parameters ({describe(source)}); the stage `draw` makes it"
        )
    rows: list[tuple[str, list[str | None]]] = []
    rejected = []
    for row in read_json(folder / INDEX_NAME)["faces"]:
        if (folder / row["file"]).is_file():
            rows.append((row["file"], [str(row[column]) for column in COLUMNS]))
        else:
            rejected.append(Rejection(row["file"], f"no such file {folder / row['file']}; delete {folder} to redraw"))
    return raw_faces(rows, COLUMNS, rejected)


def drawing_parameters(source: DrawnSource) -> dict[str, Any]:
    """The settings that the images follow from."""
    names = ("population", "num_people", "images_per_person", "size_pixels", "drawing_seed")
    return {name: getattr(source, name) for name in names}


def read_digest(path: Path) -> str | None:
    """Read the digest of a drawing's parameters; None where the file is missing or damaged."""
    try:
        return str(read_json(path).get("digest"))
    except RunError:
        return None


def describe(source: DrawnSource) -> str:
    """Name the parameters of a drawing in a message."""
    return ", ".join(f"{name} {value}" for name, value in drawing_parameters(source).items())
