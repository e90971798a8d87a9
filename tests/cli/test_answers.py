"""`ssl-pipeline answers`, and `manifest explain` of a face that people answered about."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import dump_config, load_config
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.runs.answers import append_answers, read_answers
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_json, write_text
from tests.cycle_config import write_tiny_config
from tests.pseudo_labels.test_manifest import build, opened
from tests.runs.test_answers import answer
from tests.stages.stub_stages import StubStages, run_cycle


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    config = load_config(write_tiny_config(tmp_path))
    directory = RunDir(config.runs_root / "tiny")
    StubStages().install(monkeypatch)
    run_cycle(config, directory)
    write_text(directory.root / "config.yaml", dump_config(config))
    write_json(directory.root / "run.json", {})
    return directory


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["answers", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_answers_are_imported_counted_and_exported(run: RunDir, tmp_path: Path) -> None:
    assert "No label changes" in invoke("summary", run.root)
    pool = read_faces(run.faces / "unlabeled.parquet")
    rows = pd.DataFrame({"image_id": pool["image_id"][:3], "attribute": "gender", "value": ["male", "female", None]})
    rows.to_csv(tmp_path / "given.csv", index=False)
    assert "3 new answers" in invoke("import", run.root, tmp_path / "given.csv", "--reviewer", "ann")
    assert "0 new answers" in invoke("import", run.root, tmp_path / "given.csv", "--reviewer", "ann")
    assert len(read_answers(run.answers)) == 3
    test = read_faces(run.faces / "labeled.parquet")[lambda faces: faces["split"] == "test"]
    append_answers(run.answers, [answer(content_hash=test["content_hash"].iloc[0], reviewer="<b>")])
    shown = json.loads(invoke("summary", run.root, "--json"))
    assert shown["labels"] == {"gender": {"labeled": 3, "rejected": 1, "disputed": 0, "unsure": 0}}
    assert (shown["reviewers"], shown["next_training"]["labeled"]) == (["<b>", "ann"], 2)
    assert list(shown["unused"].values()) == [1]
    page = invoke("summary", run.root)
    assert "by <b>, ann" in page and "Not used: 1 on faces of the validation" in page
    assert "4 labels written" in invoke("export", run.root, "--out", tmp_path / "corrections.csv")
    exported = pd.read_csv(tmp_path / "corrections.csv", keep_default_na=False)
    assert sorted(exported["value"]) == ["", "female", "male", "male"]


def test_explain_says_that_people_answered(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "round-01" / "pseudo_labels"
    directory.mkdir(parents=True)
    opened(directory, build())
    command = ["manifest", "explain", str(directory / "manifest.parquet"), "pool:sure.jpg"]
    assert "people" not in CliRunner().invoke(app, command).output
    append_answers(
        tmp_path / "run" / "answers.jsonl", [answer("[/b]", content_hash="hash of pool:sure.jpg", value="female")]
    )
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "200"}).output
    assert "gender: people say 'female', a human label of the next training ([/b]: female)" in shown
