"""Answers as tables: what is exported corrects labels elsewhere, and what is imported counts once."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.answer_tables import control_names, new_answers, write_corrections
from ssl_pipeline.faces.sources.corrections import Corrections
from ssl_pipeline.runs.answers import Answer, verdicts
from tests.runs.test_answers import answer

LABELS = LabelsConfig.model_validate({"attributes": [{"name": "gender", "values": ["male", "female"]}]})
HASHES = {"pool:a,b.jpg": "hash", 'pool:"가"\n.jpg': "other", "pool:c.jpg": "third"}


def imported(path: Path, before: list[Answer] | None = None, reviewer: str = "") -> list[Answer]:
    return new_answers(path, content_hashes=HASHES, labels=LABELS.space, before=before or [], reviewer=reviewer)


def written(path: Path, *rows: list[str], header: str = "image_id,attribute,value,reviewer") -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def test_an_export_corrects_the_labels_of_another_run(tmp_path: Path) -> None:
    names = list(HASHES)
    given = [
        answer("=ann", image_id=names[0], content_hash="hash", value="female"),
        answer("bob", "reject", image_id=names[1], content_hash="other"),
        answer("ann", image_id=names[2], content_hash="third"),
        answer("bob", image_id=names[2], content_hash="third", value="female"),
    ]
    assert write_corrections(tmp_path / "corrections.csv", verdicts(given)) == 2
    table = pd.read_csv(tmp_path / "corrections.csv")
    assert table["note"].str.contains("2026-01-01T00:00:00Z").all()
    assert "=ann female" in table["note"][1]
    faces = pd.DataFrame({"image_id": names, "person_id": names, "gender": ["male"] * 3})
    faces[["age_years", "min_age_years", "max_age_years"]] = float("nan")
    corrected = Corrections.read([tmp_path / "corrections.csv"], LABELS).apply(faces, LABELS).faces
    assert corrected["gender"].fillna("unknown").tolist() == ["female", "unknown", "male"]


def test_a_table_is_imported_once_and_may_grow(tmp_path: Path) -> None:
    first, second, third = HASHES
    path = written(tmp_path / "one.csv", [first, "gender", "female", "ann"], [second, "gender", "", "bob"])
    answers = imported(path)
    assert [(one.content_hash, one.decision, one.value, one.reviewer) for one in answers] == [
        ("hash", "label", "female", "ann"),
        ("other", "reject", None, "bob"),
    ]
    assert imported(path, answers) == []
    grown = written(
        tmp_path / "one.csv",
        [first, "gender", "female", "ann"],
        [second, "gender", "", "bob"],
        [third, "gender", "male", "ann"],
    )
    assert [one.content_hash for one in imported(grown, answers)] == ["third"]
    changed = written(tmp_path / "two.csv", [first, "gender", "male", "ann"])
    later = imported(changed, answers)
    assert verdicts([*answers, *later])["hash", "gender"].value == "male"
    back = written(tmp_path / "three.csv", [first, "gender", "female", "ann"])
    again = imported(back, [*answers, *later])
    assert verdicts([*answers, *later, *again])["hash", "gender"].value == "female"


def test_rows_that_cannot_be_used_are_listed_and_nothing_is_added(tmp_path: Path) -> None:
    first = next(iter(HASHES))
    path = written(
        tmp_path / "wrong.csv",
        ["pool:x.jpg", "gender", "male", "ann"],
        [first, "age", "<30", "ann"],
        [first, "gender", "man", "ann"],
        [first, "gender", "male", ""],
    )
    with pytest.raises(FaceTableError) as error:
        imported(path)
    for part in (
        "4 answers cannot be used; none was added",
        "row 2: no face 'pool:x.jpg' in this run",
        "'age' is not an attribute ['gender']",
        "'man' is not a value of 'gender'",
        "give --reviewer NAME",
    ):
        assert part in str(error.value)
    assert len(imported(written(tmp_path / "ok.csv", [first, "gender", "male", ""]), reviewer="cho")) == 1


def label_studio(path: Path, *annotations: dict, **data: str) -> Path:
    task = {"id": 9, "data": {"image_id": "pool:c.jpg", **data}, "annotations": list(annotations)}
    path.write_text(json.dumps([task]), encoding="utf-8")
    return path


def chosen(value: str, **fields: object) -> dict:
    result = {"from_name": "gender", "to_name": "image", "type": "choices", "value": {"choices": [value]}}
    return {"completed_by": 3, "updated_at": "2026-01-02T03:04:05Z", "result": [result], **fields}


def test_label_studios_export_is_read(tmp_path: Path) -> None:
    path = label_studio(
        tmp_path / "export.json",
        chosen("male"),
        chosen("female", completed_by={"id": 4, "email": "ann@example.org"}),
        chosen("female", was_cancelled=True),
    )
    answers = imported(path)
    assert [(one.reviewer, one.value, one.time) for one in answers] == [
        ("Label Studio user 3", "male", "2026-01-02T03:04:05Z"),
        ("ann@example.org", "female", "2026-01-02T03:04:05Z"),
    ]
    assert verdicts(answers)["third", "gender"].state == "disputed"
    assert {one.reviewer for one in imported(path, reviewer="cho")} == {"cho"}


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', '[{"data": {}}]', '[{"id": 1, "gender": "male"}]', "[{"])
def test_another_json_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FaceTableError, match=r"not an export of Label Studio \(.*\); export the project as JSON"):
        imported(tmp_path / "x.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaceTableError, match=r"none\.csv: no such file"):
        imported(tmp_path / "none.csv")


def test_answers_to_the_tasks_of_an_exported_manifest_are_read_too(tmp_path: Path) -> None:
    path = label_studio(tmp_path / "export.json", chosen("female"))
    of_queue = imported(path, reviewer="ann")
    path.write_text(
        path.read_text().replace('"from_name": "gender"', f'"from_name": "{control_names(LABELS.space)[0]}"')
    )
    (of_manifest,) = imported(path, reviewer="ann")
    assert [(one.attribute, one.value) for one in (*of_queue, of_manifest)] == [("gender", "female")] * 2
