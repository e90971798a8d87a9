"""Whoever wants to know is told how far trainings and labelings have come; without anybody, nothing happens."""

from pathlib import Path

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs.progress import listen, report
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.train import train_teacher
from tests.cycle_config import draw_and_prepare, write_tiny_config


def test_a_training_and_a_labeling_tell_how_far_they_are(tmp_path: Path) -> None:
    config, told = load_config(write_tiny_config(tmp_path)), list[tuple[str, float]]()
    with open_run(config) as run, listen(lambda what, share: told.append((what, share))):
        draw_and_prepare(config, run)
        train_teacher(config, run)
        predict(config, run, 1, run.teacher / "best.safetensors")
    assert [share for what, share in told if what == "teacher"] == [1 / 3, 2 / 3, 1]
    labeled = [share for what, share in told if what == "labeling"]
    assert labeled == [0.4, 0.8, 1.0]  # 100 faces in shards of 40
    assert ("labeling validation faces", 1.0) in told


def test_nobody_is_told_outside_the_context() -> None:
    told = list[str]()
    with listen(lambda what, share: told.append(what)):
        report("inside", 0.5)
    report("outside", 0.5)
    assert told == ["inside"]
