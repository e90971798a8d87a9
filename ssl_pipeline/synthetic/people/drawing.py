"""Draw the people of a source of type `drawn` into its folder; deterministic and resumable."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from ssl_pipeline.config.sources import DrawnSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.image_files import list_files
from ssl_pipeline.faces.sources.drawn import (
    INDEX_NAME,
    STARTED_NAME,
    describe,
    drawing_digest,
    drawing_parameters,
    read_digest,
)
from ssl_pipeline.faces.sources.raw_faces import source_folder
from ssl_pipeline.runs.files import write_json
from ssl_pipeline.synthetic.people.face import draw_face
from ssl_pipeline.synthetic.people.parameters import DrawnFace, sample_faces, sample_people

MAX_FACES_IN_ONE_PROCESS = 500


@dataclass(frozen=True)
class Picture:
    """An image to draw, and its file name."""

    file: str
    face: DrawnFace


def draw_people(source: DrawnSource, *, root: Path) -> None:
    """Draw the faces into the source's folder, unless its index lists them already.

    The index, ``drawn.json``, is written last. The next call with the same parameters resumes an interrupted drawing.
    Faces of other parameters and folders with other files are never drawn over.

    Raises:
        FaceTableError: if the folder holds anything but a drawing of these parameters.
    """
    folder = source_folder(source, root=root)
    if not _is_drawn(source, folder):
        _draw(source, folder)


def draw_file(picture: Picture, size: int, folder: Path) -> None:
    """Draw one face into a PNG file; at module level, so that a spawned process can import it."""
    draw_face(picture.face, size=size).save(folder / picture.file, format="PNG")


def _is_drawn(source: DrawnSource, folder: Path) -> bool:
    """Return whether the drawing is finished; raise FaceTableError if the folder is not free for it."""
    if not folder.exists():
        return False
    if folder.is_dir():
        if not any((folder / name).exists() for name in (INDEX_NAME, STARTED_NAME)):
            if not list_files(folder):
                return False
        elif read_digest(folder / INDEX_NAME) == drawing_digest(source):
            return True
        elif not (folder / INDEX_NAME).exists() and read_digest(folder / STARTED_NAME) == drawing_digest(source):
            expected = {picture.file for picture in _pictures(source)}
            if expected.issuperset(list_files(folder)):
                return False
    raise FaceTableError(
        f"{folder}: was not drawn with these parameters ({describe(source)}); name another path or delete it"
    )


def _pictures(source: DrawnSource) -> list[Picture]:
    """List the images to draw; files are named ``{person}-{image}.png``."""
    people = sample_people(source.num_people, population=source.population, seed=source.drawing_seed)
    faces = sample_faces(people, images_per_person=source.images_per_person, seed=source.drawing_seed)
    return [
        Picture(f"{face.person.person_id}-{index % source.images_per_person + 1:03d}.png", face)
        for index, face in enumerate(faces)
    ]


def _draw(source: DrawnSource, folder: Path) -> None:
    """Draw every image, then write the index; a marker written first identifies an interrupted drawing."""
    identity = {"digest": drawing_digest(source), "parameters": drawing_parameters(source)}
    pictures = _pictures(source)
    write_json(folder / STARTED_NAME, identity)
    if len(pictures) <= MAX_FACES_IN_ONE_PROCESS:
        for picture in pictures:
            draw_file(picture, source.size_pixels, folder)
    else:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            work = pool.map(draw_file, pictures, repeat(source.size_pixels), repeat(folder), chunksize=64)
            for _ in work:  # raises an error of a process here
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
