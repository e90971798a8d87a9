"""Folders of images at any depth; the leading folders may give labels, e.g. ``<gender>/<age>/…``."""

from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import UNUSED_LEVEL, FolderSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import without_archive_suffix
from ssl_pipeline.faces.sources.listing import list_by_path
from ssl_pipeline.faces.sources.raw_faces import RawFaces, Values, source_name


def read_folder(source: FolderSource, *, root: Path) -> RawFaces:
    """List the images; `levels` names the columns that the leading folders give; ``_`` none.

    An archive is a folder, named without its suffix: ``male.zip/1.jpg`` lies in ``male``.

    Without a level ``person_id``, every image is a different person. A file with fewer folders above it than `levels` is rejected.

    Raises:
        FaceTableError: if there are no images, or `levels` repeats a column.
    """
    named = [position for position, level in enumerate(source.levels) if level != UNUSED_LEVEL]
    columns = [source.levels[position] for position in named]
    if len(set(columns)) != len(columns):
        raise FaceTableError(
            f"source '{source_name(source)}': levels {list(source.levels)} repeat a column; give every level another name"
        )

    def parse(path: PurePosixPath) -> Values | str:
        folders = path.parts[:-1]  # an archive is one of them
        if len(folders) < len(source.levels):
            levels = "/".join(f"<{level}>" for level in source.levels)
            return f"too few folders: expected {levels}/ above the file"
        return [without_archive_suffix(folders[position]) for position in named]

    return list_by_path(source, root=root, columns=columns, expected="image files", parse=parse)
