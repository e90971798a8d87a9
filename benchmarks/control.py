"""The control of a student: its network, settings and number of steps, trained on the human labels alone."""

import math

from benchmarks.tables import Json
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.learning.dataset import TrainingFaces
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.pseudo_labels.merging import read_training_table
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.stages.evaluate import evaluate


def train_control(config: RunConfig, *, round_index: int) -> Json:
    """Train the control of a finished run's student, unless that is done; evaluate it on the test split.

    The test scores choose nothing, neither a model nor a setting.

    Args:
        config: of the run.
        round_index: of the student.

    Returns:
        Scores as returned by `ssl_pipeline.evaluation.metrics.evaluate_predictions`.
    """
    run = RunDir(config.runs_root / config.run_name)
    directory = run.root / "control"
    faces = TrainingFaces.from_directory(run.faces, labels=config.labels)
    training = config.student.training
    num_student_faces = len(read_training_table(run.student(round_index) / "training.parquet"))
    steps = training.num_steps(math.ceil(num_student_faces / training.batch_size))
    control_training = training.model_copy(update={"epochs": None, "steps": steps})
    role = config.student.model_copy(update={"training": control_training})
    fit(role, faces, directory=directory, seed=config.seed, device=config.device, name="control")
    evaluate(config, run, directory, "test")
    return read_json(directory / "test" / "scores.json")
