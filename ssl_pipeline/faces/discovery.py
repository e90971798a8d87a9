"""What a folder or table of labeled faces holds: face set, attributes, persons, ages, before there is a config."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self, get_args

import pandas as pd
from pydantic import TypeAdapter

from ssl_pipeline.config.sources import CsvSource, DrawnSource, FolderSource, Source, WebDatasetSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import is_archive, without_archive_suffix
from ssl_pipeline.faces.decoding import has_image_signature
from ssl_pipeline.faces.encodings import guess_encoding
from ssl_pipeline.faces.image_files import list_images
from ssl_pipeline.faces.sources.raw_faces import clean_text
from ssl_pipeline.faces.sources.reading import read_raw
from ssl_pipeline.faces.sources.tables import TableFormat, columns_with_images, read_table
from ssl_pipeline.faces.sources.webdataset import read_webdataset
from ssl_pipeline.faces.value_names import suggest_name

Meaning = Literal["attribute", "person_id", "age_years", "origin", "nothing"]
MAX_VALUES = 50
"""More values than this are no attribute."""
_MIN_PARSED = 0.9
"""Share of a folder's images that a face set's reader must understand."""
_MIN_REPEATS, _MAX_PATHS_TRIED = 2, 200
_PERSON = re.compile(r"person|subject|identity|people|user|patient|(^|_)p?id$|인물|사람", re.IGNORECASE)
_AGE = re.compile(r"(^|[\W_])(ages?|years|alter|jahren?|edad|나이|연령|年齢|年龄)($|[\W_])|age_years", re.IGNORECASE)
_ORIGIN = re.compile(r"^(origin|race|ethnicity|인종)$", re.IGNORECASE)
_IMAGE = re.compile(r"\.(jpe?g|png|webp|bmp|tiff?|gif|heic|avif|jfif|mpo)$", re.IGNORECASE)
_PARQUET = re.compile(r"(.*?\.parquet)/", re.IGNORECASE)
_SUBSETS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
"""Names of folders that say nothing of a face; splits are made here."""


@dataclass(frozen=True)
class FoundColumn:
    """Something that faces are labeled with: a level of folders, a column of a table, or a column of a face set.

    Attributes:
        key: the column; of a level, ``level 1`` and so on.
        name: the attribute's name, if it is one; of a level, as its values suggest.
        meaning: what it is taken for.
        values: {value: number of faces}, the most frequent first; without the empty one.
    """

    key: str
    name: str
    meaning: Meaning
    values: Mapping[str, int]

    @property
    def num_known(self) -> int:
        """Number of faces with a value."""
        return sum(self.values.values())


@dataclass(frozen=True)
class Discovery:
    """A folder or table of faces, as it was found.

    Attributes:
        folder: that the image paths are relative to.
        source: the source's ``type``, and for a table its file, encoding and column of images.
        columns: of a folder of plain images, none.
        cells: one row per image, or per row of the table: ``image_path`` and the columns by key; None is unknown.
    """

    folder: Path
    source: Mapping[str, str]
    columns: tuple[FoundColumn, ...]
    cells: pd.DataFrame

    @classmethod
    def of(cls, folder: Path, source: Mapping[str, str], columns: Sequence[FoundColumn], cells: pd.DataFrame) -> Self:
        """Build it with unique names: a name that occurs twice gets a number."""
        names: list[str] = []
        for column in columns:
            names.append(f"{column.name}_{len(names) + 1}" if column.name in names else column.name)
        unique = [replace(column, name=name) for column, name in zip(columns, names, strict=True)]
        return cls(folder, source, tuple(unique), cells)

    @property
    def is_face_set(self) -> bool:
        """Whether it is a public face set, whose reader names the columns."""
        return self.source["type"] not in ("folder", "csv", "webdataset")

    def meaning(self, meaning: Meaning) -> list[FoundColumn]:
        """Return the columns of this meaning."""
        return [column for column in self.columns if column.meaning == meaning]


def discover(path: Path) -> Discovery:
    """Find out how a folder or table of faces is labeled. Nothing is decoded.

    A folder, or an archive, is a public face set if the set's reader understands nine of ten images; else its leading
    folders are levels. Parquet files with images are a table, tar files with labels a WebDataset.

    Raises:
        FaceTableError: if there is nothing to read there.
    """
    if path.is_file() and (not is_archive(path) or columns_with_images(path)):
        return _discover_tables(path.parent, path.name, [path])
    if not path.exists():
        raise FaceTableError(
            f"{path}: no such folder, archive or table; give a folder of images, a zip or tar of them, or a CSV, xlsx or "
            "Parquet file"
        )
    listing = list_images(path)
    if not listing.images:
        files = path.iterdir() if path.is_dir() else ()
        tables = sorted(file.name for file in files if file.suffix in (".csv", ".tsv", ".xlsx", ".parquet"))
        hint = f"; a table lies there: give {path / tables[0]}" if tables else ""
        raise FaceTableError(f"{path}: no image in it{hint}")
    return (
        _discover_parquet(path, listing.images)
        or _discover_webdataset(path, listing.images)
        or _discover_face_set(path, len(listing.images))
        or _discover_levels(path, [PurePosixPath(image) for image in listing.images])
    )


def _discover_face_set(folder: Path, num_images: int) -> Discovery | None:
    """Try the readers of the public face sets."""
    for kind in get_args(get_args(Source)[0]):
        if kind in (DrawnSource, FolderSource, CsvSource, WebDatasetSource):
            continue
        name = get_args(kind.model_fields["type"].annotation)[0]
        try:
            source: Any = TypeAdapter(Source).validate_python({"type": name, "path": folder.name})
            raw = read_raw(source, root=folder.parent)
        except FaceTableError:
            continue
        if len(raw.paths) >= _MIN_PARSED * num_images:
            cells = pd.DataFrame({"image_path": raw.paths, **raw.columns}, dtype=object)
            columns = [FoundColumn(key, key, _meaning_in_set(key), _count(cells[key])) for key in raw.columns]
            return Discovery.of(folder, {"type": name}, columns, cells)
    return None


def _meaning_in_set(column: str) -> Meaning:
    if column in ("person_id", "age_years", "origin"):
        return column  # type: ignore[return-value]  # one of the literals
    return "attribute" if column in ("gender", "mask") else "nothing"


def _discover_levels(folder: Path, images: Sequence[PurePosixPath]) -> Discovery:
    """Take the folders above the images as levels, as many as all but a few images have."""
    depths = sorted(len(image.parts) - 1 for image in images)
    num_levels = depths[int(len(depths) * (1 - _MIN_PARSED))]  # a few stray images are rejected later, with a reason
    cells = pd.DataFrame({"image_path": [str(image) for image in images]}, dtype=object)
    columns: list[FoundColumn] = []
    for level in range(num_levels):
        key = f"level {level + 1}"
        texts = [
            clean_text(without_archive_suffix(image.parts[level])) if len(image.parts) > level + 1 else None
            for image in images
        ]
        cells[key] = pd.Series(texts, dtype=object)
        values = _count(cells[key])
        meaning = _meaning_of_level(values, is_last=level == num_levels - 1)
        columns.append(FoundColumn(key, meaning if meaning == "person_id" else suggest_name(values), meaning, values))
    return Discovery.of(folder, {"type": "folder"}, columns, cells)


def _meaning_of_level(values: Mapping[str, int], *, is_last: bool) -> Meaning:
    """Decide what the folders of one level are: one for all names nothing; many with a few images each are persons."""
    if len(values) < 2 or {value.casefold() for value in values} <= _SUBSETS:
        return "nothing"
    many = len(values) > MAX_VALUES or (is_last and len(values) > 20 and sum(values.values()) < 10 * len(values))
    return "person_id" if many else "attribute"


def _discover_parquet(folder: Path, images: Sequence[str]) -> Discovery | None:
    """Take Parquet files with images, as Hugging Face data sets have them, as one table."""
    tables = sorted({match[1] for image in images if (match := _PARQUET.match(image))})
    if not tables:
        return None
    parents = {Path(table).parent for table in tables}
    pattern = (parents.pop() if len(parents) == 1 else Path("**")) / "*.parquet"
    return _discover_tables(folder, str(pattern), [folder / table for table in tables])


def _discover_webdataset(path: Path, images: Sequence[str]) -> Discovery | None:
    """Take tar files as a WebDataset if their images have labels beside them."""
    if not is_archive(path) and not any(".tar/" in image.lower() for image in images):
        return None
    try:
        raw = read_webdataset(WebDatasetSource(type="webdataset", path=Path(path.name)), root=path.resolve().parent)
    except (FaceTableError, OSError):  # the second for a folder that cannot be listed
        return None
    cells = pd.DataFrame({"image_path": raw.paths, **raw.columns}, dtype=object)
    if cells.drop(columns="image_path").notna().any(axis=1).mean() < _MIN_PARSED:
        return None
    return Discovery.of(path, {"type": "webdataset"}, _table_columns(cells.drop(columns="image_path")), cells)


def _discover_tables(folder: Path, pattern: str, tables: Sequence[Path]) -> Discovery:
    """Read a table, or several with the same columns."""
    encoding = _encoding_of(tables[0])
    header, rows = read_table(tables[0], needed_by="init", table_format=TableFormat(None, encoding))
    readers = [rows, *(read_table(table, needed_by="init", columns=header)[1] for table in tables[1:])]
    cells = pd.DataFrame([row.values for row in chain(*readers)], columns=header, dtype=object)
    images = columns_with_images(tables[0])
    pictures = [column for column in images if len(cells) and has_image_signature(Path(cells[column].iloc[0]))]
    image_column = pictures[0] if pictures else _find_image_column(tables[0], cells.drop(columns=images))
    source = {"type": "csv", "table": pattern, "image_column": image_column}
    if encoding:
        source["encoding"] = encoding
    columns = _table_columns(cells.drop(columns=[*images, image_column]))
    return Discovery.of(folder, source, columns, cells.rename(columns={image_column: "image_path"}))


def _table_columns(cells: pd.DataFrame) -> list[FoundColumn]:
    counts = {key: _count(cells[key]) for key in cells.columns}
    return [FoundColumn(key, key, _meaning_of_column(key, values), values) for key, values in counts.items()]


def _encoding_of(path: Path) -> str | None:
    """Return the encoding of a delimited table that is not UTF-8, as far as it can be guessed."""
    with path.open("rb") as file:
        content = file.read(2**16)
    if content[:4] in (b"PAR1", b"PK\x03\x04") or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None
    try:
        content[: content.rfind(b"\n") + 1].decode("utf-8-sig")
    except UnicodeDecodeError:
        return guess_encoding(content)
    return None


def _find_image_column(path: Path, cells: pd.DataFrame) -> str:
    """Return the column whose cells name images, best files that exist.

    Raises:
        FaceTableError: if there is none.
    """
    scores = {}
    for column in cells.columns:
        texts = [str(text) for text in cells[column].dropna()[:_MAX_PATHS_TRIED]]
        scores[column] = sum(bool(_IMAGE.search(text)) + (path.parent / text).is_file() for text in texts)
    best = max(scores, key=lambda column: scores[column], default="")
    if not best or scores[best] == 0:
        raise FaceTableError(
            f"{path}: no column holds paths of images, relative to {path.parent}; the header is {list(cells.columns)}"
        )
    return best


def _meaning_of_column(column: str, values: Mapping[str, int]) -> Meaning:
    num = sum(values.values())
    is_number = all(re.fullmatch(r"\d+(\.\d+)?", value) for value in values)
    if _PERSON.search(column) and num > len(values) > 1:
        return "person_id"
    if _AGE.search(column) and is_number and len(values) > 8:
        return "age_years"
    if len(values) < 2 or len(values) > MAX_VALUES or num < _MIN_REPEATS * len(values):
        return "nothing"
    if _ORIGIN.search(column):
        return "origin"
    return "nothing" if is_number and len(values) > 20 else "attribute"


def _count(values: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(value for value in values if value).most_common())
