r"""Training jobs: run in this process, or in several processes started by torchrun.

With ``num_processes: 1`` a job runs in this process. With more, this process writes the job to a file, starts torchrun,
forwards log lines and progress, and ends all training processes when it ends itself. To train on several machines that
share the run directory, start torchrun by hand:

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint host:29500 \
        -m ssl_pipeline.stages.launch RUN/round-00/teacher/training_job.json
"""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.config.run import Device
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import PipelineError, TrainingError
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.dataset import TrainingFaces, TrainingSet, UnlabeledSet
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.learning.fit import TRAINED, FitResult, fit
from ssl_pipeline.learning.trackers import Tracking
from ssl_pipeline.pseudo_labels.manifest import manifest_parts
from ssl_pipeline.pseudo_labels.manifest_file import open_manifest
from ssl_pipeline.pseudo_labels.merging import read_training_table
from ssl_pipeline.runs.disk import check_disk_space
from ssl_pipeline.runs.files import read_json, write_json, write_text
from ssl_pipeline.runs.progress import listen, report
from ssl_pipeline.runs.uploads import request_upload
from ssl_pipeline.stages.draws import read_draws

logger = logging.getLogger(__name__)

_SUPERVISED = "SSL_PIPELINE_SUPERVISED"
_SECONDS_TO_END = 20
_PROGRESS = "\x1e"  # the record separator begins a progress line, and never a log line


class TrainingJob(Section):
    """A training: model and settings, faces, output directory."""

    name: str
    role: RoleConfig
    labels: LabelsConfig
    faces: Path
    """The directory that `prepare` wrote."""
    training_table: Path | None = None
    """Human and pseudo-labels, merged; None trains on the human labels only."""
    start: Path | None = None
    """Checkpoint whose weights the training starts with."""
    draws: Path | None = None
    """How often the pool's faces are drawn, see `stages.draws`; None: equally often."""
    manifest: Path | None = None
    """With the teacher's class probabilities, for `fixmatch.teacher_share`."""
    answers: Path | None = None
    """Labels that people answered, see `faces.answered`."""
    directory: Path
    seed: int
    device: Device
    inputs: str
    """Digest of all that the faces depend on."""
    tracking: Tracking = Tracking()

    def load_faces(self) -> TrainingFaces:
        """Open the training and validation faces, and the pool for `fixmatch`."""
        answered = {} if self.answers is None else read_json(self.answers)
        human = TrainingFaces.from_directory(self.faces, labels=self.labels, answered=answered)
        unlabeled, train = None, None
        draws = None if self.draws is None else read_draws(self.draws)
        if self.role.training.fixmatch is not None:
            pool = read_faces(self.faces / "unlabeled.parquet")
            teacher = None if self.manifest is None else _probabilities(self.manifest, pool)
            unlabeled = UnlabeledSet.from_faces(
                pool, human.train.pixels, labels=human.labels, draws=draws, teacher=teacher, answered=answered
            )
        if self.training_table is not None:
            table = read_training_table(self.training_table)
            train = TrainingSet.from_table(table, human.train.pixels, labels=human.labels, draws=draws)
            train = train.with_regression_targets_of(human.train)
        return TrainingFaces(human.labels, train or human.train, human.validation, unlabeled, human.cropping)

    def train(self) -> FitResult:
        """Train in this process, which may be one of several."""
        return fit(
            self.role,
            self.load_faces(),
            directory=self.directory,
            seed=self.seed,
            device=self.device,
            inputs=self.inputs,
            name=self.name,
            start=self.start,
            tracking=self.tracking,
        )


def _probabilities(path: Path, pool: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Read the class probabilities of the pool's faces from a manifest, float [N, K]."""
    manifest = open_manifest(path)
    probabilities = np.full((len(pool), manifest.labels.num_classes), np.nan, np.float32)
    positions = pd.Index(pool["image_id"])
    for part in manifest_parts(manifest, ["image_id", "class_probabilities"]):
        rows = positions.get_indexer(pd.Index(part.faces["image_id"]))
        readable = (rows >= 0) & ~np.isnan(part.probabilities[:, 0])
        probabilities[rows[readable]] = part.probabilities[readable]
    return probabilities


def run_job(job: TrainingJob) -> FitResult:
    """Train in the number of processes that the job states.

    Raises:
        PipelineError: raised by the training; the message is the same from any process.
    """
    if job.role.training.num_processes == 1:
        return job.train()
    request, result = job.directory / "training_job.json", job.directory / "training_result.json"
    for path in [result, *job.directory.glob("training_error-*.txt")]:
        path.unlink(missing_ok=True)
    write_text(request, job.model_dump_json(indent=2) + "\n")
    exit_code = _run_torchrun(job, request)
    for error in sorted(job.directory.glob("training_error-*.txt")):
        raise TrainingError(error.read_text(encoding="utf-8"))
    if exit_code != 0 or not result.is_file():
        check_disk_space(_log_path(job))  # a full disk also prevents the processes from writing their error
        raise TrainingError(
            f"{job.name}: a training process ended with exit code {exit_code}; see {_log_path(job)}; run again to "
            "continue from the last saved step"
        )
    return FitResult(**{**read_json(result), "checkpoint": job.directory / TRAINED})


def _log_path(job: TrainingJob) -> Path:
    return job.directory / "training_processes.log"


def _run_torchrun(job: TrainingJob, request: Path) -> int:
    """Run torchrun, forward log lines and progress, and return the exit code."""
    num_processes = job.role.training.num_processes
    environment = {**os.environ, _SUPERVISED: "1"}
    if resolve_device(job.device).type == "cpu":
        environment["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // num_processes, 1))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    command = [*torchrun, "-m", "ssl_pipeline.stages.launch", str(request)]
    logger.info("%s: %d processes", job.name, num_processes)
    with open(_log_path(job), "w", encoding="utf-8") as log, _child_process(command, environment, log) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_PROGRESS):
                report(job.name, float(line.removeprefix(_PROGRESS)))
                request_upload()  # the processes saved an epoch
            else:
                logger.info("%s", line.rstrip())
        return process.wait()


@contextmanager
def _child_process(command: list[str], environment: dict[str, str], log: Any) -> Iterator["subprocess.Popen[str]"]:
    """Start a command in a session of its own. Its processes exit when their stdin closes, i.e. when this one ends."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, stderr=log, text=True, start_new_session=True
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main(request: Path) -> int:
    """Run one process of a job; returns the exit code. A PipelineError is written to a file for the parent process."""
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if os.environ.get(_SUPERVISED):
        threading.Thread(target=_exit_when_stdin_closes, daemon=True).start()
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s", stream=sys.stdout)
    job = TrainingJob.model_validate(read_json(request))
    try:
        if world_size != job.role.training.num_processes:
            raise TrainingError(
                f"{job.name}: expected {job.role.training.num_processes} processes (num_processes in {request}), torchrun "
                f"started {world_size}; make --nnodes × --nproc-per-node equal to it"
            )
        with listen(_print_progress) if rank == 0 and os.environ.get(_SUPERVISED) else nullcontext():
            result = job.train()
    except PipelineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        with suppress(PipelineError):  # the disk is full, which the parent process checks itself
            write_text(job.directory / f"training_error-{rank:04d}.txt", str(error))
        return 1
    if rank == 0:
        write_json(job.directory / "training_result.json", asdict(result))
    return 0


def _print_progress(name: str, share: float) -> None:
    sys.stdout.write(f"{_PROGRESS}{share}\n")
    sys.stdout.flush()


def _exit_when_stdin_closes() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
