"""MegaAge-Asian: lists of names and of ages, aligned by line; no gender."""

from collections.abc import Iterator
from pathlib import Path

from ssl_pipeline.config.sources import MegaAgeAsianSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.listing import first_existing, list_by_entry, read_lines
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, existing_folder, source_name


def read_megaage_asian(source: MegaAgeAsianSource, *, root: Path) -> RawFaces:
    """Read ``list/{train,test}_{name,age}.txt``; images lie in ``train/`` and ``test/``, which share file names.

    All people are Asian. Every image is a different person.

    Raises:
        FaceTableError: if a list does not exist, or names and ages have different numbers of lines: then no age can be
            trusted.
    """
    entries = _entries(source, existing_folder(source, root=root))
    return list_by_entry(source, root=root, columns=("age_years", "origin"), entries=entries)


def _entries(source: MegaAgeAsianSource, folder: Path) -> Iterator[Entry]:
    for subset in source.subsets:
        files = [f"list/{subset}_{content}.txt" for content in ("name", "age")]
        names, ages = (read_lines(first_existing(folder, [file], source=source)) for file in files)
        if len(names) != len(ages):
            raise FaceTableError(
                f"{folder / files[1]}: {len(ages):,} ages for the {len(names):,} names of {files[0]}; source "
                f"'{source_name(source)}' needs one age per name, line by line; copy both files from the set again"
            )
        for number, (name, age) in enumerate(zip(names, ages, strict=True), start=1):
            yield Entry(f"{subset}/{name.strip()}", [age.strip(), "asian"], f"{files[0]} line {number}: ")
