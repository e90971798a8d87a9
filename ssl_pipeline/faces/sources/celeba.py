"""CelebA: forty binary attributes and an identity per image; no age in years."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ssl_pipeline.config.sources import CelebASource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.listing import first_existing, list_by_entry, read_lines
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, Values, existing_folder, source_name
from ssl_pipeline.faces.sources.tables import read_table

logger = logging.getLogger(__name__)

SUBSETS = {"train": "0", "val": "1", "test": "2"}

_IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
_YES_NO = {"1": "yes", "-1": "no"}


@dataclass(frozen=True)
class _Attributes:
    """The list of attributes: its file, their names, and the line, the image and the marks of each row."""

    path: Path
    names: list[str]
    rows: Iterable[tuple[int, str, list[str]]]


def read_celeba(source: CelebASource, *, root: Path) -> RawFaces:
    """Read ``list_attr_celeba.txt``: a count, a line of attribute names, one line per image with its name and 1 or -1.

    ``Male`` becomes gender. Every attribute is a column with ``yes`` or ``no`` that `columns` can map, e.g.
    ``columns: {young: Young}``. ``identity_CelebA.txt`` names the people; without it, every image is a different
    person and a warning is logged. ``list_eval_partition.txt`` is read if not all `subsets` are selected. These files
    lie in the source's folder, or in ``Anno/`` and ``Eval/`` as published; the .csv copies of some sites are read too.

    Raises:
        FaceTableError: if a required file does not exist or the list of attributes is malformed.
    """
    folder = existing_folder(source, root=root)
    images = first_existing(folder, _IMAGES, source=source).relative_to(folder)
    attributes = _read_attributes(first_existing(folder, _files("list_attr_celeba", "Anno"), source=source))
    names = attributes.names
    if "Male" not in names:
        raise FaceTableError(f"{attributes.path}: expected a line of attributes including 'Male', got {names}")
    people, selected = _read_people(source, folder), _read_selected(source, folder)

    def entries() -> Iterator[Entry]:
        for number, name, marks in attributes.rows:
            if selected is None or name in selected:
                image = (images / name).as_posix() if name else ""
                location = f"{attributes.path.name} line {number}: "
                yield Entry(image, _values(marks, names, people.get(name)), location)

    return list_by_entry(source, root=root, columns=("person_id", "gender", *names), entries=entries())


def _files(stem: str, folder: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{stem}{suffix}" for suffix in (".txt", ".csv") for prefix in ("", f"{folder}/"))


def _read_attributes(path: Path) -> _Attributes:
    if path.suffix == ".csv":
        header, rows = read_table(path, needed_by="a source of type celeba")
        names = header[1:]
        return _Attributes(
            path,
            names,
            ((row.number, row.values.get(header[0], ""), list(row.values.values())[1:]) for row in rows),
        )
    lines = read_lines(path)
    fields = [line.split() or [""] for line in lines[2:]]
    names = lines[1].split() if len(lines) > 1 else []
    return _Attributes(path, names, ((number, name, marks) for number, (name, *marks) in enumerate(fields, start=3)))


def _values(marks: list[str], names: list[str], person: str | None) -> Values | str:
    if len(marks) != len(names):
        return f"{len(marks)} values for {len(names)} attributes"
    unexpected = sorted(set(marks) - set(_YES_NO))
    if unexpected:
        return f"expected 1 or -1 for each attribute, got {unexpected}"
    gender = "male" if marks[names.index("Male")] == "1" else "female"
    return [person, gender, *(_YES_NO[mark] for mark in marks)]


def _read_people(source: CelebASource, folder: Path) -> Mapping[str, str]:
    for name in _files("identity_CelebA", "Anno"):
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
    partition = _read_pairs(first_existing(folder, _files("list_eval_partition", "Eval"), source=source))
    codes = {SUBSETS[subset] for subset in source.subsets}
    return {name for name, code in partition.items() if code in codes}


def _read_pairs(path: Path) -> dict[str, str]:
    """Read lines ``{image} {number}``, separated by blanks or a comma; malformed lines are ignored."""
    fields = [line.replace(",", " ").split() for line in read_lines(path)]
    return {pair[0]: pair[1] for pair in fields if len(pair) == 2}
