"""Opening of a run: config check, lock, storage, status and environment in run.json."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any

from ssl_pipeline.config.loading import dump_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import write_json, write_text
from ssl_pipeline.runs.records import VERSION
from ssl_pipeline.runs.review import is_waiting
from ssl_pipeline.runs.storage.mirror import mirror_run
from ssl_pipeline.stages.check import check

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "matplotlib", "numpy", "pandas", "pillow", "scikit-learn")


@contextmanager
def open_run(config: RunConfig) -> Iterator[RunDir]:
    """Open a run directory for this process; writes config.yaml, and run.json with environment, status and error.

    Raises:
        ConfigError: if the config needs something that is missing here.
        RunError: if another process, or another machine through the storage, is working in the run.
        StorageError: if the storage cannot be reached, or not everything is uploaded at the end.
    """
    check(config)
    run = RunDir(config.runs_root / config.run_name)
    metadata = {"run_name": config.run_name, "seed": config.seed, **environment(config)}
    with run.lock(), mirror_run(config.storage, run.root):
        write_text(run.root / "config.yaml", dump_config(config))
        write_json(run.root / "run.json", {"status": "running", **metadata})
        try:
            yield run
        except BaseException as error:
            is_failure = isinstance(error, Exception)  # else Ctrl-C, a signal or a cancellation by Prefect
            end = {"status": "failed" if is_failure else "cancelled"}
            end["error"] = str(error) or (
                repr(error) if is_failure else f"stopped from outside ({type(error).__name__})"
            )
            if is_waiting(run):  # whatever ended the process, e.g. a suspended flow run or a closed terminal
                end = {"status": "waiting for review"}
            with suppress(RunError):  # the disk is full, and that is the error raised
                write_json(run.root / "run.json", {**end, **metadata})
            raise
        write_json(run.root / "run.json", {"status": "finished", **metadata})


def environment(config: RunConfig) -> dict[str, Any]:
    """Device, machine type and package versions: what results depend on besides the config."""
    versions = {"ssl-pipeline": VERSION, "python": platform.python_version()}
    versions |= {package: version(package) for package in _PACKAGES}
    return {"device": str(resolve_device(config.device)), "machine": platform.machine(), "versions": versions}
