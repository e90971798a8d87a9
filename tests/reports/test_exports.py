"""Exports for FiftyOne, Label Studio and Embedding Atlas, read by each one's own importer where it is installed."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from ssl_pipeline.cli import manifest_exports
from ssl_pipeline.cli.main import app
from ssl_pipeline.errors import ManifestError
from ssl_pipeline.faces.answer_tables import control_names
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.reports.fiftyone import field_names
from ssl_pipeline.reports.label_studio import labeling_config, read_annotations
from tests.pseudo_labels.test_manifest import SPACE, build, opened

HOSTILE = LabelSpace.of(
    {
        "tags": ['"<script>"', "a\nb"],
        "=1+1 [/red]": ["\u202egnirts", "it's & <b>"],
        "filepath": ["x", "y"],
        "_": ["x", "y"],
    }
)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest of eight faces, one with a picture and a hostile name."""
    table = build()
    picture = tmp_path / "faces" / "a \"'=[x].png"
    picture.parent.mkdir()
    Image.new("RGB", (200, 100), "red").save(picture)
    paths = [
        str(picture) if image_id == "far:[x]=y.jpg" else path
        for image_id, path in zip(table["image_id"].to_pylist(), table["image_path"].to_pylist(), strict=True)
    ]
    position = table.column_names.index("image_path")
    return opened(tmp_path, table.set_column(position, "image_path", [paths])).path


def export(manifest: Path, kind: str, out: Path, *filters: str) -> str:
    result = CliRunner().invoke(app, ["manifest", "export", str(manifest), "--to", kind, "--out", str(out), *filters])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_label_studio_gets_a_task_per_readable_face(manifest: Path, tmp_path: Path) -> None:
    assert "6 faces written" in export(manifest, "label-studio", tmp_path / "out")
    tasks = {task["data"]["image_id"]: task for task in json.loads((tmp_path / "out/tasks.json").read_text())}
    prediction = tasks["far:[x]=y.jpg"]["predictions"][0]
    assert prediction["model_version"] == "night, round 2, teacher teacher0"
    assert [(each["value"]["choices"], each["score"]) for each in prediction["result"]] == [
        (["female"], 1.0),
        (["30-59"], 1.0),
    ]
    assert tasks["far:[x]=y.jpg"]["data"]["image"].startswith("/data/local-files/?d=")
    assert "%22%27%3D%5Bx%5D.png" in tasks["far:[x]=y.jpg"]["data"]["image"]


def test_label_studio_accepts_the_config_and_the_predictions(manifest: Path, tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="needs label-studio-sdk")
    export(manifest, "label-studio", tmp_path / "out")
    opened_interface = interface.LabelInterface((tmp_path / "out/labeling_config.xml").read_text())
    opened_interface.validate()
    for task in json.loads((tmp_path / "out/tasks.json").read_text()):
        (prediction,) = task.pop("predictions")  # `validate_task` of 2.1 fails on them
        assert opened_interface.validate_task(task)
        assert not opened_interface.validate_prediction(prediction, return_errors=True)
    interface.LabelInterface(labeling_config(HOSTILE)).validate()


def test_hostile_names_stay_text_in_the_config() -> None:
    root = ElementTree.fromstring(labeling_config(HOSTILE))
    values = [[choice.get("value") for choice in control] for control in root.iter("Choices")]
    assert values == [list(attribute.values) for attribute in HOSTILE.attributes]
    assert [header.get("value") for header in root.iter("Header")] == HOSTILE.names
    assert len(set(control_names(HOSTILE))) == 4


def annotated(results: list[tuple[str, str]], **annotation: Any) -> dict[str, Any]:
    choices = [
        {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [value]}}
        for name, value in results
    ]
    defaults = {"completed_by": 7, "created_at": "2025-01-02T00:00:00Z", "was_cancelled": False}
    return defaults | annotation | {"result": choices}


def test_answers_come_back_in_the_order_of_time(tmp_path: Path) -> None:
    gender, age = control_names(SPACE)
    later = annotated([(gender, "male")], completed_by={"id": 1, "email": "a@b"}, created_at="2025-01-03T00:00:00Z")
    skipped = annotated([(gender, "male")], was_cancelled=True)
    tasks = [
        {"data": {"image_id": "far:[x]=y.jpg"}, "annotations": [later, skipped]},
        {"data": {"image_id": "pool:b.jpg"}, "annotations": [annotated([(gender, "female"), (age, "<30")])]},
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert read_annotations(tmp_path / "export.json", SPACE).to_numpy().tolist() == [
        ["pool:b.jpg", "gender", "female", "7", "2025-01-02T00:00:00Z"],
        ["pool:b.jpg", "age", "<30", "7", "2025-01-02T00:00:00Z"],
        ["far:[x]=y.jpg", "gender", "male", "a@b", "2025-01-03T00:00:00Z"],
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nothing", "not JSON .*; export the project in the format JSON"),
        ('[{"data": {}}]', "no export of tasks that `manifest export` wrote"),
        (
            json.dumps([{"data": {"image_id": "a"}, "annotations": [annotated([("mask", "on")])]}]),
            "a: 'mask' is none of",
        ),
        (
            json.dumps([{"data": {"image_id": "a"}, "annotations": [annotated([(control_names(SPACE)[0], "man")])]}]),
            "a: gender: expected one of male, female, got 'man'",
        ),
    ],
)
def test_an_export_of_something_else_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_annotations(tmp_path / "export.json", SPACE)


