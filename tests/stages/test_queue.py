"""The queue of a run: apart from all who judge, never answered before, out as a table and as tasks, answers back."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import dump_config, load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.pseudo_labels.queue import uncertainty
from ssl_pipeline.runs.answers import append_answers, read_answers, verdicts
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_json, write_text
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.queue import choose_faces, label_studio_interface
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from tests.cycle_config import draw_and_prepare, write_tiny_config
from tests.runs.test_answers import answer

Labeled = tuple[RunConfig, RunDir]
WAYS = ("random", "uncertainty", "clusters")


@pytest.fixture(scope="module")
def labeled_pool(tmp_path_factory: pytest.TempPathFactory) -> Labeled:
    path = write_tiny_config(tmp_path_factory.mktemp("queue"))
    loose = ["teacher.training.epochs=1", "selection.guards.on_fault=warn", "shift=null"]
    config = load_config(path, overrides=loose)
    run = RunDir(config.runs_root / config.run_name)
    draw_and_prepare(config, run)
    train_teacher(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    select(config, run, 1)
    write_text(run.root / "config.yaml", dump_config(config))
    write_json(run.root / "run.json", {})
    return config, run


@pytest.fixture
def copied(labeled_pool: Labeled, tmp_path: Path) -> Labeled:
    shutil.copytree(labeled_pool[1].root, tmp_path / "tiny")
    return labeled_pool[0], RunDir(tmp_path / "tiny")


@pytest.mark.parametrize("by", WAYS)
def test_nobody_who_judges_is_asked_about_and_nobody_twice(copied: Labeled, by: str) -> None:
    config, run = copied
    labeled = read_faces(run.faces / "labeled.parquet")
    seen: set[str] = set()
    for turn in range(3):
        faces = choose_faces(config, run, 20, by=by)  # type: ignore[arg-type]
        assert len(faces) == len(set(faces["image_id"])) == 20
        for column in ("image_id", "content_hash", "person_id", "picture_id"):
            assert not set(faces[column]) & set(labeled[column])
        assert not seen & set(faces["image_id"])
        seen |= set(faces["image_id"])
        decision = ("label", "reject", "unsure")[turn]  # whatever they said
        append_answers(run.answers, [answer("ann", decision, content_hash=one) for one in faces["content_hash"]])
    assert len(choose_faces(config, run, 999, by=by)) == 40  # type: ignore[arg-type]


@pytest.mark.parametrize("by", WAYS)
def test_a_seed_gives_the_same_queue(labeled_pool: Labeled, by: str) -> None:
    one, two = (choose_faces(*labeled_pool, 10, by=by, seed=4) for _ in range(2))  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(one, two)


def test_scores_are_of_the_manifest_and_reasons_name_the_rivals(labeled_pool: Labeled) -> None:
    config, run = labeled_pool
    faces = choose_faces(config, run, 100, by="uncertainty")
    manifest = read_manifest(run.pseudo_labels(1) / "manifest.parquet")
    rows = pd.Index(manifest.faces["image_id"]).get_indexer(pd.Index(faces["image_id"]))
    probabilities, labels = manifest.probabilities[rows].astype(float), config.labels.space
    np.testing.assert_allclose(
        faces["score"], uncertainty(probabilities, labels, known=np.zeros((100, 2), bool)), atol=1e-9
    )
    assert faces["score"].is_monotonic_decreasing
    assert faces["reason"][0].split()[0] in labels.names
    assert "similar faces; " in choose_faces(config, run, 3, by="clusters")["reason"][0]
    assert set(choose_faces(config, run, 3, by="random")["reason"]) == {"drawn at random"}


def test_a_face_that_is_fully_known_is_not_asked_about(copied: Labeled) -> None:
    config, run = copied
    pool = read_faces(run.faces / "unlabeled.parquet")
    for name, attribute in zip(config.labels.space.names, config.labels.space.attributes, strict=True):
        pool.loc[:89, name] = attribute.values[0]
    pool.loc[90:94, "gender"] = "male"
    pool.to_parquet(run.faces / "unlabeled.parquet")
    chosen = choose_faces(config, run, 100, by="uncertainty")
    assert set(chosen["image_id"]) == set(pool["image_id"][90:])
    partly = chosen[chosen["image_id"].isin(pool["image_id"][90:95])]
    assert partly["reason"].str.startswith("age").all()


def test_large_pools_are_sampled(labeled_pool: Labeled) -> None:
    assert len(choose_faces(*labeled_pool, 100, by="clusters", max_candidates=30)) == 30


def test_a_run_without_a_labeled_pool_is_refused(labeled_pool: Labeled, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "tiny")
    shutil.copytree(labeled_pool[1].faces, run.faces)
    with pytest.raises(RunError, match="its pool is not labeled yet; run the cycle"):
        choose_faces(labeled_pool[0], run, 3, by="random")


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert (result.exit_code == 0) == (code == 0), (result.output, result.exception)
    return result.output + str(result.exception or "")


def test_out_to_label_studio_and_back(copied: Labeled, tmp_path: Path) -> None:
    config, run = copied
    out = tmp_path / "tasks.json"
    assert "4 faces written to" in invoke("queue", run.root, "-n", 4, "--by", "clusters", "--out", out)
    tasks = json.loads(out.read_text())
    assert len(tasks) == 4
    for task in tasks:
        path = task["data"]["image"].removeprefix("/data/local-files/?d=")
        assert (config.faces.root / path).is_file()
    interface = ElementTree.fromstring(out.with_suffix(".xml").read_text())
    choices = {own.get("name"): [one.get("value") for one in own.iter("Choice")] for own in interface.iter("Choices")}
    assert choices == config.labels.space.to_dict()
    result = {"from_name": "gender", "to_name": "image", "type": "choices", "value": {"choices": ["female"]}}
    done = [{**task, "annotations": [{"completed_by": 1, "result": [result]}]} for task in tasks]
    (tmp_path / "done.json").write_text(json.dumps(done))
    invoke("answers", "import", run.root, tmp_path / "done.json")
    assert {(one.state, one.value) for one in verdicts(read_answers(run.answers)).values()} == {("labeled", "female")}
    again = set(choose_faces(config, run, 100, by="clusters")["image_id"])
    assert not again & {task["data"]["image_id"] for task in tasks}


def test_the_table_lies_in_the_run(copied: Labeled, tmp_path: Path) -> None:
    run = copied[1]
    shown = invoke("queue", run.root, "-n", 12)
    table = pd.read_csv(run.root / "queue.csv")
    assert list(table) == ["image_id", "cluster", "score", "reason"]
    assert len(table) == 12
    assert "The first of 12 faces" in shown
    assert "expected a .csv" in invoke("queue", run.root, "--out", tmp_path / "x.txt", code=1)


def test_hostile_values_stay_text_in_the_interface() -> None:
    labels = LabelSpace.of({"a": ['<script>"', "&'"]})
    choices = ElementTree.fromstring(label_studio_interface(labels)).iter("Choice")
    assert [one.get("value") for one in choices] == ['<script>"', "&'"]
