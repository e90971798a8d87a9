"""Paths of a run directory, and its lock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.runs.disk import catch_disk_full
from ssl_pipeline.runs.files import read_json, remove_leftovers
from ssl_pipeline.runs.lock import hold_lock


@dataclass(frozen=True)
class RunDir:
    """The paths of one run. Round 0 is the teacher's; round k ≥ 1 holds pseudo-labels and a student.

    The round after the compared student's holds the pool as that student labels it, also if no student follows.
    """

    root: Path

    @property
    def faces(self) -> Path:
        """Face tables and decoded pixels."""
        return self.root / "faces"

    @property
    def teacher(self) -> Path:
        """The first teacher."""
        return self.root / "round-00" / "teacher"

    @property
    def features(self) -> Path:
        """Features of all faces, a folder per embedder."""
        return self.root / "features"

    @staticmethod
    def members(model_dir: Path) -> Path:
        """The folders of the members of a vote."""
        return model_dir / "members"

    @property
    def out_of_fold(self) -> Path:
        """Out-of-fold predictions and calibrated fold teachers."""
        return self.root / "round-00" / "out_of_fold"

    def fold_teacher(self, fold: int) -> Path:
        """The teacher trained without a fold, counted from 0."""
        return self.root / "round-00" / f"teacher-without-fold-{fold}"

    def pseudo_labels(self, round_index: int) -> Path:
        """Predictions and manifest of a round."""
        return self.root / f"round-{round_index:02d}" / "pseudo_labels"

    def review(self, round_index: int) -> Path:
        """The review of a round's selection: request and decision."""
        return self.root / f"round-{round_index:02d}" / "review"

    def student(self, round_index: int) -> Path:
        """The student of a round."""
        return self.root / f"round-{round_index:02d}" / "student"

    def control(self, round_index: int) -> Path:
        """The student of a round, trained without the pool."""
        return self.root / f"round-{round_index:02d}" / "control"

    @property
    def answers(self) -> Path:
        """What people answered about the labels of faces; see `runs.answers`."""
        return self.root / "answers.jsonl"

    @property
    def tracking(self) -> Path:
        """What trackers of experiments write; no stage reads it."""
        return self.root / "tracking"

    @property
    def summary(self) -> Path:
        """The results of a finished cycle."""
        return self.root / "summary.json"

    @property
    def label_errors(self) -> Path:
        """The table of labels that look wrong, see `stages.label_check`; only after a label check."""
        return self.root / "label_errors.parquet"

    @property
    def command(self) -> str:
        """The shell command that resumes the run."""
        return f"ssl-pipeline run {self.root / 'config.yaml'}"

    @contextmanager
    def lock(self, flow_run: str = "") -> Iterator[None]:
        """Hold the run for this process. The lock is released when the process ends, however it ends.

        Args:
            flow_run: the ID of the flow run that this process works for.

        Raises:
            RunError: if another process holds it.
        """
        with catch_disk_full(self.lock_file):
            self.root.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.lock_file, flow_run):
            remove_leftovers(self.root)
            yield

    @classmethod
    def around(cls, file: Path) -> "RunDir":
        """Return the run that a stage's file should lie in, ``RUN/round-…/stage/file``. It need not exist."""
        return cls(file.absolute().parent.parent.parent)

    @property
    def lock_file(self) -> Path:
        """The file that the process working in the run has locked."""
        return self.root / ".lock"


def model_of(path: Path) -> Path:
    """Return the checkpoint to use: of a finished run, the promoted model's; any other path is returned as it is.

    Raises:
        CheckpointError: if the folder is neither a model's nor a finished run's.
    """
    if not path.is_dir():
        return path
    for name in ("best.safetensors", "model.safetensors"):  # a model's folder, or one that was exported for a hub
        if (path / name).is_file():
            return path / name
    if RunDir(path).summary.is_file():
        recorded = Path(read_json(RunDir(path).summary)["promoted_checkpoint"])
        return path.joinpath(*recorded.parts[-3:])  # round-…/model/best.safetensors, wherever the run lies now
    trained = [str(found) for found in sorted(path.glob("round-*/*/best.safetensors"))]
    name_one = f"name one of its models: {', '.join(trained)}" if trained else "it holds no trained model"
    raise CheckpointError(f"{path}: not a finished run; {name_one}")
