"""Corrections: changed values, consequences, counts, refusals; and faces near a bin edge."""

import json

import pytest
from PIL import Image

from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.preparation import prepare_faces
from ssl_pipeline.faces.sources.corrections import Corrections
from ssl_pipeline.faces.sources.reading import read_source
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.runs.spreadsheet_cells import safe_cell
from tests.faces.sources_support import LABELS, put_csv, rows_of, source_of

FACES = "image_path,person_id,mask,gender,age_years\na.jpg,p,wear,female,25\nb.jpg,p,normal,female,25\nc.jpg,q,wear,,\n"


def corrected(root, *lines, header="image_id,attribute,value", faces=FACES, **section):
    put_csv(root, faces)
    (root / "fix.csv").write_text("\n".join([header, *lines]) + "\n")
    corrections = Corrections.read([root / "fix.csv"], LABELS)
    source = source_of(type="csv", table="labels.csv", **section)
    return read_source(source, root=root, labels=LABELS, seed=0, corrections=corrections)


def test_a_face_and_a_person_are_corrected_and_others_are_not(tmp_path):
    result = corrected(
        tmp_path,
        "csv:a.jpg,,mask,incorrect,seen by eye",
        ",csv:p,gender,male,",
        ",csv:q,gender,,",
        "csv:z.jpg,,mask,wear,",
        header="image_id,person_id,attribute,value,note",
    )
    assert rows_of(result.faces, "mask", "gender", "age_years") == [
        ("incorrect", "male", 25.0),
        ("normal", "male", 25.0),
        ("wear", None, None),
    ]
    assert result.corrections.num_faces == (1, 2, 1, 0)
    assert result.corrections.num_changed == 3  # q's gender was unknown before


def test_a_corrected_age_sets_its_attribute_and_a_contradicted_age_becomes_unknown(tmp_path):
    result = corrected(tmp_path, "csv:a.jpg,age_years,61", "csv:b.jpg,age,30-59", "csv:c.jpg,age,<30")
    assert rows_of(result.faces, "age", "age_years") == [(">=60", 61.0), ("30-59", None), ("<30", None)]
    result = corrected(tmp_path, "csv:a.jpg,age,<30", "csv:b.jpg,age_years,")
    assert rows_of(result.faces, "age", "age_years")[:2] == [("<30", 25.0), (None, None)]


def test_the_filter_uses_corrected_values(tmp_path):
    result = corrected(tmp_path, "csv:a.jpg,age_years,61", filter={"min_age_years": 60})
    assert result.faces["image_id"].tolist() == ["csv:a.jpg"]


def test_correcting_an_invalid_value_makes_its_row_usable(tmp_path):
    faces = FACES.replace("a.jpg,p,wear,female", "a.jpg,p,wear,femlae").replace("normal,female,25", "normal,female,old")
    result = corrected(tmp_path, "csv:a.jpg,gender,female", faces=faces)
    assert rows_of(result.faces, "image_id", "gender")[0] == ("csv:a.jpg", "female")
    assert result.rejected["image_id"].tolist() == ["csv:b.jpg"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["csv:a.jpg,mask,worn"],
            r"row 2: column 'value': expected one of \['wear', 'incorrect', 'normal'\] or nothing",
        ),
        (["csv:a.jpg,smile,yes"], "row 2: column 'attribute': expected one of .*'age_years'"),
        (["csv:a.jpg,age_years,-3"], "row 2: column 'value': expected an age in years, got '-3'"),
        ([",mask,wear"], "row 2: expected either an image_id or a person_id, got neither"),
        (["csv:a.jpg,mask"], "row 2: 2 fields where the header has 3"),
        (["csv:a.jpg,mask,wear", "csv:a.jpg,mask,normal"], r"row 3 \(csv:a.jpg: mask normal\) contradicts .*row 2"),
        (["csv:a.jpg,age_years,20", "csv:a.jpg,age,>=60"], r"age >=60\) contradicts .*age_years 20"),
    ],
)
def test_an_invalid_or_contradicting_correction_is_refused_with_its_row(tmp_path, lines, message):
    with pytest.raises(FaceTableError, match=message):
        corrected(tmp_path, *lines)


def test_a_correction_of_a_face_that_contradicts_its_persons_is_refused(tmp_path):
    header = "image_id,person_id,attribute,value"
    with pytest.raises(FaceTableError, match=r"gender male\) contradicts .*gender female"):
        corrected(tmp_path, "csv:a.jpg,,gender,female", ",csv:p,gender,male", header=header)


@pytest.mark.parametrize("header", ["attribute,value", "image_id,attribute,value,why", "image_id,attribute"])
def test_an_unexpected_header_is_refused(tmp_path, header):
    with pytest.raises(FaceTableError, match=r"fix\.csv: (expected the columns|no column)"):
        corrected(tmp_path, header=header)


AGES = range(18, 42)


