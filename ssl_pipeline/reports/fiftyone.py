"""FiftyOne: pseudo-labels as a data set that ``fiftyone.Dataset.from_dir`` imports (`LegacyFiftyOneDataset`).

Its samples are plain JSON, with paths of pictures that stay where they are; the newer layout is a dump of FiftyOne's database.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.reports.json_lines import write_json_list
from ssl_pipeline.runs.files import write_json

TEXTS = ("image_id", "source", "reason")


def write_fiftyone(folder: Path, parts: Iterable[pd.DataFrame], labels: LabelSpace) -> int:
    """Write ``metadata.json`` and ``samples.json``: per face its path, texts, and a Classification per attribute.

    The face's status is a tag of the sample; the label's status and source are tags of the label.

    Args:
        folder: to import.
        parts: rows of a manifest.
        labels: the attributes.

    Returns:
        The number of samples: of all faces that could be read.
    """
    classes = {field: list(each.values) for field, each in zip(field_names(labels), labels.attributes, strict=True)}
    write_json(folder / "metadata.json", {"media_type": "image", "classes": classes})
    return write_json_list(folder / "samples.json", _samples(parts, labels), before='{"samples": ', after="}")


def field_names(labels: LabelSpace) -> list[str]:
    """Return a field for each attribute: FiftyOne allows letters, digits and _, and has own fields, e.g. `tags`."""
    own = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at", *TEXTS}
    fields: list[str] = []
    for name in labels.names:
        field = re.sub(r"[^A-Za-z0-9_]", "_", name).lstrip("_")
        fields.append(field if field and field not in own | set(fields) else f"label_{len(fields)}_{field}")
    return fields


def _samples(parts: Iterable[pd.DataFrame], labels: LabelSpace) -> Iterator[dict[str, Any]]:
    for part in parts:
        for face in part[part["status"] != "unreadable"].to_dict("records"):
            sample: dict[str, Any] = {"filepath": str(Path(face["image_path"]).absolute()), "tags": [face["status"]]}
            sample |= {name: str(face[name]) for name in TEXTS}
            for field, name in zip(field_names(labels), labels.names, strict=True):
                source = face[f"{name}_label_source"]
                sample[field] = {
                    "_cls": "Classification",
                    "label": str(face[name]),
                    "confidence": float(face[f"{name}_confidence"]),
                    "tags": [face[f"{name}_status"], *([source] if isinstance(source, str) else [])],
                }
            yield sample
