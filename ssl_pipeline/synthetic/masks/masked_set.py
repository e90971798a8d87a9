"""Build a masked set: a folder of masked, wrongly masked and bare pictures from the bare faces of any source.

The source ``csv`` reads the folder's ``faces.csv``; ``rejected.csv`` lists the faces left out, with reasons; the record,
``masked_set.json``, is written last.
"""

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
from ssl_pipeline.synthetic.masks.drawing import draw_groups
from ssl_pipeline.synthetic.masks.landmarks import LandmarkFinder, landmark_finder
from ssl_pipeline.synthetic.masks.picture_files import (
    DRAWING_VERSION,
    HostFace,
    HostGroup,
    MaskedPicture,
    group_folder,
)

logger = logging.getLogger(__name__)

TABLE_NAME, REJECTED_NAME, RECORD_NAME = "faces.csv", "rejected.csv", "masked_set.json"
STARTED_NAME = ".masked_set.json"
_WEARS = "wears a mask already"


def build_masked_faces(config: MaskingConfig, *, execution: ExecutionConfig = IN_PROCESS) -> dict[str, Any]:
    """Build a masked set, or complete an interrupted one of the same settings; the same settings give the same bytes.

    Args:
        config: sources, numbers of pictures, output folder.
        execution: where to draw: on this machine or on a Ray cluster.

    Returns:
        The record: `found` = `passed_over` + `filtered` + `beyond_limit` + `rejected` + `not_needed` + `used`; `reasons` {reason: number
        of rejected}; `drawn` {wear, incorrect, normal}, with the sum `pictures`; `kinds`, `ways`; `outputs` {file:
        digest}. Two keys differ from run to run and are not in the file: `kept`, the number of pictures that existed
        before, and `folder`.

    Raises:
        FaceTableError: if sources, landmarks or the folder `out` cannot be used, or no face is left.
        RunError: if a drawing process dies.
        PipelineError: if a Ray cluster fails; see `execution.shards.map_shards`.
    """
    finder = landmark_finder(config.landmarks, root=config.root)
    fingerprints = [fingerprint(source, root=config.root) for source in config.sources]
    if (finished := _finished(config, digest=_digest(config, finder), fingerprints=fingerprints)) is not None:
        return finished | {"kept": finished["pictures"], "folder": str(config.folder)}
    digest = _begin(config, finder)
    faces, rejected, counts = _read(config)
    results = draw_groups(_group_faces(faces, config), config, finder, execution)
    for result in results:
        rejected.extend((image_id, reason) for image_id, reason in result.rejected.items())
    pictures = [picture for result in results for picture in result.pictures]
    if not pictures:
        raise FaceTableError(
            f"none of the {counts['found']:,} faces found can be masked: {_most_common(rejected)}; "
            "correct the sources or choose other landmarks"
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
        "reasons": _count([_short_reason(reason) for _, reason in rejected]),
        "pictures": len(pictures),
        "drawn": {value: sum(picture.mask == value for picture in pictures) for value in MASK_VALUES},
        "kinds": _count([picture.parameters.kind for picture in pictures if picture.parameters]),
        "ways": _count([picture.parameters.way for picture in pictures if picture.parameters]),
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
    """Return the record of a complete set: same settings and sources, unchanged tables, all pictures there."""
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
    """Mark the folder with the set's digest, and remove the record of an earlier run until this one is finished.

    Raises:
        FaceTableError: if the folder holds another set or other files, or lies inside a source's folder.
    """
    for source in config.sources:
        folder = source_folder(source, root=config.root).resolve()
        if config.folder.resolve().is_relative_to(folder):
            raise FaceTableError(
                f"{config.folder}: lies in the folder of source '{source_name(source)}', which would read its pictures as "
                "faces to mask; name another folder in masking.out"
            )
    digest = _digest(config, finder)
    marker = config.folder / STARTED_NAME
    if marker.exists():
        try:
            is_same = read_json(marker).get("digest") == digest
        except RunError:
            is_same = False
        if not is_same:
            raise FaceTableError(
                f"{config.folder}: holds a masked set with other settings, landmarks or version; "
                "name another folder in masking.out, or delete this one"
            )
    elif config.folder.exists() and (not config.folder.is_dir() or any(config.folder.iterdir())):
        raise FaceTableError(f"{config.folder}: holds something else; name a new or an empty folder in masking.out")
    (config.folder / RECORD_NAME).unlink(missing_ok=True)
    write_json(marker, {"digest": digest})
    return digest


def _read(config: MaskingConfig) -> tuple[pd.DataFrame, list[tuple[str, str]], dict[str, int]]:
    """Read the sources; return the bare faces sorted by image id, (image_id, reason) of the rejected ones, and counts."""
    labels = _reading_labels(config)
    tables, rejected = [], []
    counts = {"found": 0, "passed_over": 0, "filtered": 0, "beyond_limit": 0}
    for source in config.sources:
        read = read_source(source, root=config.root, labels=labels, seed=config.seed)
        prefix = len(source_name(source)) + 1
        tables.append(read.faces.assign(path_in_source=read.faces["image_id"].str[prefix:]))
        rejected += list(read.rejected[["image_id", "reason"]].itertuples(index=False, name=None))
        counts["found"] += read.num_found
        counts["passed_over"] += len(read.passed_over)
        counts["filtered"] += read.num_filtered
        counts["beyond_limit"] += read.num_beyond_limit
    faces = pd.concat(tables, ignore_index=True).sort_values("image_id", ignore_index=True)
    is_masked = faces["mask"].isin(["wear", "incorrect"])
    rejected += [(image_id, _WEARS) for image_id in faces.loc[is_masked, "image_id"]]
    return faces[~is_masked].reset_index(drop=True), rejected, counts


def _reading_labels(config: MaskingConfig) -> LabelsConfig:
    """Return the config's labels plus `mask`, which is needed to recognize faces that wear a mask already."""
    attributes = config.labels.attributes
    if all(attribute.name != "mask" for attribute in attributes):
        attributes = (AttributeConfig(name="mask", values=MASK_VALUES), *attributes)
    return LabelsConfig(attributes=attributes)


def _group_faces(faces: pd.DataFrame, config: MaskingConfig) -> list[HostGroup]:
    key = "image_id" if config.per_face is not None else "person_id"
    columns = ["image_id", "image_path", "path_in_source"]
    return [
        HostGroup(
            group_folder(str(identity)), tuple(HostFace(*map(str, row)) for row in rows[columns].to_numpy().tolist())
        )
        for identity, rows in faces.groupby(key, sort=True)
    ]


def _table(pictures: Sequence[MaskedPicture], faces: pd.DataFrame, config: MaskingConfig) -> str:
    """Format the set's pictures as CSV: the labels of the host face, and the mask, known by construction."""
    names = [a.name for a in config.labels.attributes if a.name != "mask" and a.from_column is None]
    host_rows = faces[["person_id", *names, "age_years", "origin"]].to_numpy(object).tolist()
    host_row = dict(zip(faces["image_id"], host_rows, strict=True))
    columns = ["image_path", "person_id", "mask", *names, "age_years", "origin"]
    columns += ["mask_kind", "mask_way", "host", "digest"]
    rows = []
    for picture in pictures:
        person, *labels, age, origin = host_row[picture.image_id]
        kind, way = (picture.parameters.kind, picture.parameters.way) if picture.parameters else ("", "")
        cells = [picture.file, person, picture.mask, *labels, age, origin, kind, way, picture.image_id, picture.digest]
        rows.append(["" if pd.isna(cell) else f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in cells])
    return _csv(columns, rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return str(pd.DataFrame(rows, columns=list(columns)).to_csv(index=False, lineterminator="\n"))


def _count(values: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _short_reason(reason: str) -> str:
    """Return the part of a reason that is the same for all faces."""
    return reason.split(":")[0]


def _most_common(rejected: Sequence[tuple[str, str]]) -> str:
    common = Counter(_short_reason(reason) for _, reason in rejected).most_common(3)
    return "; ".join(f"{number:,} × {reason}" for reason, number in common)
