"""Opening of a run: to work in it (check, lock, storage, status in run.json), or to read its faces only."""

import logging
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ssl_pipeline.config.loading import dump_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.yaml_text import read_yaml
from ssl_pipeline.errors import PipelineError, RunError
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.runs.changes import changed_values
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json, write_json, write_text
from ssl_pipeline.runs.plan import planned_stages
from ssl_pipeline.runs.profile import profiling
from ssl_pipeline.runs.records import RECORD
from ssl_pipeline.runs.review import is_waiting
from ssl_pipeline.runs.run_progress import follow_run
from ssl_pipeline.runs.storage.mirror import mirror_run
from ssl_pipeline.stages.check import check
from ssl_pipeline.stages.prepare import is_prepared, prepare

logger = logging.getLogger(__name__)

CYCLE = "full-cycle"
PARTLY_FINISHED = "partly finished"
_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "matplotlib", "numpy", "pandas", "pillow", "scikit-learn")


@contextmanager
def open_run(config: RunConfig, flow: str = CYCLE, flow_run: str = "") -> Iterator[RunDir]:
    """Open a run directory to work in it; writes config.yaml, and run.json with environment, status and error.

    The status after a full cycle is ``finished``, after another flow ``partly finished``; it stays ``finished`` if the
    cycle had finished before and no stage worked again.

    Args:
        config: of the run. Settings that differ from those in config.yaml are logged, and kept in run.json.
        flow: the name of what works in the run.
        flow_run: the ID of its flow run, if any.

    Raises:
        ConfigError: if the config needs something that is missing here.
        RunError: if another process, or another machine through the storage, is working in the run.
        StorageError: if the storage cannot be reached, or not everything is uploaded at the end.
    """
    check(config)
    run = RunDir(config.runs_root / config.run_name)
    metadata = {"run_name": config.run_name, "flow": flow, "seed": config.seed, **environment(config)}
    followed = follow_run(lambda: planned_stages(config, run)) if flow == CYCLE else nullcontext()
    with run.lock(flow_run), mirror_run(config.storage, run.root), followed, profiling(config.profile):
        metadata["changed_settings"] = _tell_changes(config, run)
        had_finished, before = _status(run) == "finished", _records(run)
        write_text(run.root / "config.yaml", dump_config(config))
        write_json(run.root / "run.json", {"status": "running", **metadata})
        try:
            yield run
        except BaseException as error:
            with suppress(OSError, PipelineError):  # e.g. on a full disk; the error that ended the run is raised
                write_json(run.root / "run.json", {**_end(run, error), **metadata})
            raise
        is_finished = flow == CYCLE or (had_finished and _records(run) == before)
        write_json(run.root / "run.json", {"status": "finished" if is_finished else PARTLY_FINISHED, **metadata})


@contextmanager
def open_faces(config: RunConfig) -> Iterator[RunDir]:
    """Open the faces of a config to read them: the run's if they are prepared, else prepared in a temporary folder.

    Nothing of the run is changed, and no lock is taken.
    """
    check(config)
    run = RunDir(config.runs_root / config.run_name)
    if is_prepared(config, run):
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="ssl-pipeline-") as folder:
        run = RunDir(Path(folder))
        prepare(config, run)
        yield run


def environment(config: RunConfig) -> dict[str, Any]:
    """Device, machine type and package versions: what results depend on besides the config."""
    versions = {"ssl-pipeline": version("ssl-pipeline"), "python": platform.python_version()}
    versions |= {package: version(package) for package in _PACKAGES}
    return {"device": str(resolve_device(config.device)), "machine": platform.machine(), "versions": versions}


def _end(run: RunDir, error: BaseException) -> dict[str, str]:
    """Return the status and the error of a run that an exception ended."""
    if is_waiting(run):  # whatever ended the process, e.g. a suspended flow run or a closed terminal
        return {"status": "waiting for review"}
    if isinstance(error, Exception):
        return {"status": "failed", "error": str(error) or repr(error)}
    # Ctrl-C, a signal or a cancellation by Prefect
    return {"status": "cancelled", "error": str(error) or f"stopped from outside ({type(error).__name__})"}


def _tell_changes(config: RunConfig, run: RunDir) -> dict[str, tuple[Any, Any]]:
    """Log the settings that differ from those in the run's config.yaml, and return them."""
    try:
        before = read_yaml((run.root / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    changed = changed_values(before, read_yaml(dump_config(config))) if isinstance(before, dict) else {}
    for key, (old, new) in changed.items():
        logger.warning("%s: %s was %s, is %s from now on", run.root / "config.yaml", key, old, new)
    return changed


def _status(run: RunDir) -> str | None:
    with suppress(RunError):
        return str(read_json(run.root / "run.json").get("status"))
    return None


def _records(run: RunDir) -> dict[Path, int]:
    """Modification time of each stage's record."""
    return {path: path.stat().st_mtime_ns for path in run.root.rglob(RECORD)}
