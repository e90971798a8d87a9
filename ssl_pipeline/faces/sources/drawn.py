"""Faces drawn from parameters: no folder is needed beforehand, and the same parameters give the same bytes."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_pipeline.config_sources import DrawnSource
from ssl_pipeline.errors import FaceTableError, RunError
from ssl_pipeline.faces.sources.raw import RawFaces, Rejection, list_files, raw_faces, source_folder
from ssl_pipeline.runs import digest_of, read_json, write_json

if TYPE_CHECKING:
    from ssl_pipeline.faces.drawn import DrawnFace

COLUMNS = ("person_id", "mask", "gender", "age_years", "origin")
INDEX_NAME = "drawn.json"
STARTED_NAME = ".drawing.json"
MAX_FACES_IN_ONE_PROCESS = 500
DRAWING_VERSION = 1
"""Raised whenever `faces.drawn` would draw other pixels from the same parameters: older drawings are then refused."""


@dataclass(frozen=True)
class Picture:
    """One file to draw: its name and what it shows."""

    file: str
    face: "DrawnFace"


def drawing_digest(source: DrawnSource) -> str:
    """Digest the parameters that the drawn faces follow from."""
    return digest_of({"type": source.type, "version": DRAWING_VERSION, **_parameters(source)})


def draw_or_find(source: DrawnSource, *, root: Path) -> RawFaces:
    """Draw the faces into the source's folder, unless its index says that they are there; then list them.

    The index, ``drawn.json``, is written last. A drawing that was interrupted is taken up by the next call with the
    same parameters. Nothing is ever drawn over faces of other parameters, or into a folder that holds other things.

    Raises:
        FaceTableError: if the folder holds something else than a drawing of these parameters.
    """
    folder = source_folder(source, root=root)
    if not _is_drawn(source, folder):
        _draw(source, folder)
    rows: list[tuple[str, list[str | None]]] = []
    rejected = []
    for row in read_json(folder / INDEX_NAME)["faces"]:
        if (folder / row["file"]).is_file():
            rows.append((row["file"], [str(row[column]) for column in COLUMNS]))
        else:
            rejected.append(Rejection(row["file"], f"no such file {folder / row['file']}; delete {folder} to redraw"))
    return raw_faces(rows, COLUMNS, rejected)


def draw_file(picture: Picture, size: int, folder: Path) -> None:
    """Draw one face into a PNG file. At module level, so that a fresh process can find it."""
    from ssl_pipeline.faces.drawing import draw_face

    draw_face(picture.face, size=size).save(folder / picture.file, format="PNG")


def _parameters(source: DrawnSource) -> dict[str, Any]:
    names = ("population", "num_people", "images_per_person", "size_pixels", "drawing_seed")
    return {name: getattr(source, name) for name in names}


def _is_drawn(source: DrawnSource, folder: Path) -> bool:
    """Tell whether the drawing is there; False if it may be drawn here. Raises FaceTableError if it may not."""
    if not folder.exists():
        return False
    if folder.is_dir():
        if not any((folder / name).exists() for name in (INDEX_NAME, STARTED_NAME)):
            if not list_files(folder):
                return False
        elif _digest_in(folder / INDEX_NAME) == drawing_digest(source):
            return True
        elif not (folder / INDEX_NAME).exists() and _digest_in(folder / STARTED_NAME) == drawing_digest(source):
            ours = {picture.file for picture in _pictures(source)}
            if ours.issuperset(list_files(folder)):
                return False
    raise FaceTableError(
        f"{folder}: was not drawn with these parameters ({_in_words(source)}); name another path or delete it"
    )


def _digest_in(path: Path) -> str | None:
    try:
        return str(read_json(path).get("digest"))
    except RunError:
        return None


def _in_words(source: DrawnSource) -> str:
    return ", ".join(f"{name} {value}" for name, value in _parameters(source).items())


def _pictures(source: DrawnSource) -> list[Picture]:
    """Lay out the drawing: who is drawn how often, and the name of each file, ``{person}-{image}.png``."""
    from ssl_pipeline.faces.drawn import sample_faces, sample_people

    people = sample_people(source.num_people, population=source.population, seed=source.drawing_seed)
    faces = sample_faces(people, images_per_person=source.images_per_person, seed=source.drawing_seed)
    drawn: dict[str, int] = {}
    pictures = []
    for face in faces:
        number = drawn[face.person.person_id] = drawn.get(face.person.person_id, 0) + 1
        pictures.append(Picture(f"{face.person.person_id}-{number:03d}.png", face))
    return pictures


def _draw(source: DrawnSource, folder: Path) -> None:
    """Draw every picture, then write the index; what was begun is marked, so that it can be taken up again."""
    identity = {"digest": drawing_digest(source), "parameters": _parameters(source)}
    pictures = _pictures(source)
    write_json(folder / STARTED_NAME, identity)
    if len(pictures) <= MAX_FACES_IN_ONE_PROCESS:
        for picture in pictures:
            draw_file(picture, source.size_pixels, folder)
    else:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            work = pool.map(draw_file, pictures, repeat(source.size_pixels), repeat(folder), chunksize=64)
            for _ in work:  # so that an error in a process is raised here
                pass
    faces = [
        {
            "file": picture.file,
            "person_id": picture.face.person.person_id,
            "mask": picture.face.mask,
            "gender": picture.face.person.gender,
            "age_years": picture.face.person.age_years,
            "origin": picture.face.person.population,
        }
        for picture in pictures
    ]
    write_json(folder / INDEX_NAME, {**identity, "faces": faces})
    (folder / STARTED_NAME).unlink(missing_ok=True)