def test_fiftyone_gets_a_sample_per_readable_face(manifest: Path, tmp_path: Path) -> None:
    assert "2 faces written" in export(manifest, "fiftyone", tmp_path / "out", "--status", "rejected")
    samples = {each["image_id"]: each for each in json.loads((tmp_path / "out/samples.json").read_text())["samples"]}
    assert samples["pool:age_known.jpg"]["tags"] == ["rejected"]
    assert samples["pool:age_known.jpg"]["age"] == {
        "_cls": "Classification",
        "label": ">=60",
        "confidence": 1.0,
        "tags": ["known", "human"],
    }
    assert len(set(field_names(HOSTILE))) == 4 and not {"tags", "filepath", "_", ""} & set(field_names(HOSTILE))


def test_fiftyone_imports_it(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    importers = pytest.importorskip("fiftyone.utils.data.importers", reason="needs fiftyone")
    export(manifest, "fiftyone", tmp_path / "out")
    with importers.LegacyFiftyOneDatasetImporter(str(tmp_path / "out")) as importer:  # needs no database
        samples = {sample["image_id"]: sample for sample in importer}
    assert len(samples) == 6
    face = samples["far:[x]=y.jpg"]
    assert (face.tags, face["gender"].label, face["gender"].tags, face["age"].confidence) == (
        ["accepted"],
        "female",
        ["known", "derived"],
        1.0,
    )
    assert Path(face.filepath).is_file()


def test_embedding_atlas_gets_pictures_and_a_map(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        manifest_exports,
        "_projection",
        lambda file: lambda ids: np.array([[len(name), np.nan] for name in ids], float),
    )
    assert "--x projection_x" in export(manifest, "embedding-atlas", tmp_path / "atlas.parquet")
    rows = {row["image_id"]: row for row in pq.read_table(tmp_path / "atlas.parquet").to_pylist() if row["gender"]}
    face = rows["far:[x]=y.jpg"]
    assert (face["gender"], face["age_confidence"], face["projection_x"], face["projection_y"]) == (
        "female",
        1.0,
        13,
        None,
    )
    assert face["image"]["bytes"][:4] == b"RIFF" and rows["pool:sure.jpg"]["image"] is None


def test_embedding_atlas_loads_it(manifest: Path, tmp_path: Path) -> None:
    cli = pytest.importorskip("embedding_atlas.cli", reason="needs embedding-atlas")
    export(manifest, "embedding-atlas", tmp_path / "atlas.parquet")
    frame = cli.load_datasets([str(tmp_path / "atlas.parquet")])
    assert len(frame) == 8 and frame["image_id"].tolist() == sorted(frame["image_id"])
    assert frame.loc[frame["image_id"] == "far:[x]=y.jpg", "image"].iloc[0]["bytes"][:4] == b"RIFF"


def test_the_map_shows_the_features_that_a_run_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_pipeline.pseudo_labels.manifest_file import open_manifest

    directory = tmp_path / "run/round-01/pseudo_labels"
    directory.mkdir(parents=True)
    file = open_manifest(opened(directory).path)
    assert manifest_exports._projection(file) is None
    monkeypatch.setattr(manifest_exports, "finished_stage", lambda directory, cure: None)
    (tmp_path / "run/features/face").mkdir(parents=True)
    (tmp_path / "run/faces").mkdir()
    line = np.array([[0, 0, 0], [1, 2, 2], [2, 4, 4], [3, 6, 6]], np.float32)  # 3 apart
    np.save(tmp_path / "run/features/face/features.npy", line)
    pool = pd.DataFrame({"image_id": ["a", "b", "c", "d"], "pixel_row": [3, 2, 1, 0]})
    pool.to_parquet(tmp_path / "run/faces/unlabeled.parquet")
    project = manifest_exports._projection(file)
    assert project is not None
    points = project(["a", "unknown", "d"])
    assert np.isnan(points[1]).all() and abs(points[0, 0] - points[2, 0]) == pytest.approx(9)


def test_a_kind_that_does_not_exist_is_refused(manifest: Path, tmp_path: Path) -> None:
    command = ["manifest", "export", str(manifest), "--out", str(tmp_path / "out.xlsx")]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, ManifestError) and "ends with .csv or .parquet, or --to" in str(error)
