"""What a training depends on: the content of a file of weights, not its name."""

from pathlib import Path

import pytest

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages import teachers, train
from ssl_pipeline.stages.launch import TrainingJob
from tests.cycle_config import write_tiny_config


class Reached(Exception):
    """The training would start."""


def test_the_content_of_a_weights_file_identifies_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(job: TrainingJob) -> None:
        raise Reached(job.inputs)

    monkeypatch.setattr(train, "faces_digest", lambda *_: "faces")
    monkeypatch.setattr(train, "run_job", start)

    def inputs(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        path = write_tiny_config(tmp_path)
        config = load_config(path, overrides=[f"teacher.model.weights_file={tmp_path / name}"])
        with pytest.raises(Reached) as reached:
            teachers.train_teacher(config, RunDir(tmp_path / "runs/tiny"))
        return str(reached.value)

    first = inputs("a.pth", b"one")
    assert inputs("b.pth", b"one") == first
    assert inputs("a.pth", b"two") != first
