"""`ssl-pipeline evaluate` changes nothing in the run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import RunError
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.stages.open import open_run
from tests.cycle_config import draw_and_prepare, write_tiny_config


def test_evaluate_leaves_a_failed_run_its_status_and_config(tmp_path: Path) -> None:
    path = write_tiny_config(tmp_path)
    config = load_config(path)
    with pytest.raises(RunError), open_run(config) as run:
        draw_and_prepare(config, run)
        raise RunError("no room")
    checkpoint = tmp_path / "best.safetensors"
    model = build_model(config.teacher.model, labels=config.labels.space, image_size=24)
    save_checkpoint(checkpoint, model, model_config=config.teacher.model, image_size=24, cropping=None)
    before = {file: file.read_bytes() for file in run.root.rglob("*") if file.is_file()}
    command = ["evaluate", "--checkpoint", str(checkpoint), "--config", str(path)]
    # with an override, and with other faces, which are prepared somewhere else
    for override in ("selection.confidence_threshold=0.9", "seed=3"):
        result = CliRunner().invoke(app, [*command, "--set", override, "--out", str(tmp_path / "scores.json")])
        assert result.exit_code == 0, result.output
    assert {file: file.read_bytes() for file in run.root.rglob("*") if file.is_file()} == before
