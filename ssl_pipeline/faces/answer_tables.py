"""Answers of people as tables: a CSV for `faces.corrections`, and answers read from a CSV or from Label Studio's JSON."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ssl_pipeline.errors import FaceTableError, list_of_faults
from ssl_pipeline.faces.sources.tables import read_table
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.answers import Answer, Verdict, current_answers, faults_of
from ssl_pipeline.runs.files import atomic_path, digest_file, digest_of
from ssl_pipeline.runs.spreadsheet_cells import safe_cell

_COLUMNS = ("image_id", "attribute", "value", "reviewer", "time", "note")
_CURE = "export the project as JSON (not JSON-MIN) and import that file"


@dataclass(frozen=True)
class GivenLabel:
    """An answer as a file states it; `where` names its place in the file."""

    where: str
    image_id: str
    attribute: str
    value: str | None
    """None: rejected."""
    reviewer: str
    time: str


def write_corrections(path: Path, verdicts: Mapping[tuple[str, str], Verdict]) -> int:
    """Write what people agree on as a table that `faces.corrections` reads: a rejected label is unknown.

    Returns:
        The number of rows; disputed and unsure labels have none.
    """
    rows = [
        (verdict.image_id, attribute, verdict.value or "", safe_cell(_note(verdict)))
        for (_, attribute), verdict in verdicts.items()
        if verdict.state in ("labeled", "rejected")
    ]
    with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image_id", "attribute", "value", "note"])
        writer.writerows(sorted(rows))
    return len(rows)


def _note(verdict: Verdict) -> str:
    votes = [f"{vote.reviewer} {vote.value or vote.decision} {vote.time}" for vote in verdict.votes]
    return f"answered by {', '.join(votes)}"


def new_answers(
    path: Path, *, content_hashes: Mapping[str, str], labels: LabelSpace, before: Sequence[Answer], reviewer: str = ""
) -> list[Answer]:
    """Read answers from a file: ``image_id,attribute,value`` and optionally ``reviewer,time``, or Label Studio's JSON.

    An empty value rejects the label. An answer that its reviewer gives already is left out, so that a file that grows can
    be read again.

    Args:
        path: of the file.
        content_hashes: of the run's faces, by image id.
        labels: the label space.
        before: the run's answers.
        reviewer: of rows that name none.

    Raises:
        FaceTableError: listing every row that names no reviewer, no face of the run or no value of the labels.
    """
    given = list(_from_label_studio(path, reviewer, labels) if _is_json(path) else _from_table(path, reviewer))
    digest, ids, current = digest_file(path), {answer.id for answer in before}, current_answers(before)
    answers, faults = [], []
    for number, label in enumerate(given):
        if fault := _fault(label, content_hashes):
            faults.append(f"{label.where}: {fault}")
            continue
        answer = Answer(
            id=digest_of([digest, number])[:32],
            image_id=label.image_id,
            content_hash=content_hashes[label.image_id],
            attribute=label.attribute,
            decision="reject" if label.value is None else "label",
            value=label.value,
            reviewer=label.reviewer,
            time=label.time,
            queue=path.name,
        )
        if fault := faults_of(answer, labels):
            faults.append(f"{label.where}: {fault}")
        own = current.get(answer.label, {}).get(answer.reviewer)
        if answer.id not in ids and (own is None or (own.decision, own.value) != (answer.decision, answer.value)):
            answers.append(answer)
    if faults:
        raise FaceTableError(list_of_faults(f"{path}: {len(faults):,} answers cannot be used; none was added", faults))
    return answers


def _fault(label: GivenLabel, content_hashes: Mapping[str, str]) -> str | None:
    if label.image_id not in content_hashes:
        return f"no face '{label.image_id}' in this run"
    if not 0 < len(label.reviewer) <= 100:
        return "expected a reviewer of 1 to 100 characters; give --reviewer NAME, or a column reviewer"
    return None


def _is_json(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return re.match(rb"(\xef\xbb\xbf)?\s*[\[{]", file.read(64)) is not None
    except OSError:
        return False  # the table's reader says why


def _from_table(path: Path, reviewer: str) -> Iterator[GivenLabel]:
    header, rows = read_table(path, needed_by="answers import", columns=("image_id", "attribute", "value"))
    if unexpected := [column for column in header if column not in _COLUMNS]:
        raise FaceTableError(f"{path}: expected the columns {', '.join(_COLUMNS)}, got also {unexpected}")
    for row in rows:
        if row.fault:
            raise FaceTableError(f"{path} row {row.number}: {row.fault}")
        yield GivenLabel(
            f"row {row.number}",
            row.values["image_id"],
            row.values["attribute"],
            row.values["value"] or None,
            row.values.get("reviewer") or reviewer,
            row.values.get("time") or _now(),
        )


def control_names(labels: LabelSpace) -> list[str]:
    """Return a name of each attribute for Label Studio's XML: its position, and its letters and digits."""
    return [f"attribute-{position}-" + re.sub(r"[^A-Za-z0-9]", "_", name) for position, name in enumerate(labels.names)]


def _from_label_studio(path: Path, reviewer: str, labels: LabelSpace) -> Iterator[GivenLabel]:
    """Yield the chosen values of all annotations; those that were cancelled are left out.

    A choice is named as the attribute, in the tasks of a queue, or by `control_names`, in those of a manifest.
    """
    attributes = dict(zip(control_names(labels), labels.names, strict=True))
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
        for number, task in enumerate(tasks, start=1):
            for annotation in task["annotations"]:
                if not annotation.get("was_cancelled"):
                    for label in _of_annotation(f"task {task.get('id', number)}", task["data"], annotation, reviewer):
                        yield replace(label, attribute=attributes.get(label.attribute, label.attribute))
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise FaceTableError(f"{path}: not an export of Label Studio ({reason}); {_CURE}") from None


def _of_annotation(
    where: str, data: Mapping[str, Any], annotation: Mapping[str, Any], reviewer: str
) -> Iterator[GivenLabel]:
    user = annotation.get("completed_by")
    name = user.get("email") or user.get("id") if isinstance(user, Mapping) else user
    name = reviewer or (name if isinstance(name, str) else "" if name is None else f"Label Studio user {name}")
    time = str(annotation.get("updated_at") or annotation.get("created_at") or _now())
    results: Iterable[Mapping[str, Any]] = annotation["result"]
    for result in results:
        if result["type"] == "choices":
            (value,) = result["value"]["choices"]
            yield GivenLabel(where, str(data["image_id"]), str(result["from_name"]), str(value), str(name), time)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
