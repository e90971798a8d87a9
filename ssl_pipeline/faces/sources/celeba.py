"""CelebA: forty yes-or-no attributes and an identity for each image; no age in years."""

import logging
from collections.abc import Iterator
from pathlib import Path

from ssl_pipeline.config.sources import CelebASource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.finding import Listed, Values, find_listed, first_that_exists, read_lines
from ssl_pipeline.faces.sources.raw import RawFaces, existing_folder, source_name

logger = logging.getLogger(__name__)

SUBSETS = {"train": "0", "val": "1", "test": "2"}

_IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
_YES_NO = {"1": "yes", "-1": "no"}


def find_celeba(source: CelebASource, *, root: Path) -> RawFaces:
    """Read ``list_attr_celeba.txt``: a count, a line of names, then a line an image of its name and 1 or -1 for each.

    ``Male`` becomes gender, and each attribute a column of its own name with ``yes`` or ``no``, for `columns` to pick
    (``columns: {young: Young}``). ``identity_CelebA.txt`` says who it is; without it, which is told, each image is a
    person of its own and splits may share people. Which `subsets` an image belongs to, ``list_eval_partition.txt``
    says; it is read where not all are wanted. The text files lie in the source's folder, or in ``Anno/`` and ``Eval/``
    as the set is published; tables as .csv are not read. Lines of another length or with other numbers are rejected.

    Raises:
        FaceTableError: if a file that is needed is not there, or the list of attributes has no such form.
    """
    folder = existing_folder(source, root=root)
    images = first_that_exists(folder, _IMAGES, source=source).relative_to(folder)
    path = first_that_exists(folder, ("list_attr_celeba.txt", "Anno/list_attr_celeba.txt"), source=source)
    lines = read_lines(path)
    names = lines[1].split() if len(lines) > 1 else []
    if "Male" not in names:
        raise FaceTableError(f"{path}: expected a count, then a line of attributes with 'Male' among them, got {names}")
    entries = _entries(lines[2:], names, images, _people(source, folder), _in_subsets(source, folder))
    return find_listed(source, root=root, columns=("person_id", "gender", *names), entries=entries)


def _entries(
    lines: list[str], names: list[str], images: Path, people: dict[str, str], wanted: set[str] | None
) -> Iterator[Listed]:
    for number, line in enumerate(lines, start=3):
        name, *marks = line.split() or [""]
        if wanted is None or name in wanted:
            values = _values(marks, names, people.get(name))
            yield Listed(
                (images / name).as_posix() if name else "", values, place=f"list_attr_celeba.txt line {number}: "
            )


def _values(marks: list[str], names: list[str], person: str | None) -> Values | str:
    if len(marks) != len(names):
        return f"{len(marks)} values for {len(names)} attributes"
    strange = sorted(set(marks) - set(_YES_NO))
    if strange:
        return f"expected 1 or -1 for each attribute, got {strange}"
    gender = "male" if marks[names.index("Male")] == "1" else "female"
    return [person, gender, *(_YES_NO[mark] for mark in marks)]


def _people(source: CelebASource, folder: Path) -> dict[str, str]:
    found = [folder / name for name in ("identity_CelebA.txt", "Anno/identity_CelebA.txt") if (folder / name).is_file()]
    if not found:
        logger.warning(
            "%s: no identity_CelebA.txt in %s, so that splits may share people; it comes with the set's annotations",
            source_name(source),
            folder,
        )
    return _pairs(found[0]) if found else {}


def _in_subsets(source: CelebASource, folder: Path) -> set[str] | None:
    """Name the images that are wanted; None for all."""
    if set(source.subsets) == set(SUBSETS):
        return None
    names = ("list_eval_partition.txt", "Eval/list_eval_partition.txt")
    subset_of = _pairs(first_that_exists(folder, names, source=source))
    wanted = {SUBSETS[subset] for subset in source.subsets}
    return {name for name, subset in subset_of.items() if subset in wanted}


def _pairs(path: Path) -> dict[str, str]:
    """Read lines ``{image} {number}``; of others nothing is known."""
    split = [line.split() for line in read_lines(path)]
    return {pair[0]: pair[1] for pair in split if len(pair) == 2}
