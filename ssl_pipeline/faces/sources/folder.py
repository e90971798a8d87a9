"""A folder of images at any depth, whose first folders may say something: ``<gender>/<age>/…``."""

from pathlib import Path

from ssl_pipeline.config import FolderSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.sources.raw import (
    RawFaces,
    Rejection,
    existing_folder,
    is_image_name,
    list_files,
    nothing_found,
    raw_faces,
    source_name,
)


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
    folder = existing_folder(source, root=root)
    paths = [path for path in list_files(folder) if is_image_name(path)]
    if not paths:
        raise nothing_found(source, folder, root=root, expected="image files")
    rows: list[tuple[str, list[str | None]]] = []
    rejected = []
    for path in paths:
        *folders, _ = path.split("/")
        if len(folders) < len(source.levels):
            needed = "/".join(f"<{level}>" for level in source.levels)
            rejected.append(Rejection(path, f"lies too high: expected folders {needed}/ above the file"))
        else:
            rows.append((path, [*folders[: len(source.levels)]]))
    return raw_faces(rows, source.levels, rejected)
