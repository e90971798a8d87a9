"""A manifest lists every candidate with its reason, reads back, and is refused if damaged or of another run."""

import csv
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ssl_pipeline.config.selection import FixedThreshold
from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.explanation import describe_face
from ssl_pipeline.pseudo_labels.manifest import (
    Manifest,
    check_belongs,
    manifest_parts,
    read_manifest,
)
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity, Targets, open_manifest
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.pseudo_labels.summary import filter_faces, precision, summarize
from ssl_pipeline.reports.manifest_tables import render_face, render_faces, render_summary
from ssl_pipeline.reports.spreadsheets import Rows, export_csv, export_parquet

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
IDENTITY = ManifestIdentity("night", 2, "faces0", "teacher0", "selection0")

# name → (class probabilities, known gender, known age)
FACES = {
    "pool:sure.jpg": ([0.97, 0.02, 0.01, 0, 0, 0], -1, -1),
    "pool:gender_only.jpg": ([0.01, 0.01, 0, 0.4, 0.3, 0.28], -1, -1),
    "pool:unsure.jpg": ([0.3, 0.1, 0.1, 0.2, 0.2, 0.1], -1, -1),
    "pool:age_known.jpg": ([0.3, 0.0, 0.1, 0.3, 0.0, 0.3], -1, 2),
    "pool:all_known.jpg": ([0.9, 0.1, 0, 0, 0, 0], 1, 1),
    "far:[x]=y.jpg": ([0, 0.01, 0, 0, 0.99, 0], 1, -1),
}
UNREADABLE = pd.DataFrame(
    {
        "source": ["pool", "pool"],
        "image_id": ["pool:cut.jpg", "pool:sure.jpg"],
        "image_path": ["raw/cut.jpg", "raw/sure.jpg"],
        "reason": ["truncated\nafter 812 bytes", "row 7: duplicate image id"],
    }
)


def pool_of(names: list[str] | None = None) -> pd.DataFrame:
    names = names or list(FACES)
    identity = pd.DataFrame(
        {
            "image_id": names,
            "image_path": [f"=raw/{name}" for name in names],
            "content_hash": [f"hash of {name}" for name in names],
            "person_id": [f"person of {name}" for name in names],
            "picture_id": names,
            "source": [name.split(":")[0] for name in names],
            "derived": ["gender" if name == "far:[x]=y.jpg" else None for name in names],
            "pixel_row": [10 + list(FACES).index(name) for name in names],
        }
    )
    return pd.concat([identity, SPACE.decode(np.array([FACES[name][1:] for name in names]))], axis=1)


def build(
    names: list[str] | None = None, *, unreadable: pd.DataFrame = UNREADABLE, targets: Targets = "soft", **settings
):
    pool = pool_of(names)
    config = FixedThreshold.model_validate({"type": "fixed_threshold", "confidence_threshold": 0.95, **settings})
    rows = np.array([FACES[name][0] for name in pool["image_id"]], dtype=np.float32)
    selection = select(rows, SPACE.encode(pool), labels=SPACE, config=config, image_ids=pool["image_id"])
    tables = build_manifest(pool, selection, labels=SPACE, unreadable=unreadable, identity=IDENTITY, targets=targets)
    return pa.concat_tables(tables)


def opened(directory: Path, table: pa.Table | None = None) -> Manifest:
    write_manifest(directory / "manifest.parquet", [build() if table is None else table])
    return read_manifest(directory / "manifest.parquet")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return opened(tmp_path)


def drawn(renderable: object) -> str:
    output = StringIO()
    Console(file=output, width=200).print(renderable)
    return output.getvalue()


def summary_of(manifest: Manifest) -> str:
    return drawn(render_summary(summarize(manifest), manifest.path))


def exported(manifest: Manifest, path: Path) -> int:
    file = open_manifest(manifest.path)
    if path.suffix == ".parquet":
        return export_parquet(path, file.tables(), manifest.table.schema)
    parts = (Rows(part.table, part.faces, part.probabilities) for part in manifest_parts(file))
    return export_csv(path, parts, manifest.labels.class_names)


