"""Trackers of experiments: each training of a run is a tracked run of TensorBoard, MLflow or Weights & Biases.

They get the rows of history.csv and change nothing. Unless their own environment variables say otherwise
(MLFLOW_TRACKING_URI, WANDB_MODE), they write below the run's directory and reach no network.
"""

import importlib.util
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.tracking import Tracker
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of

logger = logging.getLogger(__name__)

Row = Mapping[str, float]
"""A row of a training's history: ``epoch``, from 0, which is the step, and the values to log."""


class Tracking(Section):
    """Which trackers follow the trainings of a run, and where they write."""

    trackers: tuple[Tracker, ...] = ()
    directory: Path = Path()
    group: str = ""
    """The run's name, which its trainings have in common."""

    @classmethod
    def of(cls, config: RunConfig, run: RunDir) -> Self:
        """Return the tracking of a run."""
        return cls(trackers=tuple(dict.fromkeys(config.track)), directory=run.tracking, group=config.run_name)


def find_missing_trackers(trackers: Sequence[Tracker]) -> list[str]:
    """Describe the trackers whose package is not installed; takes no time."""
    specs = {name: importlib.util.find_spec(name) for name in trackers}
    # the folder that a tracker leaves where it was started has its name too, and no origin
    missing = [name for name, spec in specs.items() if spec is None or spec.origin is None]
    cures = {name: "wandb" if name == "wandb" else "'ssl-pipeline[track]'" for name in missing}
    return [
        f"'track': the package of {name} is not installed; pip install {cure}, or --set track=null"
        for name, cure in cures.items()
    ]


class _Identity(NamedTuple):
    """What a tracked run is found by, and begins with."""

    directory: Path
    group: str
    name: str
    key: str
    """Digest of what the training depends on; the same training continues its tracked run."""
    parameters: Mapping[str, bool | int | float | str]
    num_epochs: int
    """Finished before."""


class _Client(Protocol):
    """A tracked run in one tracker."""

    next_step: int
    """The first step that it does not have."""

    def log(self, step: int, values: Row) -> None: ...

    def close(self, *, failed: bool) -> None: ...


class TrackedRun:
    """A training in every tracker of its run; a tracker that fails is left out, with a warning."""

    def __init__(
        self,
        tracking: Tracking | None,
        *,
        name: str,
        key: str,
        parameters: Mapping[str, Any],
        history: Sequence[Row] = (),
    ) -> None:
        """Open the tracked run, or continue that of an interrupted training.

        Args:
            tracking: the trackers; None: none.
            name: the training's.
            key: digest of what the training depends on.
            parameters: its settings; nested.
            history: the epochs finished before; those that a tracker lacks are logged.
        """
        self._name, self._clients = name, dict[str, _Client]()
        tracking = tracking or Tracking()
        flat = _flatten(parameters)
        identity = _Identity(tracking.directory, tracking.group, name, key, flat, len(history))
        for tracker in tracking.trackers:
            with self._left_out_if_failing(tracker):
                self._clients[tracker] = _CLIENTS[tracker](identity)
        for row in history:
            self.log(row)

    def log(self, row: Row) -> None:
        """Log a row, once."""
        values = {name: value for name, value in row.items() if name != "epoch"}
        for tracker, client in list(self._clients.items()):
            if row["epoch"] >= client.next_step:
                with self._left_out_if_failing(tracker):
                    client.log(int(row["epoch"]), values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker, client in list(self._clients.items()):
            with self._left_out_if_failing(tracker):
                client.close(failed=error is not None)

    @contextmanager
    def _left_out_if_failing(self, tracker: Tracker | str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever its client raises, e.g. for a server out of reach
            self._clients.pop(tracker, None)
            reason = " ".join(str(error).split())[:300]
            logger.warning("%s: no longer tracked by %s (%s: %s)", self._name, tracker, type(error).__name__, reason)


class _TensorBoard:
    """Event files in ``tensorboard/<training>-<key>``."""

    def __init__(self, run: _Identity) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.directory / "tensorboard" / f"{run.name.replace(' ', '-')}-{run.key[:8]}"
        self.next_step = run.num_epochs if folder.is_dir() else 0
        self._parameters = {} if self.next_step else run.parameters
        # an epoch that was logged and then lost with its process is hidden by its repetition
        self._writer = SummaryWriter(str(folder), purge_step=self.next_step)

    def log(self, step: int, values: Row) -> None:
        from torch.utils.tensorboard.summary import hparams

        if self._parameters:  # written with the names of the metrics, which the tab HPARAMS shows beside them
            for summary in hparams(self._parameters, values):
                self._writer.file_writer.add_summary(summary)
            self._parameters = {}
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class _MLflow:
    """A run in the experiment of the group; by default in the file store ``mlflow``."""

    def __init__(self, run: _Identity) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow 3 insists on a database
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or (run.directory / "mlflow").resolve().as_uri()
        self._client = client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(run.group)
        experiment_id = client.create_experiment(run.group) if experiment is None else experiment.experiment_id
        if found := client.search_runs([experiment_id], f"tags.training = '{run.key}'"):
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
        else:
            self._id = client.create_run(experiment_id, run_name=run.name, tags={"training": run.key}).info.run_id
            for name, value in run.parameters.items():
                client.log_param(self._id, name, value)
        logged = [client.get_metric_history(self._id, name) for name in client.get_run(self._id).data.metrics]
        self.next_step = min((max(metric.step for metric in metrics) for metrics in logged), default=-1) + 1

    def log(self, step: int, values: Row) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in values.items()])

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


class _Wandb:
    """A run of the group; by default offline, in ``wandb``, where each start leaves a folder with all epochs so far."""

    def __init__(self, run: _Identity) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        run.directory.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            dir=str(run.directory),
            project=os.environ.get("WANDB_PROJECT") or "ssl-pipeline",
            group=run.group,
            name=run.name,
            id=digest_of([run.group, run.key])[:16],
            resume="allow",
            config=dict(run.parameters),
            mode=os.environ.get("WANDB_MODE") or "offline",
            settings=wandb.Settings(console="off", silent=True),
        )
        self.next_step = int(self._run.step)

    def log(self, step: int, values: Row) -> None:
        self._run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


_CLIENTS: Mapping[Tracker, type[_TensorBoard] | type[_MLflow] | type[_Wandb]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _Wandb,
}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Name each setting by its dotted key; lists, None and mappings of the user's own names become JSON."""
    flat: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value and all(key.isidentifier() for key in value):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            flat[f"{prefix}{name}"] = value if plain else json.dumps(value, ensure_ascii=False)
    return flat
