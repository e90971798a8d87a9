"""A folder of images at any depth, whose first folders may say something: ``<gender>/<age>/…``."""

from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import FolderSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.finding import Values, find_by_path
from ssl_pipeline.faces.sources.raw import RawFaces, source_name


def find_in_folder(source: FolderSource, *, root: Path) -> RawFaces:
    """List the images; `levels` names the columns that the leading folders give.

    A level named ``person_id`` says who it is; without one, each image is a person of its own. Files that are not
    images by their suffix are ignored. A file that lies less deep than `levels` is rejected.

    Raises:
        FaceTableError: if there are no images, or `levels` names a column twice.
    """
    if len(set(source.levels)) != len(source.levels):
        raise FaceTableError(
            f"source '{source_name(source)}': levels {list(source.levels)} name a column twice; "
            "give every level a name of its own"
        )

    def values_of(path: PurePosixPath) -> Values | str:
        folders = path.parts[:-1]
        if len(folders) < len(source.levels):
            needed = "/".join(f"<{level}>" for level in source.levels)
            return f"lies too high: expected folders {needed}/ above the file"
        return folders[: len(source.levels)]

    return find_by_path(source, root=root, columns=source.levels, expected="image files", values_of=values_of)
