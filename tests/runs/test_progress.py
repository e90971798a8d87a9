"""Progress reports of trainings and predictions."""

from pathlib import Path

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs.progress import listen, report
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.train import train_teacher
from tests.cycle_config import draw_and_prepare, write_tiny_config


def test_a_training_and_a_prediction_report_their_progress(tmp_path: Path) -> None:
    config, reports = load_config(write_tiny_config(tmp_path)), list[tuple[str, float]]()
    with open_run(config) as run, listen(lambda name, share: reports.append((name, share))):
        draw_and_prepare(config, run)
        train_teacher(config, run)
        predict(config, run, 1, run.teacher / "best.safetensors")
    assert [share for name, share in reports if name == "teacher"] == [1 / 3, 2 / 3, 1]
    labeled = [share for name, share in reports if name == "labeling"]
    assert labeled == [0.4, 0.8, 1.0]  # 100 faces in shards of 40
    assert ("labeling validation faces", 1.0) in reports


def test_reports_outside_the_context_are_ignored() -> None:
    reports = list[str]()
    with listen(lambda name, share: reports.append(name)):
        report("inside", 0.5)
    report("outside", 0.5)
    assert reports == ["inside"]
