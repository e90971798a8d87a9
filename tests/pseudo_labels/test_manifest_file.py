"""A manifest read batch by batch gives what the whole of it gives, and reads no more than it needs."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ssl_pipeline import Run
from ssl_pipeline.cli.main import app
from ssl_pipeline.errors import ManifestError, RunError
from ssl_pipeline.pseudo_labels import manifest_file
from ssl_pipeline.pseudo_labels.difference import difference
from ssl_pipeline.pseudo_labels.explanation import explain
from ssl_pipeline.pseudo_labels.face_filter import FaceFilter
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.pseudo_labels.manifest_file import ManifestFile, open_manifest
from ssl_pipeline.pseudo_labels.manifest_writing import write_manifest
from ssl_pipeline.pseudo_labels.summary import filter_faces, first_faces, summarize
from tests.pseudo_labels.test_manifest import SPACE, build, opened


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a strict and a loose manifest, in groups of three rows."""
    for number, threshold in ((1, 0.95), (2, 0.4)):
        path = tmp_path / f"run/round-0{number}/pseudo_labels/manifest.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(build(confidence_threshold=threshold), path, row_group_size=3)
    return tmp_path / "run"


@pytest.fixture
def file(run: Path, monkeypatch: pytest.MonkeyPatch) -> ManifestFile:
    monkeypatch.setattr(manifest_file, "ROWS_PER_BATCH", 2)
    return open_manifest(run / "round-01/pseudo_labels/manifest.parquet")


@pytest.fixture
def whole(file: ManifestFile) -> Manifest:
    return read_manifest(file.path)


def test_batches_add_up_to_the_summary_of_the_whole(file: ManifestFile, whole: Manifest) -> None:
    assert max(len(table) for table in file.tables()) == 2
    assert summarize(file) == summarize(whole)


def test_the_median_is_that_of_pandas(tmp_path: Path) -> None:
    confidences = [0.9000001, 0.9999999, 0.9000003, 1.0, 0.95, 0.9512345, 0.0000001, 0.5]
    for num in (1, 2, 7, 8):
        table = pa.concat_tables(
            [
                build(
                    ["pool:sure.jpg"],
                    unreadable=pd.DataFrame({name: [] for name in ("source", "image_id", "image_path", "reason")}),
                )
            ]
            * num
        )
        position = table.column_names.index("gender_confidence")
        table = table.set_column(position, "gender_confidence", pa.array(confidences[:num]))
        found = summarize(opened(tmp_path, table))["per_attribute"]["gender"]["per_value"]["male"]
        expected = pd.Series(confidences[:num])
        assert found == {
            "accepted": num,
            "mean_confidence": round(expected.mean(), 7),
            "min_confidence": expected.min(),
            "median_confidence": round(expected.median(), 7),
        }


@pytest.mark.parametrize("sort", ["confidence", "-confidence", "image_id"])
@pytest.mark.parametrize("wanted", [{}, {"status": "rejected"}, {"reason": "confidence < 0.95"}, {"source": "far"}])
def test_the_first_faces_are_those_of_the_whole(file: ManifestFile, whole: Manifest, sort: str, wanted: dict) -> None:
    expected = filter_faces(
        whole,
        status=wanted.get("status"),
        attribute_values={},
        sort=sort,
        **{k: v for k, v in wanted.items() if k != "status"},
    )
    rows, num_faces = first_faces(file.filtered(FaceFilter(**wanted)), sort=sort, limit=3)
    assert num_faces == len(expected)
    assert rows["image_id"].tolist() == expected["image_id"].tolist()[:3]


def test_a_face_is_read_from_its_groups_of_rows_only(file: ManifestFile, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = ManifestFile.tables

    def tables(self, columns=None, *, row_group=None):
        read.append(row_group)
        return original(self, columns, row_group=row_group)

    monkeypatch.setattr(ManifestFile, "tables", tables)
    assert file.num_row_groups == 3
    assert len(explain(file, "pool:sure.jpg")) == 2
    assert 0 not in read and None not in read


def test_manifests_are_compared_side_by_side(run: Path, file: ManifestFile, whole: Manifest) -> None:
    loose = open_manifest(run / "round-02/pseudo_labels/manifest.parquet")
    truth = pd.DataFrame({"image_id": ["pool:unsure.jpg"], "gender": ["male"], "age": ["<30"]})
    found = difference(file, loose, truth=truth)
    assert found == difference(whole, read_manifest(loose.path), truth=truth)
    assert found["num_faces"] == {"before": 6, "after": 6, "both": 6}
    assert found["per_attribute"]["gender"]["right"]["gained"] == {"num": 1, "before": 0, "after": 1}


def test_a_manifest_that_is_not_sorted_cannot_be_compared(run: Path, file: ManifestFile) -> None:
    table = pq.read_table(file.path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), file.path)
    with pytest.raises(ManifestError, match="not sorted by image_id"):
        difference(file, file)


