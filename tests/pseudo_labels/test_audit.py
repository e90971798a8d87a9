"""Audits: the sample, the sheet, the answers, the verdict, and refused inputs."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.cli.manifest import _hidden_truth
from ssl_pipeline.config.selection import FixedThreshold
from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.audit import audit, exact_interval, sample_audit
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.reports.audit_sheet import read_answers, write_sheet
from ssl_pipeline.reports.manifest_tables import render_audit
from ssl_pipeline.runs.files import digest_of
from ssl_pipeline.runs.records import run_stage
from tests.pseudo_labels.test_manifest import drawn as text_of

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["-30", ">=30"]})  # a value that looks like a formula
IDENTITY = ManifestIdentity("night", 1, "faces", "teacher", "selection")


def manifest_of(
    directory: Path, *, settings: dict[str, Any] | None = None, per: str = "attribute", persons: list[str] | None = None
) -> Manifest:
    """Sixty faces: 50 male and 10 female, of whom 40 are old and 10 young, all with high confidence."""
    male = np.arange(60) < 50
    old = np.where(np.arange(60) < 40, 0.98, np.where(np.arange(60) < 50, 0.02, 0.5))
    gender = np.where(male, 0.99, 0.03)
    rows = np.stack([gender * (1 - old), gender * old, (1 - gender) * (1 - old), (1 - gender) * old], axis=1)
    ids = [f"=pool:{number:02d}.png" for number in range(60)]
    pool = pd.DataFrame({"image_id": ids, "image_path": [str(directory / f"{n:02d}.png") for n in range(60)]})
    pool = pool.assign(content_hash=ids, person_id=persons or ids, picture_id=ids, source="pool", derived=None)
    config = FixedThreshold(type="fixed_threshold", confidence_threshold=0.9, per=per)
    selection = select(rows, np.full((60, 2), -1), labels=SPACE, config=config, image_ids=ids)
    tables = build_manifest(
        pool,
        selection,
        labels=SPACE,
        unreadable=pd.DataFrame({"source": [], "image_id": [], "image_path": [], "reason": []}),
        identity=IDENTITY,
        targets="soft",
        settings=settings or config.model_dump(mode="json"),
    )
    write_manifest(directory / "manifest.parquet", tables)
    return read_manifest(directory / "manifest.parquet")


GUARANTEE = {"type": "precision_guarantee", "target": 0.7, "per": "attribute"}


def filled(path: Path, answer: Any) -> None:
    """Fill in a sheet with `answer` of each row."""
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"right": answer(row)} for row in rows)


def test_values_get_equal_shares_of_the_sample_and_rare_ones_all_they_have(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    drawn = sample_audit(manifest, num=45, seed=0)
    counts = drawn.groupby(["attribute", "value"], sort=False).size().to_dict()
    assert counts == {("gender", "male"): 13, ("gender", "female"): 10, ("age", "-30"): 10, ("age", ">=30"): 12}
    assert drawn["number"].tolist() == list(range(1, 46))
    assert sample_audit(manifest, num=45, seed=0).equals(drawn)
    assert not sample_audit(manifest, num=45, seed=1).equals(drawn)
    faces = manifest.faces.set_index("image_id")
    for row in drawn.to_dict("records"):
        face = faces.loc[row["image_id"]]
        assert face[f"{row['attribute']}_status"] == "accepted" and face[row["attribute"]] == row["value"]
        assert face[f"{row['attribute']}_confidence"] == row["confidence"]


def test_per_class_the_sample_consists_of_classes(tmp_path: Path) -> None:
    drawn = sample_audit(manifest_of(tmp_path, per="class"), num=1000, seed=0)
    assert drawn.groupby(["attribute", "value"]).size().to_dict() == {
        ("class", "male/-30"): 10,
        ("class", "male/>=30"): 40,
    }


def test_a_sheet_reads_back_and_holds_no_formula(tmp_path: Path) -> None:
    drawn = sample_audit(manifest_of(tmp_path), num=20, seed=0)
    sheet = tmp_path / "audit.csv"
    write_sheet(sheet, drawn)
    rows = list(csv.reader(sheet.open(encoding="utf-8")))
    assert rows[0] == ["number", "image_id", "attribute", "value", "confidence", "right"] and len(rows) == 21
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    filled(sheet, lambda row: {"1": "no", "2": " Unsure "}.get(row["number"], "YES"))
    assert read_answers(sheet, drawn).tolist() == ["no", "unsure", *["yes"] * 18]
    # with semicolons and a byte order mark, in another order
    header, *lines = sheet.read_text(encoding="utf-8").replace(",", ";").splitlines()
    sheet.write_text("\ufeff" + "\r\n".join([header, *reversed(lines)]), encoding="utf-8")
    assert read_answers(sheet, drawn).tolist() == ["no", "unsure", *["yes"] * 18]


def test_precision_is_estimated_per_value_and_weighted_by_size_over_several(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, settings=GUARANTEE)
    drawn = sample_audit(manifest, num=40, seed=0)
    wrong = (drawn["value"] == "female") & (drawn.groupby("value").cumcount() < 8)
    answers = pd.Series(np.where(wrong, "no", "yes"))
    answers[drawn.index[drawn["value"] == "male"][0]] = "unsure"
    found = audit(manifest, drawn, answers)
    female, male = found["per_value"]["gender"]["female"], found["per_value"]["gender"]["male"]
    assert (female["num_labels"], female["num_judged"], female["num_correct"], female["precision"]) == (10, 10, 2, 0.2)
    assert (female["lower"], female["upper"]) == exact_interval(2, 10)
    assert (male["num_labels"], male["num_judged"], male["num_unsure"], male["precision"]) == (50, 9, 1, 1.0)
    assert found["per_attribute"]["gender"]["precision"] == pytest.approx((50 * 1.0 + 10 * 0.2) / 60)
    assert found["overall"]["precision"] == pytest.approx((50 + 2 + 50) / 110)
    assert [female["verdict"], female["reference"]] == ["broken", 0.7]
    assert found["overall"]["verdict"] == "kept" and "is at least the guaranteed 70.0%" in found["overall"]["words"]
    assert (male["lower"], male["upper"]) == (exact_interval(9, 10)[0], 1.0)  # unsure is wrong below, right above
    assert male["verdict"] == "open"  # nine correct labels are too few
    text = text_of(render_audit(found))
    assert "Below the reference: gender female." in text and "guaranteed precision" in text
    assert json.loads(json.dumps(found)) == found


def test_without_a_guarantee_the_reference_is_the_mean_confidence(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    drawn = sample_audit(manifest, num=1000, seed=0)
    found = audit(manifest, drawn, pd.Series(["no"] * len(drawn)))
    assert found["guarantee"]["target"] is None
    assert found["per_attribute"]["gender"]["reference"] == pytest.approx((50 * 0.99 + 10 * 0.97) / 60, abs=1e-6)
    assert found["overall"]["verdict"] == "broken" and "mean confidence" in found["overall"]["words"]


def test_a_value_without_a_judged_label_is_named(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    drawn = sample_audit(manifest, num=40, seed=0)
    found = audit(manifest, drawn, pd.Series(np.where(drawn["value"] == "female", "unsure", "yes")))
    assert found["per_value"]["gender"]["female"]["precision"] is None
    assert found["per_value"]["gender"]["female"]["verdict"] == "open"
    assert found["overall"]["precision"] == 1 and found["overall"]["words"].endswith(
        "no label could be judged of female"
    )
    assert found["overall"]["verdict"] == "open"


def test_nothing_is_kept_while_a_values_labels_are_unjudged(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, settings={**GUARANTEE, "target": 0.5})
    drawn = sample_audit(manifest, num=1000, seed=0)
    complete = audit(manifest, drawn, pd.Series("yes", index=drawn.index))
    assert complete["overall"]["verdict"] == "kept"
    for missing in ("unsure", ""):
        found = audit(manifest, drawn, pd.Series(np.where(drawn["value"] == "female", missing, "yes")))
        assert found["overall"]["lower"] > 0.5
        assert found["overall"]["verdict"] == "open"


def test_a_partly_answered_sheet_is_read_and_says_how_many_answers_it_has(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    drawn = sample_audit(manifest, num=40, seed=0)
    sheet = tmp_path / "audit.csv"
    write_sheet(sheet, drawn)
    filled(sheet, lambda row: "yes" if int(row["number"]) % 2 else "")
    found = audit(manifest, drawn, read_answers(sheet, drawn))
    assert (found["num_answered"], found["num_sampled"], found["overall"]["num_judged"]) == (20, 40, 20)
    assert "20 of 40 answered" in text_of(render_audit(found))
    filled(sheet, lambda row: " ")
    with pytest.raises(ManifestError, match="no row is answered"):
        read_answers(sheet, drawn)


def test_copies_of_one_person_are_one_unit(tmp_path: Path) -> None:
    apart, together = (manifest_of(tmp_path, persons=persons) for persons in (None, ["one person"] * 60))
    drawn = [sample_audit(manifest, num=1000, seed=0) for manifest in (apart, together)]
    first, second = (
        audit(manifest, sample, pd.Series("yes", index=sample.index))["per_value"]["gender"]["male"]
        for manifest, sample in zip((apart, together), drawn, strict=True)
    )
    assert (first["num_judged"], first["num_units"], first["lower"]) == (50, 50, exact_interval(50, 50)[0])
    assert (second["num_judged"], second["num_units"], second["lower"]) == (50, 1, exact_interval(1, 1)[0])


def test_invalid_and_foreign_answers_are_refused(tmp_path: Path) -> None:
    drawn = sample_audit(manifest_of(tmp_path), num=20, seed=0)
    sheet = tmp_path / "audit.csv"
    write_sheet(sheet, drawn)
    filled(sheet, lambda row: "perhaps" if row["number"] == "4" else "yes")
    with pytest.raises(ManifestError, match="invalid answers") as error:
        read_answers(sheet, drawn)
    assert "row 5: number 4, right: expected yes, no, unsure or nothing, got 'perhaps'" in str(error.value)
    filled(sheet, lambda row: "yes")
    lines = sheet.read_text(encoding="utf-8").splitlines()
    sheet.write_text("\n".join([*lines[:-1], lines[1]]), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"row 21: number 1 is repeated\n  number 20 is missing"):
        read_answers(sheet, drawn)
    sheet.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ManifestError, match="not in this manifest's sample; give the --sample and --seed"):
        read_answers(sheet, sample_audit(manifest_of(tmp_path), num=20, seed=7))
    sheet.write_text("number,image_id\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="no column attribute, value, right"):
        read_answers(sheet, drawn)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_answers(tmp_path / "absent.csv", drawn)


def test_a_sample_smaller_than_the_number_of_values_and_an_empty_manifest_are_refused(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    with pytest.raises(ManifestError, match="give at least 4"):
        sample_audit(manifest, num=3, seed=0)
    nothing = manifest.table.filter([False] * len(manifest.table))
    write_manifest(tmp_path / "empty.parquet", [nothing])
    with pytest.raises(ManifestError, match="nothing to audit"):
        sample_audit(read_manifest(tmp_path / "empty.parquet"), num=9, seed=0)


def test_the_command_writes_sheets_lists_missing_pictures_and_reads_the_answers(tmp_path: Path) -> None:
    manifest_of(tmp_path)
    for number in range(1, 60):
        Image.new("RGB", (300, 200), (4 * number, 90, 90)).save(tmp_path / f"{number:02d}.png")
    command = ["manifest", "audit", str(tmp_path / "manifest.parquet"), "--sample", "110", "--seed", "3"]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == ["audit-01.png", "audit-02.png", "audit.csv"]
    assert "2 pictures cannot be opened" in done.output and "00.png: No such file or directory" in done.output
    again = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert isinstance(again.exception, ManifestError) and "may hold answers" in str(again.exception)
    filled(out / "audit.csv", lambda row: "yes")
    answers = ["--answers", str(out / "audit.csv"), "--json", str(tmp_path / "audit.json")]
    done = CliRunner().invoke(app, [*command, *answers])
    assert done.exit_code == 0 and "may be above or below the mean confidence" in done.output
    assert json.loads((tmp_path / "audit.json").read_text())["overall"]["num_judged"] == 110
    for options in ([], [*answers, "--out", str(out)], ["--out", str(tmp_path / "o"), "--json", "x.json"]):
        assert isinstance(CliRunner().invoke(app, [*command, *options]).exception, ManifestError)


@pytest.mark.parametrize("per", ["attribute", "class"])
def test_known_truth_gives_a_true_precision_next_to_the_estimate(tmp_path: Path, per: str) -> None:
    manifest = manifest_of(tmp_path, per=per)
    truth = pd.DataFrame({"image_id": manifest.faces["image_id"], "gender": "male", "age": ">=30"})
    truth.loc[::5, "age"] = "-30"
    truth.loc[40:49, "age"] = None
    drawn = sample_audit(manifest, num=1000, seed=0)
    answers = pd.Series("yes", index=drawn.index)
    found = audit(manifest, drawn, answers, truth)
    if per == "attribute":
        assert found["per_value"]["gender"]["male"]["true_precision"] == 1
        assert found["per_value"]["gender"]["female"]["true_precision"] == 0
        assert found["per_value"]["age"][">=30"]["true_precision"] == 32 / 40
        assert found["per_value"]["age"]["-30"]["true_precision"] is None  # of the ten, nobody knows
        assert found["overall"]["true_precision"] == (50 + 0 + 32) / (60 + 40)
    else:
        assert found["per_value"]["class"]["male/>=30"]["true_precision"] == 32 / 40
    assert audit(manifest, drawn, answers)["overall"]["true_precision"] is None
    assert "True precision:" in text_of(render_audit(found))
    assert "True precision:" not in text_of(render_audit(audit(manifest, drawn, answers)))


def test_a_manifest_outside_a_run_has_no_hidden_truth() -> None:
    assert _hidden_truth(Path("/manifest.parquet"), "faces") is None


def test_the_truth_of_other_faces_is_not_that_of_a_manifest(tmp_path: Path) -> None:
    faces, name = tmp_path / "faces", "unlabeled_truth.parquet"

    def work() -> dict[str, int]:
        pd.DataFrame({"image_id": ["a"]}).to_parquet(faces / name)
        return {}

    faces.mkdir()
    record = run_stage(faces, version=1, inputs={}, outputs=[name], work=work)
    manifest = tmp_path / "round-01/pseudo_labels/manifest.parquet"
    truth = _hidden_truth(manifest, digest_of(record.outputs))
    assert truth is not None and truth["image_id"].tolist() == ["a"]
    assert _hidden_truth(manifest, "prepared before") is None
