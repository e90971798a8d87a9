"""WebDataset shards: tar files in which the files of one sample share their name up to the first dot."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ssl_pipeline.config.sources import WebDatasetSource
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.archives import is_archive, member_names, read_bytes
from ssl_pipeline.faces.image_files import IMAGE_SUFFIXES, escape_name, list_files
from ssl_pipeline.faces.sources.raw_faces import Entry, RawFaces, collect_faces, existing_folder, source_name

LABEL_SUFFIXES = (".json", ".cls", ".txt")


def read_webdataset(source: WebDatasetSource, *, root: Path) -> RawFaces:
    """Read the samples of all shards. Rejected are samples without an image, or with labels that cannot be read.

    Nested values of a JSON file are left out. A label that a sample lacks is unknown.

    Raises:
        FaceTableError: if there is no shard, or one cannot be read.
    """
    folder = existing_folder(source, root=root)
    names = [""] if is_archive(folder) else [name for name in list_files(folder) if name.lower().endswith(".tar")]
    if not names:
        raise FaceTableError(
            f"{folder}: no .tar file in it; source '{source_name(source)}' of type webdataset needs shards, not compressed"
        )
    samples: list[tuple[str, dict[str, str] | str]] = []
    for name in names:
        samples += _read_shard(folder, name)
    columns = sorted({column for _, labels in samples if not isinstance(labels, str) for column in labels})
    entries = [
        Entry(path, labels if isinstance(labels, str) else [labels.get(column) for column in columns])
        for path, labels in samples
    ]
    return collect_faces(entries, columns)


def _read_shard(folder: Path, name: str) -> list[tuple[str, dict[str, str] | str]]:
    """Return of each sample the image's path, relative to the folder, and its labels or the reason for rejection."""
    shard = folder / name
    try:
        members = member_names(shard)
    except OSError as error:
        raise FaceTableError(f"{shard}: {error.strerror or error}; download it again, or remove it") from None
    samples: dict[str, dict[str, str]] = defaultdict(dict)
    for member in members:
        inside = PurePosixPath(member)
        if not any(part.startswith(".") for part in inside.parts):
            stem, _, suffix = inside.name.partition(".")
            samples[str(inside.with_name(stem))][f".{suffix.lower()}"] = member
    rows: list[tuple[str, dict[str, str] | str]] = []
    for key, files in samples.items():
        image = next((file for suffix, file in files.items() if suffix.endswith(IMAGE_SUFFIXES)), None)
        path = str(PurePosixPath(name, image or key))
        rows.append((path, "no image in this sample" if image is None else _read_labels(shard, files)))
    return rows


def _read_labels(shard: Path, files: Mapping[str, str]) -> dict[str, str] | str:
    labels: dict[str, str] = {}
    for suffix in LABEL_SUFFIXES:
        if suffix not in files:
            continue
        try:
            text = read_bytes(shard / files[suffix]).decode("utf-8-sig")
            if suffix == ".json":
                content = json.loads(text)
                labels |= {
                    str(key): _text(value) for key, value in content.items() if not isinstance(value, dict | list)
                }
            else:
                labels[suffix[1:]] = text.strip()
        except (OSError, UnicodeDecodeError, ValueError, AttributeError) as error:
            return f"{escape_name(files[suffix])} cannot be read ({error})"
    return labels


def _text(value: object) -> str:
    return "" if value is None else str(value)
