"""A masked set: bare faces of any source in, a MaskBase-like folder of masked, wrongly masked and bare pictures out.

``faces.csv`` in that folder is read back by the source ``csv``; ``rejected.csv`` names every face left out and why; the
record, ``masked_set.json``, is written last.
"""

import csv
import io
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ssl_pipeline.config.execution import ExecutionConfig
from ssl_pipeline.config.labels import AttributeConfig, LabelsConfig
from ssl_pipeline.config.masking import MASK_VALUES, MaskingConfig
from ssl_pipeline.errors import FaceTableError, RunError
from ssl_pipeline.execution.shards import IN_PROCESS
from ssl_pipeline.faces.sources.raw_faces import source_folder, source_name
from ssl_pipeline.faces.sources.reading import fingerprint, read_source
from ssl_pipeline.runs.files import digest_file, digest_of, read_json, write_json, write_text
from ssl_pipeline.synthetic.masks.drawing_units import draw_units
from ssl_pipeline.synthetic.masks.landmarks import LandmarkFinder, landmark_finder
from ssl_pipeline.synthetic.masks.pictures import DRAWING_VERSION, HostFace, MadePicture, Unit, unit_folder

logger = logging.getLogger(__name__)

TABLE_NAME, REJECTED_NAME, RECORD_NAME, STARTED_NAME = (
    "faces.csv",
    "rejected.csv",
    "masked_set.json",
    ".masked_set.json",
)
_WEARS = "wears a mask already"


def build_masked_faces(config: MaskingConfig, *, execution: ExecutionConfig = IN_PROCESS) -> dict[str, Any]:
    """Build a masked set, or complete one of the same settings that was begun; the same settings give the same bytes.

    Args:
        config: whose faces, how many pictures, where to.
        execution: where the pictures are drawn; in this process and those that it starts, or on a Ray cluster.

    Returns:
        The record: `found`, which is `filtered` + `beyond_limit` + `rejected` + `not_needed` + `used`; `reasons`
        {reason: number of rejected}; `drawn` {wear, incorrect, normal}, whose sum is `pictures`; `kinds`, `ways`;
        `outputs` {file: digest}. What is not in the file, since it differs from run to run: `kept`, how many pictures
        were there before, and `folder`.

    Raises:
        FaceTableError: if sources, landmarks or the folder `out` cannot be used, or no face is left.
        RunError: if a process that draws dies.
        PipelineError: of a Ray cluster; see `execution.shards.map_shards`.
    """
    finder = landmark_finder(config.landmarks, root=config.root)
    fingerprints = [fingerprint(source, root=config.root) for source in config.sources]
    if (finished := _finished(config, digest=_digest(config, finder), fingerprints=fingerprints)) is not None:
        return finished | {"kept": finished["pictures"], "folder": str(config.folder)}
    digest = _begin(config, finder)
    faces, rejected, counts = _read(config)
    units = _units(faces, config)
    results = draw_units(units, config, finder, execution)
    for result in results:
        rejected.extend((image_id, reason) for image_id, reason in result.rejected.items())
    pictures = [picture for result in results for picture in result.pictures]
    if not pictures:
        raise FaceTableError(
            f"none of the {counts['found']:,} faces found can be masked: {_most_common(rejected)}; "
            "mend the sources or name other landmarks"
        )
    write_text(config.folder / TABLE_NAME, _table(pictures, faces, config))
    write_text(config.folder / REJECTED_NAME, _csv(["image_id", "reason"], sorted(rejected)))
    not_needed = sum(len(result.unused) for result in results)
    record = {
        "digest": digest,
        "fingerprints": fingerprints,
        "config": _fingerprint_fields(config),
        **counts,
        "rejected": len(rejected),
        "not_needed": not_needed,
        "used": len(faces) - not_needed - sum(len(result.rejected) for result in results),
        "reasons": dict(sorted(Counter(_kind_of(reason) for _, reason in rejected).items())),
        "pictures": len(pictures),
        "drawn": {value: sum(picture.mask == value for picture in pictures) for value in MASK_VALUES},
        "kinds": _counted([picture.parameters.kind for picture in pictures if picture.parameters]),
        "ways": _counted([picture.parameters.way for picture in pictures if picture.parameters]),
        "outputs": {name: digest_file(config.folder / name) for name in (TABLE_NAME, REJECTED_NAME)},
    }
    write_json(config.folder / RECORD_NAME, record)
    if rejected:
        logger.warning("%s: %d faces left out: %s", config.folder, len(rejected), _most_common(rejected))
    return record | {"kept": sum(result.num_kept for result in results), "folder": str(config.folder)}


def _fingerprint_fields(config: MaskingConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"processes", "out"})


def _digest(config: MaskingConfig, finder: LandmarkFinder) -> str:
    return digest_of([DRAWING_VERSION, _fingerprint_fields(config), finder.identity])


