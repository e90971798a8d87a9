"""Run a measurement once per seed, several seeds at a time; the options that such commands share."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from benchmarks.tables import Json
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import PipelineError, RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json, write_json
from ssl_pipeline.stages.draw import draw
from ssl_pipeline.stages.open import environment

_Result = TypeVar("_Result")
ConfigPath = Annotated[Path, typer.Option("--config", help="A config file.")]
Out = Annotated[Path, typer.Option("--out", help="The Markdown file to write.")]
Seeds = Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="A setting, dotted.key=value; may be repeated.")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Seeds at a time; they share the cores.")]
_LOCAL_PATHS = ("faces.root=", "runs_root=")
"""Overrides that the report omits: paths of one machine."""


@dataclass(frozen=True)
class Measurement:
    """A question, and the config and seeds to measure it with.

    Attributes:
        question: name of the module in `benchmarks`.
        options: further options of the command, as the report shows them.
    """

    question: str
    config_path: Path
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    jobs: int
    options: str = ""

    @classmethod
    def from_options(
        cls, question: str, config: Path, seeds: str, overrides: list[str] | None, jobs: int, *, options: str = ""
    ) -> "Measurement":
        """Build it from the options of a command."""
        return cls(question, config, tuple(map(int, seeds.split(","))), tuple(overrides or ()), jobs, options)

    def config(self, *overrides: str, run_name: str | None = None) -> RunConfig:
        """Load the config with the command's overrides, then with these."""
        return load_config(self.config_path, overrides=[*self.overrides, *overrides], run_name=run_name)

    def run(self, measure_seed: Callable[["Measurement", int], _Result]) -> list[_Result]:
        """Draw the synthetic faces, then measure each seed; finished work is not repeated.

        Args:
            measure_seed: from (measurement, seed) to the seed's result; at module level, for spawned processes.

        Returns:
            One result per seed, in order.
        """
        draw(self.config())
        if self.jobs == 1:
            return [measure_seed(self, seed) for seed in self.seeds]
        # Without a limit, the processes would compete for the same cores.
        os.environ["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // self.jobs, 1))
        with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
            return list(pool.map(measure_seed, repeat(self), self.seeds))

    def run_cycle(self, run_name: str, *overrides: str) -> Json:
        """Run the full cycle in its own process; return the content of summary.json."""
        settings = [*self.overrides, *overrides]
        command = [sys.executable, "-m", "flows.full_cycle", "--config", str(self.config_path), "--run-name", run_name]
        subprocess.run([*command, *(option for s in settings for option in ("--set", s))], check=True)
        return read_json(self.config(*overrides).runs_root / run_name / "summary.json")

    def provenance(self) -> str:
        """Return the command, the seeds and the machine as the beginning of a paragraph."""
        machine = environment(self.config())
        command = f"python -m benchmarks.{self.question} --config {self.config_path}"
        command += f" --seeds {','.join(map(str, self.seeds))}"
        command += f" --jobs {self.jobs}" if self.jobs > 1 else ""
        command += "".join(f" --set {shlex.quote(s)}" for s in self.overrides if not s.startswith(_LOCAL_PATHS))
        return (
            f"Written by `{command}{self.options}`. Seeds {', '.join(map(str, self.seeds))}; {os.cpu_count()} cores, "
            f"{machine['machine']}, {machine['device']}, torch {machine['versions']['torch']}"
        )


def folder_name(title: str) -> str:
    """Return a title as the name of a folder.

    >>> folder_name("threshold 0.8")
    'threshold-0-8'
    """
    return "".join(letter if letter.isalnum() else "-" for letter in title)


def member_directories(config: RunConfig, run: RunDir) -> dict[str, Path]:
    """Return the folders of the teachers that vote, by name; none if the teacher is one network."""
    if config.network_teacher is not None:
        return {}
    return {name: run.members(run.teacher) / name for name in config.named_teachers}


def portable_settings(config: RunConfig) -> Json:
    """Return a config's settings without those of one machine: its device, and where faces and runs lie.

    What only repeats a default is left out, so that a key that comes later changes nothing.
    """
    settings: Json = config.model_dump(mode="json", exclude_defaults=True, exclude={"runs_root": True, "device": True})
    settings["faces"].pop("root", None)
    return settings


def stored_result(path: Path, settings: Json, work: Callable[[], Json]) -> Json:
    """Return the result stored in a file, or do the work and store its result.

    Raises:
        RunError: if the stored result has other settings.
    """
    if path.is_file():
        stored = read_json(path)
        if stored.get("settings") != settings:
            raise RunError(f"{path}: a result of other settings; give another folder")
        return dict(stored["result"])
    result = work()
    write_json(path, {"settings": settings, "result": result})
    return result


def run_command(main: Callable[..., None]) -> None:
    """Run a command line; print a user's mistake as one message."""
    try:
        typer.run(main)
    except PipelineError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except subprocess.CalledProcessError as error:  # the command has printed its message
        sys.exit(error.returncode)
