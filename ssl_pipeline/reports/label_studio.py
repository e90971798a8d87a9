"""Label Studio: pseudo-labels as tasks with predictions, and the answers of a project's JSON export."""

import json
from collections.abc import Iterable, Iterator, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import pandas as pd

from ssl_pipeline.errors import ManifestError, list_of_faults
from ssl_pipeline.faces.answer_tables import control_names
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.reports.json_lines import write_json_list
from ssl_pipeline.runs.files import write_text

TASKS, CONFIG = "tasks.json", "labeling_config.xml"
ANSWER_COLUMNS = ("image_id", "attribute", "value", "reviewer", "time")


def write_label_studio(
    folder: Path, parts: Iterable[pd.DataFrame], labels: LabelSpace, *, model_version: str, root: Path
) -> int:
    """Write ``tasks.json``, to import, and ``labeling_config.xml``, to paste into the project's settings.

    Args:
        folder: of the two files.
        parts: rows of a manifest.
        labels: the attributes.
        model_version: what predicted the values.
        root: the folder that Label Studio serves local files from (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT).

    Returns:
        The number of tasks: of all faces that could be read.
    """
    write_text(folder / CONFIG, labeling_config(labels))
    return write_json_list(folder / TASKS, _tasks(parts, labels, model_version, root))


def labeling_config(labels: LabelSpace) -> str:
    """Return Label Studio's XML: the picture, and the values of each attribute to choose from."""
    lines = ["<View>", '  <Image name="image" value="$image"/>', '  <Text name="face" value="$image_id"/>']
    for name, attribute in zip(control_names(labels), labels.attributes, strict=True):
        lines.append(f"  <Header value={quoteattr(attribute.name)}/>")
        lines.append(f'  <Choices name="{name}" toName="image" choice="single-radio" showInline="true">')
        lines += [f"    <Choice value={quoteattr(value)}/>" for value in attribute.values]
        lines.append("  </Choices>")
    return "\n".join([*lines, "</View>", ""])


def read_annotations(path: Path, labels: LabelSpace) -> pd.DataFrame:
    """Read the answers from a project's export (format JSON).

    Returns:
        A row per answer, in the order of time: image_id, attribute, value, reviewer (e-mail, or number), time (ISO 8601).
        Skipped tasks and attributes without an answer have none.

    Raises:
        ManifestError: if the file is no such export, or has other attributes or values than these.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file") from None
    except ValueError as error:
        raise ManifestError(f"{path}: not JSON ({error}); export the project in the format JSON") from None
    attributes, rows, faults = dict(zip(control_names(labels), labels.attributes, strict=True)), [], []
    try:
        for image_id, annotation, result in _results(tasks):
            attribute = attributes.get(result["from_name"])
            if attribute is None:
                faults.append(f"{image_id}: '{result['from_name']}' is none of {', '.join(attributes)}")
                continue
            for value in result["value"]["choices"]:
                if value not in attribute.values:
                    known = ", ".join(attribute.values)
                    faults.append(f"{image_id}: {attribute.name}: expected one of {known}, got '{value}'")
                rows.append([image_id, attribute.name, value, _reviewer(annotation), annotation["created_at"]])
    except (KeyError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise ManifestError(f"{path}: no export of tasks that `manifest export` wrote ({fault})") from None
    if faults:
        raise ManifestError(list_of_faults(f"{path}: answers to other questions", faults))
    return pd.DataFrame(rows, columns=list(ANSWER_COLUMNS)).sort_values("time", kind="stable", ignore_index=True)


def _tasks(
    parts: Iterable[pd.DataFrame], labels: LabelSpace, model_version: str, root: Path
) -> Iterator[dict[str, Any]]:
    for part in parts:
        for face in part[part["status"] != "unreadable"].to_dict("records"):
            path = relpath(str(face["image_path"]), root).replace("\\", "/")
            data = {name: str(face[name]) for name in ("image_id", "status", "source", "reason")}
            data["image"] = f"/data/local-files/?d={quote(path)}"
            results = [
                {
                    "from_name": name,
                    "to_name": "image",
                    "type": "choices",
                    "value": {"choices": [str(face[attribute])]},
                    "score": float(face[f"{attribute}_confidence"]),
                }
                for name, attribute in zip(control_names(labels), labels.names, strict=True)
            ]
            yield {
                "data": data,
                "predictions": [
                    {"model_version": model_version, "score": float(face["confidence"]), "result": results}
                ],
            }


def _results(tasks: Sequence[Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield image id, annotation and each answer of it."""
    for task in tasks:
        for annotation in task["annotations"]:
            for result in [] if annotation.get("was_cancelled") else annotation["result"]:
                if result["type"] == "choices":
                    yield task["data"]["image_id"], annotation, result


def _reviewer(annotation: dict[str, Any]) -> str:
    """Return who answered: the e-mail address where the export has it, else the number."""
    who = annotation["completed_by"]
    return str(who["email"] if isinstance(who, dict) else who)
