"""CelebA: forty binary attributes and an identity per image; no age in years."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from ssl_pipeline.config.sources import CelebASource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.listing import first_existing, list_by_entry, read_lines
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, Values, existing_folder, source_name

logger = logging.getLogger(__name__)

SUBSETS = {"train": "0", "val": "1", "test": "2"}

_IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
_YES_NO = {"1": "yes", "-1": "no"}


def read_celeba(source: CelebASource, *, root: Path) -> RawFaces:
    """Read ``list_attr_celeba.txt``: a count, a line of attribute names, one line per image with its name and 1 or -1.

    ``Male`` becomes gender. Every attribute is a column with ``yes`` or ``no`` that `columns` can map, e.g.
    ``columns: {young: Young}``. ``identity_CelebA.txt`` names the people; without it, every image is a different
    person and a warning is logged. ``list_eval_partition.txt`` is read if not all `subsets` are selected. The text
    files lie in the source's folder, or in ``Anno/`` and ``Eval/`` as published; .csv copies are not read.

    Raises:
        FaceTableError: if a required file does not exist or the list of attributes is malformed.
    """
    folder = existing_folder(source, root=root)
    images = first_existing(folder, _IMAGES, source=source).relative_to(folder)
    path = first_existing(folder, ("list_attr_celeba.txt", "Anno/list_attr_celeba.txt"), source=source)
    lines = read_lines(path)
    names = lines[1].split() if len(lines) > 1 else []
    if "Male" not in names:
        raise FaceTableError(f"{path}: expected a count, then a line of attributes including 'Male', got {names}")
    people, selected = _read_people(source, folder), _read_selected(source, folder)

    def entries() -> Iterator[Entry]:
        for number, line in enumerate(lines[2:], start=3):
            name, *marks = line.split() or [""]
            if selected is None or name in selected:
                image = (images / name).as_posix() if name else ""
                yield Entry(image, _values(marks, names, people.get(name)), f"list_attr_celeba.txt line {number}: ")

    return list_by_entry(source, root=root, columns=("person_id", "gender", *names), entries=entries())


def _values(marks: list[str], names: list[str], person: str | None) -> Values | str:
    if len(marks) != len(names):
        return f"{len(marks)} values for {len(names)} attributes"
    unexpected = sorted(set(marks) - set(_YES_NO))
    if unexpected:
        return f"expected 1 or -1 for each attribute, got {unexpected}"
    gender = "male" if marks[names.index("Male")] == "1" else "female"
    return [person, gender, *(_YES_NO[mark] for mark in marks)]


def _read_people(source: CelebASource, folder: Path) -> Mapping[str, str]:
    for name in ("identity_CelebA.txt", "Anno/identity_CelebA.txt"):
        if (folder / name).is_file():
            return _read_pairs(folder / name)
    logger.warning(
        "%s: no identity_CelebA.txt in %s, so one person may be in several splits; the set's annotations include it",
        source_name(source),
        folder,
    )
    return {}


def _read_selected(source: CelebASource, folder: Path) -> set[str] | None:
    """Return the names of the images in the selected subsets; None for all."""
    if set(source.subsets) == set(SUBSETS):
        return None
    names = ("list_eval_partition.txt", "Eval/list_eval_partition.txt")
    partition = _read_pairs(first_existing(folder, names, source=source))
    codes = {SUBSETS[subset] for subset in source.subsets}
    return {name for name, code in partition.items() if code in codes}


def _read_pairs(path: Path) -> dict[str, str]:
    """Read lines ``{image} {number}``; malformed lines are ignored."""
    fields = [line.split() for line in read_lines(path)]
    return {pair[0]: pair[1] for pair in fields if len(pair) == 2}
