"""The run directory: where everything of a run lies, and its lock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ssl_pipeline.runs.disk import catch_disk_full
from ssl_pipeline.runs.files import remove_leftovers
from ssl_pipeline.runs.lock import hold_lock


@dataclass(frozen=True)
class RunDir:
    """The paths of one run. Round 0 is the teacher's; round k ≥ 1 holds pseudo-labels and a student."""

    root: Path

    @property
    def faces(self) -> Path:
        """Face tables and the pixels of the faces."""
        return self.root / "faces"

    @property
    def teacher(self) -> Path:
        """The first teacher."""
        return self.root / "round-00" / "teacher"

    @property
    def out_of_fold(self) -> Path:
        """What the teachers that each miss a part of the training faces say of it, and these teachers, calibrated."""
        return self.root / "round-00" / "out_of_fold"

    def fold_teacher(self, fold: int) -> Path:
        """The training of the teacher that misses this part of the training faces, counted from 0."""
        return self.root / "round-00" / f"teacher-without-fold-{fold}"

    def pseudo_labels(self, round_index: int) -> Path:
        """Predictions and manifest of a round."""
        return self.root / f"round-{round_index:02d}" / "pseudo_labels"

    def review(self, round_index: int) -> Path:
        """What a person was asked about a round's selection, and decided."""
        return self.root / f"round-{round_index:02d}" / "review"

    def student(self, round_index: int) -> Path:
        """The student of a round."""
        return self.root / f"round-{round_index:02d}" / "student"

    @property
    def summary(self) -> Path:
        """What a finished cycle came to."""
        return self.root / "summary.json"

    @property
    def command(self) -> str:
        """The shell command that resumes the run."""
        return f"ssl-pipeline run {self.root / 'config.yaml'}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the lock falls with the process, however it ends.

        Raises:
            RunError: if another process holds it.
        """
        with catch_disk_full(self.lock_file):
            self.root.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.lock_file):
            remove_leftovers(self.root)
            yield

    @property
    def lock_file(self) -> Path:
        """The file that a process working in the run has locked."""
        return self.root / ".lock"