def row_of(manifest: Manifest, name: str) -> dict:
    rows = manifest.faces[(manifest.faces["image_id"] == name) & (manifest.faces["status"] != "unreadable")]
    return rows.to_dict("records")[0]


def test_candidates_are_accepted_rejected_or_unreadable_and_none_is_lost(manifest: Manifest) -> None:
    counts = summarize(manifest)["counts"]
    assert counts == {"candidates": 8, "accepted": 4, "rejected": 2, "unreadable": 2}
    assert sorted(manifest.faces["image_id"]) == sorted([*FACES, *UNREADABLE["image_id"]])
    assert (manifest.faces["weight"] == (manifest.faces["status"] == "accepted")).all()


def test_a_row_has_value_confidence_status_and_reason(manifest: Manifest) -> None:
    row = row_of(manifest, "pool:gender_only.jpg")
    assert (row["status"], row["class_name"], row["class_id"], row["round"]) == ("accepted", "female/<30", 3, 2)
    assert row["reason"] == "gender: confidence 0.98 >= 0.95; age: confidence 0.41 < 0.95"
    assert (row["gender"], row["gender_confidence"], row["gender_status"]) == ("female", 0.98, "accepted")
    assert (row["age"], row["age_confidence"], row["age_status"]) == ("<30", 0.41, "rejected")
    assert (row["gender_label_source"], row["teacher_digest"]) == ("pseudo", "teacher0")
    assert pd.isna(row["age_label_source"])
    assert row["content_hash"] == "hash of pool:gender_only.jpg"


def test_a_known_value_is_a_human_label(manifest: Manifest) -> None:
    row = row_of(manifest, "pool:age_known.jpg")
    assert (row["age"], row["age_status"], row["age_label_source"], row["age_reason"]) == (
        ">=60",
        "known",
        "human",
        "known",
    )
    assert (row["gender_status"], row["status"], row["class_name"]) == ("rejected", "rejected", "female/>=60")
    assert (row_of(manifest, "pool:all_known.jpg")["status"], row["weight"]) == ("accepted", 0)


def test_the_label_source_is_human_derived_or_pseudo(manifest: Manifest) -> None:
    sources = {
        name: tuple(
            None if pd.isna(row_of(manifest, name)[column]) else row_of(manifest, name)[column]
            for column in ("gender_label_source", "age_label_source")
        )
        for name in FACES
    }
    assert sources == {
        "pool:sure.jpg": ("pseudo", "pseudo"),
        "pool:gender_only.jpg": ("pseudo", None),
        "pool:unsure.jpg": (None, None),
        "pool:age_known.jpg": (None, "human"),
        "pool:all_known.jpg": ("human", "human"),
        "far:[x]=y.jpg": ("derived", "pseudo"),
    }
    assert summarize(manifest)["per_attribute"]["gender"]["derived"] == 1


def test_an_unreadable_face_has_a_reason_of_one_line_and_no_label(manifest: Manifest) -> None:
    row = manifest.faces[manifest.faces["image_id"] == "pool:cut.jpg"].to_dict("records")[0]
    assert (row["status"], row["reason"]) == ("unreadable", "truncated after 812 bytes")
    assert all(pd.isna(row[name]) for name in ("class_id", "class_name", "confidence", "gender", "age_status"))
    unreadable = (manifest.faces["status"] == "unreadable").to_numpy()
    assert np.isnan(manifest.probabilities[unreadable]).all()
    np.testing.assert_allclose(manifest.probabilities[~unreadable].sum(axis=1), 1, atol=1e-6)


def test_a_written_manifest_reads_back(manifest: Manifest) -> None:
    table = build()
    assert manifest.table.equals(table, check_metadata=True)
    assert (manifest.labels, manifest.identity, manifest.targets) == (SPACE, IDENTITY, "soft")