def _finished(config: MaskingConfig, *, digest: str, fingerprints: list[str]) -> dict[str, Any] | None:
    """Give the record of a set that is whole: of these settings and sources, its tables as written, no picture gone."""
    try:
        record = read_json(config.folder / RECORD_NAME)
    except RunError:
        return None
    tables = {name: config.folder / name for name in (TABLE_NAME, REJECTED_NAME)}
    if (record.get("digest"), record.get("fingerprints")) != (digest, fingerprints):
        return None
    if any(not path.is_file() or digest_file(path) != record["outputs"][name] for name, path in tables.items()):
        return None
    pictures = pd.read_csv(tables[TABLE_NAME], usecols=["image_path"], dtype=str)["image_path"]
    return record if all((config.folder / name).is_file() for name in pictures) else None


def _begin(config: MaskingConfig, finder: LandmarkFinder) -> str:
    """Mark the folder as this set's, and take the record of an earlier run away until this one is done.

    Raises:
        FaceTableError: if the folder holds another set, or anything else, or lies in a source's.
    """
    for source in config.sources:
        folder = source_folder(source, root=config.root).resolve()
        if config.folder.resolve().is_relative_to(folder):
            raise FaceTableError(
                f"{config.folder}: lies in the folder of source '{source_name(source)}', which would read its pictures as "
                "faces to mask; name a folder beside it in masking.out"
            )
    digest = _digest(config, finder)
    started = config.folder / STARTED_NAME
    if started.exists():
        try:
            same = read_json(started).get("digest") == digest
        except RunError:
            same = False
        if not same:
            raise FaceTableError(
                f"{config.folder}: holds a masked set of other settings, landmarks or version; "
                "name another folder in masking.out, or delete this one"
            )
    elif config.folder.exists() and (not config.folder.is_dir() or any(config.folder.iterdir())):
        raise FaceTableError(f"{config.folder}: holds something else; name a new or empty folder in masking.out")
    (config.folder / RECORD_NAME).unlink(missing_ok=True)
    write_json(started, {"digest": digest})
    return digest


def _read(config: MaskingConfig) -> tuple[pd.DataFrame, list[tuple[str, str]], dict[str, int]]:
    """Read the sources: the bare faces by image id, those rejected with their reasons, and the counts so far."""
    labels = _reading_labels(config)
    tables, rejected = [], []
    counts = {"found": 0, "filtered": 0, "beyond_limit": 0}
    for source in config.sources:
        read = read_source(source, root=config.root, labels=labels, seed=config.seed)
        prefix = len(source_name(source)) + 1
        tables.append(read.faces.assign(path_in_source=read.faces["image_id"].str[prefix:]))
        rejected += list(read.rejected[["image_id", "reason"]].itertuples(index=False, name=None))
        for name, number in (
            ("found", read.num_found),
            ("filtered", read.num_filtered),
            ("beyond_limit", read.num_beyond_limit),
        ):
            counts[name] += number
    faces = pd.concat(tables, ignore_index=True).sort_values("image_id", ignore_index=True)
    masked = faces["mask"].isin(["wear", "incorrect"])
    rejected += [(image_id, _WEARS) for image_id in faces.loc[masked, "image_id"]]
    return faces[~masked].reset_index(drop=True), rejected, counts


def _reading_labels(config: MaskingConfig) -> LabelsConfig:
    """The labels to read sources by: those of the config, and mask, so that a masked face is not masked again."""
    attributes = config.labels.attributes
    if all(attribute.name != "mask" for attribute in attributes):
        attributes = (AttributeConfig(name="mask", values=MASK_VALUES), *attributes)
    return LabelsConfig(attributes=attributes)


def _units(faces: pd.DataFrame, config: MaskingConfig) -> list[Unit]:
    by = "image_id" if config.per_face is not None else "person_id"
    columns = ["image_id", "image_path", "path_in_source"]
    return [
        Unit(unit_folder(str(identity)), tuple(HostFace(*map(str, row)) for row in rows[columns].to_numpy().tolist()))
        for identity, rows in faces.groupby(by, sort=True)
    ]


def _table(pictures: Sequence[MadePicture], faces: pd.DataFrame, config: MaskingConfig) -> str:
    """Write the set's faces as CSV: what the source knows of the host, and the mask, known by construction."""
    kept = [a.name for a in config.labels.attributes if a.name != "mask" and a.from_column is None]
    rows_of = faces[["person_id", *kept, "age_years", "origin"]].to_numpy(object).tolist()
    known = dict(zip(faces["image_id"], rows_of, strict=True))
    columns = [
        "image_path",
        "person_id",
        "mask",
        *kept,
        "age_years",
        "origin",
        "mask_kind",
        "mask_way",
        "host",
        "digest",
    ]
    rows = []
    for picture in pictures:
        person, *labels, age, origin = known[picture.image_id]
        kind, way = (picture.parameters.kind, picture.parameters.way) if picture.parameters else ("", "")
        cells = [picture.file, person, picture.mask, *labels, age, origin, kind, way, picture.image_id, picture.digest]
        rows.append(["" if pd.isna(cell) else f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells])
    return _csv(columns, rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _counted(values: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _kind_of(reason: str) -> str:
    """Shorten a reason to what faces have in common, for the counts."""
    return reason.split(":")[0]


def _most_common(rejected: Sequence[tuple[str, str]]) -> str:
    common = Counter(_kind_of(reason) for _, reason in rejected).most_common(3)
    return "; ".join(f"{number:,} × {reason}" for reason, number in common)