def prepare(root, *, corrections=(), pool_blue=200, **labeled):
    """Prepare faces of ages 18…41 with the bin edge at 30, and a pool; return the counts and the labeled faces."""
    labels = LabelsConfig.model_validate(
        {"attributes": [{"name": "age", "values": ["<30", ">=30"], "from_column": "age_years", "bin_edges": [30]}]}
    )
    for name, blue, ages in (("ours", 0, AGES), ("pool", pool_blue, range(26, 46))):
        lines = [f"{age}.png,{age}" for age in ages]
        (root / name).mkdir(exist_ok=True)
        (root / name / "labels.csv").write_text("\n".join(["image_path,age_years", *lines]))
        for age in ages:
            Image.new("RGB", (8, 8), (age, age, blue)).save(root / name / f"{age}.png")
    ours, pool = ({"type": "csv", "name": name, "path": name, "table": "labels.csv"} for name in ("ours", "pool"))
    config = {
        "root": str(root),
        "image_size": 24,
        "labeled": {"sources": [ours], "test_fraction": 0.25, "validation_fraction": 0.25, **labeled},
        "unlabeled": {"sources": [pool]},
        "corrections": corrections,
    }
    counts = prepare_faces(FacesConfig.model_validate(config), labels, seed=0, directory=root)
    return counts, read_faces(root / "labeled.parquet")


def ages_of(faces, split):
    return set(faces.loc[faces["split"] == split, "age_years"])


def test_faces_near_a_bin_edge_leave_training_and_only_training(tmp_path):
    _, whole = prepare(tmp_path)
    counts, faces = prepare(tmp_path, drop_near_bin_edges=2)
    near = {28, 29, 30, 31}
    assert ages_of(faces, "train") == ages_of(whole, "train") - near
    assert ages_of(faces, "validation") == ages_of(whole, "validation")
    assert ages_of(faces, "test") == ages_of(whole, "test")
    dropped = ages_of(whole, "train") & near
    assert dropped  # otherwise the test is void
    assert counts["near_bin_edge"] == {
        "reason": "age within 2 years of a bin edge, both",
        "faces": len(dropped),
        "by_bin_edge": {"age 30": len(dropped)},
    }
    _, below = prepare(tmp_path, drop_near_bin_edges=2, drop_side="below")
    assert ages_of(below, "train") == ages_of(whole, "train") - {28, 29}


def test_faces_dropped_from_training_do_not_return_through_the_pool(tmp_path):
    counts, _ = prepare(tmp_path, drop_near_bin_edges=2, pool_blue=0)  # the pool has the same pictures from 26 to 41
    assert counts["near_bin_edge"]["faces"] > 0
    assert set(read_faces(tmp_path / "unlabeled.parquet")["age_years"]) == {42, 43, 44, 45}


def test_a_class_that_would_lose_all_its_training_faces_is_reported(tmp_path):
    with pytest.raises(FaceTableError, match=r"drop_near_bin_edges 12 .*leaves 2 classes without a training face"):
        prepare(tmp_path, drop_near_bin_edges=12)


def test_corrections_are_recorded_and_those_without_a_match_are_logged(tmp_path, caplog):
    (tmp_path / "fix.csv").write_text("image_id,attribute,value\nours:41.png,age_years,18\nours:99.png,age,<30\n")
    counts, faces = prepare(tmp_path, corrections="fix.csv")
    assert faces.set_index("image_id").loc["ours:41.png", ["age_years", "age"]].tolist() == [18.0, "<30"]
    assert counts["corrections"] == {"rows": 2, "applied": 1, "unmatched": 1, "values_changed": 2}
    assert "1 corrections match no face" in caplog.text and "ours:99.png" in caplog.text
    recorded = json.loads((tmp_path / "corrections.json").read_text())["rows"]
    assert [(row["row"], row["image_id"], row["faces"]) for row in recorded] == [
        (2, "ours:41.png", 1),
        (3, "ours:99.png", 0),
    ]


def test_a_missing_table_of_corrections_is_reported(tmp_path):
    with pytest.raises(FaceTableError, match=r"gone\.csv: no such file; faces\.corrections needs this table"):
        prepare(tmp_path, corrections=["gone.csv"])


def test_ids_are_found_as_an_exported_table_writes_them(tmp_path):
    put_csv(tmp_path, FACES + "x;=1+1.jpg,r,wear,male,40\n", images=("a.jpg", "b.jpg", "c.jpg", "x;=1+1.jpg"))
    written = safe_cell("csv:x;=1+1.jpg")
    assert written != "csv:x;=1+1.jpg"
    (tmp_path / "fix.csv").write_text(f"image_id,attribute,value\n{written},mask,normal\n")
    corrections = Corrections.read([tmp_path / "fix.csv"], LABELS)
    source = source_of(type="csv", table="labels.csv", delimiter=",")
    result = read_source(source, root=tmp_path, labels=LABELS, seed=0, corrections=corrections)
    assert rows_of(result.faces, "image_id", "mask")[-1] == ("csv:x;=1+1.jpg", "normal")
