"""Open a run: check the config, lock the directory, record the status and the environment."""

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
    """Open a run's directory for this process, note what it is made with, and how it ends.

    Raises:
        ConfigError: if the config asks for what is not there.
        RunError: if another process, or another machine by way of the storage, is working in the run.
        StorageError: if the storage cannot be reached, or at the end not everything got there.
    """
    check(config)
    run = RunDir(config.runs_root / config.run_name)
    about = {"run_name": config.run_name, "seed": config.seed, **environment(config)}
    with run.lock(), mirror_run(config.storage, run.root):
        write_text(run.root / "config.yaml", dump_config(config))
        write_json(run.root / "run.json", {"status": "running", **about})
        try:
            yield run
        except BaseException as error:
            # what is no Exception came from outside: Ctrl-C, a signal, whoever runs the flows
            is_ours = isinstance(error, Exception)
            how = {"status": "failed" if is_ours else "cancelled"}
            how["error"] = str(error) or (repr(error) if is_ours else f"stopped from outside ({type(error).__name__})")
            if is_waiting(run):  # whatever it is that ended the process: an orchestrator's signal, a closed terminal
                how = {"status": "waiting for review"}
            with suppress(RunError):  # a full disk has been told already, and is what ended the run
                write_json(run.root / "run.json", {**how, **about})
            raise
        write_json(run.root / "run.json", {"status": "finished", **about})


def environment(config: RunConfig) -> dict[str, Any]:
    """What a run's figures depend on beside its config."""
    versions = {"ssl-pipeline": VERSION, "python": platform.python_version()}
    versions |= {package: version(package) for package in _PACKAGES}
    return {"device": str(resolve_device(config.device)), "machine": platform.machine(), "versions": versions}