def test_json_is_printed_whole_and_filters_apply(run: Path) -> None:
    path = str(run / "round-01/pseudo_labels/manifest.parquet")

    def printed(*arguments: str) -> dict:
        result = CliRunner().invoke(app, ["manifest", *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert printed("summary", path)["counts"]["candidates"] == 8
    assert printed("summary", path, "--source", "far")["counts"] == {
        "candidates": 1,
        "accepted": 1,
        "rejected": 0,
        "unreadable": 0,
    }
    shown = printed("show", path, "--status", "unreadable", "--limit", "1")
    assert shown["num_faces"] == 2 and len(shown["faces"]) == 1 and shown["faces"][0]["confidence"] is None
    assert printed("show", path, "--image", "pool:cut.jpg")[0]["columns"]["status"] == "unreadable"
    assert printed("explain", path, "far:[x]=y.jpg")[0]["known"] == {"gender": "female"}
    other = str(run / "round-02/pseudo_labels/manifest.parquet")
    assert printed("diff", path, other)["per_attribute"]["age"]["gained"] > 0


def test_an_export_holds_the_faces_that_pass(run: Path, tmp_path: Path) -> None:
    path = run / "round-01/pseudo_labels/manifest.parquet"
    for name in ("some.parquet", "some.csv"):
        command = ["manifest", "export", str(path), "--status", "rejected", "--out", str(tmp_path / name)]
        assert CliRunner().invoke(app, command).exit_code == 0
    kept = read_manifest(tmp_path / "some.parquet")  # still a manifest
    assert set(kept.faces["status"]) == {"rejected"}
    assert pd.read_csv(tmp_path / "some.csv")["image_id"].tolist() == kept.faces["image_id"].tolist()


def test_a_run_opens_as_data_frames(run: Path) -> None:
    opened_run = Run.open(run)
    assert opened_run.rounds == (1, 2) and opened_run.labels == SPACE
    faces = opened_run.manifest(columns=["image_id", "gender"], filters={"status": "accepted", "gender": "female"})
    assert list(faces.columns) == ["image_id", "gender"] and set(faces["gender"]) == {"female"}
    assert list(faces["gender"].cat.categories) == ["male", "female"]
    assert len(opened_run.manifest(2)) == 8 and "class_probabilities" not in opened_run.manifest()
    assert opened_run.summary()["counts"]["candidates"] == 8
    for wrong, message in (({"columns": ["x"]}, "no column x"), ({"filters": {"mask": "on"}}, "no attribute")):
        with pytest.raises(ManifestError, match=message):
            opened_run.manifest(**wrong)
    with pytest.raises(RunError, match="no run with a manifest"):
        Run.open(run / "round-01")


def test_a_run_in_place_of_a_manifest_is_refused_with_its_manifests(run: Path) -> None:
    found = ", ".join(f"{run}/round-0{number}/pseudo_labels/manifest.parquet" for number in (1, 2))
    with pytest.raises(ManifestError, match=f"{run}: a run; name one of its manifests: {found}$"):
        open_manifest(run)


def test_large_manifests_are_written_in_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_pipeline.pseudo_labels.manifest_writing.ROWS_PER_BATCH", 4)
    write_manifest(tmp_path / "manifest.parquet", [build()])
    assert open_manifest(tmp_path / "manifest.parquet").num_row_groups == 2


def test_the_summary_imports_neither_pandas_nor_scipy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, ssl_pipeline.cli.manifest, ssl_pipeline.pseudo_labels.summary, ssl_pipeline.reports.manifest_tables\n"
        "sys.exit(', '.join({'pandas', 'scipy', 'torch'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_manifests_of_different_faces_are_compared_by_image_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(tmp_path / "few.parquet", [build(["pool:sure.jpg", "pool:all_known.jpg"])])
    write_manifest(tmp_path / "all.parquet", [build()])
    few, every = (read_manifest(tmp_path / name) for name in ("few.parquet", "all.parquet"))
    expected = difference(few, every)
    assert expected["num_faces"] == {"before": 2, "after": 6, "both": 2}
    monkeypatch.setattr(manifest_file, "ROWS_PER_BATCH", 2)
    assert difference(open_manifest(few.path), open_manifest(every.path)) == expected
