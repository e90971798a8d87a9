"""MegaAge-Asian: lists of names and of ages, aligned by line; no gender."""

from collections.abc import Iterator
from pathlib import Path

from ssl_pipeline.config.sources import MegaAgeAsianSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.finding import Listed, find_listed, first_that_exists, read_lines
from ssl_pipeline.faces.sources.raw import RawFaces, existing_folder, source_name

COLUMNS = ("age_years", "origin")


def find_megaage_asian(source: MegaAgeAsianSource, *, root: Path) -> RawFaces:
    """Read ``list/{train,test}_name.txt`` and ``_age.txt``; names lie in ``train/`` and ``test/`` and repeat there.

    The whole set is of Asian people, so that origin is ``asian`` for all. Nobody is named, so each image is a person
    of its own.

    Raises:
        FaceTableError: if a list is not there, or a list of ages has not as many lines as that of names: then none of
            its ages can be trusted.
    """
    entries = _entries(source, existing_folder(source, root=root))
    return find_listed(source, root=root, columns=COLUMNS, entries=entries)


def _entries(source: MegaAgeAsianSource, folder: Path) -> Iterator[Listed]:
    for subset in source.subsets:
        files = [f"list/{subset}_{what}.txt" for what in ("name", "age")]
        names, ages = (read_lines(first_that_exists(folder, [file], source=source)) for file in files)
        if len(names) != len(ages):
            raise FaceTableError(
                f"{folder / files[1]}: {len(ages):,} ages for the {len(names):,} names of {files[0]}; source "
                f"'{source_name(source)}' needs one a name, line by line; take both files from one copy of the set"
            )
        for number, (name, age) in enumerate(zip(names, ages, strict=True), start=1):
            yield Listed(f"{subset}/{name.strip()}", [age.strip(), "asian"], place=f"{files[0]} line {number}: ")