def test_the_same_faces_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    for number, names in enumerate((list(FACES), list(FACES), sorted(FACES), list(FACES)[::-1])):
        write_manifest(tmp_path / f"{number}.parquet", [build(names, unreadable=UNREADABLE.iloc[:: (-1) ** number])])
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_pool_without_any_readable_or_unreadable_face_still_makes_a_manifest(tmp_path: Path) -> None:
    only_faces = opened(tmp_path, build(unreadable=UNREADABLE[:0]))
    assert len(only_faces.faces) == len(FACES)
    pool = pool_of()[:0]
    config = FixedThreshold(type="fixed_threshold")
    nothing = select(np.zeros((0, 6)), SPACE.encode(pool), labels=SPACE, config=config, image_ids=[])
    (table,) = build_manifest(pool, nothing, labels=SPACE, unreadable=UNREADABLE, identity=IDENTITY, targets="hard")
    summary = summarize(opened(tmp_path, table))
    assert (summary["counts"]["candidates"], summary["acceptance_rate"]) == (2, None)
    assert "0 accepted (nothing to accept)" in summary_of(opened(tmp_path, table))


def test_an_image_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="image ids of the pool must be unique"):
        build(["pool:sure.jpg", "pool:sure.jpg"])


def test_a_manifest_that_is_missing_or_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"absent\.parquet: no such file; `ssl-pipeline run` writes"):
        read_manifest(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    with pytest.raises(ManifestError, match=r"text\.parquet: not a readable Parquet file \(.*\); give a manifest"):
        read_manifest(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="a Parquet file, but no pseudo-label manifest; give a manifest"):
        read_manifest(tmp_path / "other.parquet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "training table"}, "no pseudo-label manifest but a 'training table'"),
        (
            {"format_version": 99},
            "manifest format 99 of another release, this one reads 4; run `ssl-pipeline run` again",
        ),
        (
            {"format_version": 3},
            r"manifest format 3 of another release, this one reads 4; run `ssl-pipeline run` again",
        ),
        ({"identity": {"run_name": "night"}}, "metadata is damaged"),
        ({"labels": {"gender": ["male", "female"], "mask": ["on", "off"]}}, "column 'mask' is missing"),
        (
            {"labels": {"gender": ["male", "female"], "age": ["<30", "30-59", "old"]}},
            "column 'age': undefined value '>=60'",
        ),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    table = build()
    metadata = json.loads(table.schema.metadata[b"ssl_pipeline"]) | changes
    with pytest.raises(ManifestError, match=message):
        opened(tmp_path, table.replace_schema_metadata({b"ssl_pipeline": json.dumps(metadata).encode()}))


def test_a_truncated_manifest_is_refused(tmp_path: Path) -> None:
    path = opened(tmp_path).path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ManifestError, match="not a readable Parquet file"):
        read_manifest(path)


def test_a_manifest_belongs_to_one_run_its_faces_and_its_labels(manifest: Manifest) -> None:
    check_belongs(manifest, labels=SPACE, faces_digest="faces0", run_name="night")
    with pytest.raises(ManifestError) as fault:
        check_belongs(manifest, labels=SPACE, faces_digest="faces1", run_name="day")
    assert str(fault.value) == (
        f"a manifest of another run: {manifest.path} was made in run 'night' from other faces; "
        "run `ssl-pipeline run` for run 'day' first"
    )
    with pytest.raises(ManifestError, match=r"of another run: .* was made in run 'night'; run"):
        check_belongs(manifest, labels=SPACE, faces_digest="faces0", run_name="day")
    with pytest.raises(
        ManifestError, match=r"an outdated manifest: .* in this run 'night', but from other faces; .* again"
    ):
        check_belongs(manifest, labels=SPACE, faces_digest="faces1", run_name="night")
    with pytest.raises(ManifestError, match="but with other labels"):
        other = LabelSpace.of({"age": ["young", "old"]})
        check_belongs(manifest, labels=other, faces_digest="faces0", run_name="night")


def test_an_attribute_named_like_a_column_is_refused() -> None:
    labels = LabelSpace.of({"reason": ["a", "b"]})
    config = FixedThreshold(type="fixed_threshold")
    selection = select(np.zeros((0, 2)), np.zeros((0, 1), int), labels=labels, config=config, image_ids=[])
    with pytest.raises(ManifestError, match=r"rename \['reason'\]"):
        next(
            build_manifest(
                pool_of()[:0], selection, labels=labels, unreadable=UNREADABLE, identity=IDENTITY, targets="hard"
            )
        )


def test_the_summary_counts_by_attribute_value_class_source_and_reason(manifest: Manifest) -> None:
    summary = summarize(manifest)
    assert json.loads(json.dumps(summary)) == summary
    gender, age = summary["per_attribute"]["gender"], summary["per_attribute"]["age"]
    assert [gender[what] for what in ("known", "accepted", "rejected")] == [2, 2, 2]
    assert [age[what] for what in ("known", "accepted", "rejected")] == [2, 2, 2]
    assert age["per_value"]["30-59"] == {
        "accepted": 1,
        "mean_confidence": 1.0,
        "min_confidence": 1.0,
        "median_confidence": 1.0,
    }
    assert age["per_value"][">=60"]["mean_confidence"] is None
    assert sum(summary["per_class"].values()) == summary["counts"]["accepted"]
    assert summary["per_source"]["far"] == {"candidates": 1, "accepted": 1, "rejected": 0, "unreadable": 0}
    assert summary["rejection_reasons"] == {"age: confidence < 0.95": 2, "gender: confidence < 0.95": 2}
    assert summary["unreadable_reasons"] == {"row …: duplicate image id": 1, "truncated after … bytes": 1}
    assert summary["acceptance_rate"] == pytest.approx(3 / 5)  # one face is fully known
    expected = "8 candidates = 4 accepted (60.0% of those with an unknown attribute) + 2 rejected + 2 unreadable"
    assert expected in summary_of(manifest)


def test_rows_can_be_filtered_sorted_and_limited(manifest: Manifest) -> None:
    def shown(status=None, values=None, sort="-confidence", limit=20, **filters) -> list[str]:
        rows = filter_faces(manifest, status=status, attribute_values=values or {}, sort=sort, **filters)
        table = render_faces(rows.head(limit), SPACE.names, num_faces=len(rows))
        return [str(cell) for cell in table.columns[0].cells]

    assert shown("rejected", sort="confidence") == ["pool:unsure.jpg", "pool:age_known.jpg"]
    assert shown("rejected") == ["pool:age_known.jpg", "pool:unsure.jpg"]
    assert shown(values={"gender": "female", "age": "30-59"}, sort="image_id") == [
        "far:[x]=y.jpg",
        "pool:all_known.jpg",
    ]
    assert shown(limit=2) == ["far:[x]=y.jpg", "pool:all_known.jpg"]
    assert shown()[-2:] == ["pool:cut.jpg", "pool:sure.jpg"]  # unreadable: no confidence
    assert shown(source="far") == ["far:[x]=y.jpg"]
    summary = summarize(manifest)
    for reason, number in (summary["rejection_reasons"] | summary["unreadable_reasons"]).items():
        assert len(shown(reason=reason)) == number, reason
    assert shown(reason="Truncated after 812") == ["pool:cut.jpg"] and shown(source="far", reason="truncated") == []
    rows = filter_faces(manifest, status=None, attribute_values={}, sort="image_id")
    text = drawn(render_faces(rows, SPACE.names, num_faces=len(rows)))
    assert "age: 30-59 accepted, confidence" in text
    assert "truncated after 812 bytes" in text
    for wrong, message in (
        ({"status": "kept"}, "expected one of accepted, rejected, unreadable"),
        ({"values": {"mask": "on"}}, "'mask' is no attribute of this manifest; it has gender, age"),
        ({"values": {"age": "30"}}, "'30' is no value of 'age'; it has <30, 30-59, >=60"),
        ({"source": "near"}, "'near' is no source of this manifest; it has far, pool"),
        ({"sort": "age"}, "expected one of confidence, -confidence, image_id"),
    ):
        with pytest.raises(ManifestError, match=message):
            shown(**wrong)


def test_a_face_is_shown_in_full_and_an_unknown_id_with_similar_ones(manifest: Manifest) -> None:
    text = drawn(render_face(describe_face(manifest, "far:[x]=y.jpg")))
    for part in ("far:[x]=y.jpg", "hash of far:[x]=y.jpg", "confidence 1 >= 0.95", "female/30-59", "█" * 24):
        assert part in text
    assert "truncated after 812 bytes" in drawn(render_face(describe_face(manifest, "pool:cut.jpg")))
    with pytest.raises(ManifestError, match=r"no face 'pool:sur\.jpg' among 8; similar: pool:sure\.jpg"):
        describe_face(manifest, "pool:sur.jpg")


def test_the_csv_has_every_row_and_no_formula(manifest: Manifest, tmp_path: Path) -> None:
    assert exported(manifest, tmp_path / "out.csv") == 8
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == manifest.faces["image_id"].tolist()
    assert rows[0]["image_path"] == "'=raw/far:[x]=y.jpg"
    assert float(rows[0]["p_female/30-59"]) == pytest.approx(1.0)
    assert (rows[0]["confidence"], rows[0]["class_id"]) == ("1.0", "4")
    cut = next(row for row in rows if row["image_id"] == "pool:cut.jpg")
    assert (cut["class_id"], cut["p_male/<30"], cut["gender"]) == ("", "", "")
    assert not any(cell[:1] in ("=", "+", "-", "@") for row in rows for cell in row.values())


def test_an_export_to_parquet_is_a_manifest_and_to_anything_else_refused(manifest: Manifest, tmp_path: Path) -> None:
    assert exported(manifest, tmp_path / "copy.parquet") == 8
    assert (tmp_path / "copy.parquet").read_bytes() == manifest.path.read_bytes()
    with pytest.raises(ManifestError, match=r"out\.xlsx: expected a name that ends with \.csv"):
        exported(manifest, tmp_path / "out.xlsx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.parquet", "manifest.parquet"]


def test_precision_is_the_share_of_accepted_labels_that_are_correct(manifest: Manifest) -> None:
    truth = pd.DataFrame(
        {
            "image_id": ["pool:gender_only.jpg", "pool:sure.jpg", "far:[x]=y.jpg", "pool:unsure.jpg", "elsewhere:1"],
            "gender": ["male", "male", "female", "male", "male"],
            "age": ["<30", "<30", None, "<30", "<30"],
        }
    )
    assert precision(manifest, truth) == {
        "gender": {"num": 2, "precision": 0.5},  # sure is correct, gender_only wrong; far's was known
        "age": {"num": 1, "precision": 1.0},  # sure; far's is unknown
        "joint": {"num": 1, "precision": 1.0},
    }
    assert precision(manifest, truth[:0])["joint"] == {"num": 0, "precision": None}


def test_a_manifest_that_went_through_pandas_reads_equal(tmp_path: Path) -> None:
    manifest = opened(tmp_path)
    frame = manifest.table.to_pandas()
    frame["status"], frame["source"] = frame["status"].astype("category"), frame["source"].astype("string[pyarrow]")
    frame["round"] = frame["round"].astype("int64")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    large = pa.schema(
        [pa.field(field.name, pa.large_string() if field.type == pa.string() else field.type) for field in table.schema]
    )
    table = table.cast(large).replace_schema_metadata(manifest.table.schema.metadata)
    changed = {
        name for name in table.column_names if table.schema.field(name).type != manifest.table.schema.field(name).type
    }
    assert {"image_id", "status", "round", "class_probabilities"} <= changed
    pq.write_table(table, tmp_path / "pandas.parquet")
    found = read_manifest(tmp_path / "pandas.parquet").table
    assert found.schema.equals(manifest.table.schema)
    assert found.to_pylist() == manifest.table.to_pylist()


def test_a_column_that_a_cast_would_change_is_refused(tmp_path: Path) -> None:
    table = opened(tmp_path).table
    position = table.column_names.index("round")
    table = table.set_column(position, "round", pa.array([1.5] * len(table)))
    pq.write_table(table, tmp_path / "changed.parquet")
    with pytest.raises(ManifestError, match="column 'round': expected int32, got double"):
        read_manifest(tmp_path / "changed.parquet")
