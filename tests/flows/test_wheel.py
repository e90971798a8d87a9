"""The wheel works in an empty folder: no checkout, and a foreign package `flows` in the way."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from setuptools import find_packages

from tests.cycle_config import write_tiny_config
from tests.flows.conftest import ROOT, clean_environment, free_port

SOURCES = ("ssl_pipeline", "flows", "configs", "pyproject.toml", "README.md", "LICENSE")
LOAD_ENTRY_POINTS = """
import yaml
from prefect.flows import load_flow_from_entrypoint
for deployment in yaml.safe_load(open("prefect.yaml"))["deployments"]:
    print(load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False).name)
"""


def test_the_wheel_lists_every_package() -> None:
    """The list in pyproject.toml is written by hand, since setuptools finds no package under another name."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = find_packages(str(ROOT), include=["ssl_pipeline*", "flows*"])
    renamed = [name.replace("flows", "ssl_pipeline_flows", 1) if name.startswith("flows") else name for name in found]
    assert sorted(listed) == sorted([*renamed, "ssl_pipeline_configs"])


@dataclass
class Installation:
    """A virtual environment with the wheel, and a folder to work in."""

    bin: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, code: int = 0) -> str:
        """Run a program of the environment in the folder; return its standard output."""
        result = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    root = tmp_path_factory.mktemp("wheel")
    source, folder, environment = root / "source", root / "work", root / "venv"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *offline, "--wheel-dir", str(root), str(source)], check=True)
    (wheel,) = root.glob("*.whl")
    venv.create(environment)
    site = environment / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    python = str(environment / "bin/python")
    subprocess.run([*pip, "--python", python, "install", *offline, "--ignore-installed", str(wheel)], check=True)

    (folder / "flows").mkdir(parents=True)
    (folder / "flows/__init__.py").write_text("raise ImportError('a foreign package was imported')\n")
    write_tiny_config(folder, review="wait")
    variables = clean_environment(folder / ".prefect") | {"OMP_NUM_THREADS": "1", "VIRTUAL_ENV": str(environment)}
    variables["PATH"] = f"{environment / 'bin'}:{os.environ['PATH']}"
    variables.pop("PYTHONPATH", None)
    yield Installation(environment / "bin", folder, variables)


@pytest.mark.flows
@pytest.mark.slow
def test_a_run_waits_is_decided_on_and_ends_without_a_checkout(installation: Installation) -> None:
    installation.run("ssl-pipeline", "run", "tiny.yaml", code=3)
    decided = installation.run("ssl-pipeline", "cycle", "resume", "runs/tiny", "--accept")
    config = installation.folder / "runs/tiny/config.yaml"
    assert "to resume, give the same command again, or: ssl-pipeline run runs/tiny/config.yaml" in decided
    assert config.is_file()
    ended = installation.run("ssl-pipeline", "run", "runs/tiny/config.yaml")
    assert "Teacher against student" in ended
    assert "Manifest: " in ended
    (told,) = (line.split(":", 1)[1] for line in ended.splitlines() if line.startswith("Predict:"))
    installation.run(*shlex.split(told.replace("FOLDER", "raw/home")))  # the faces that the run drew
    assert (installation.folder / "predictions.csv").read_text().startswith("image_path,gender,")
    module = ("python", "-m", "ssl_pipeline_flows.full_cycle", "--config")
    assert installation.run(*module, "tiny.yaml") == ended


@pytest.mark.flows
@pytest.mark.slow
def test_shipped_configs_are_found_without_a_checkout(installation: Installation) -> None:
    code = "from pathlib import Path; from ssl_pipeline.config.loading import load_config; import ssl_pipeline as s\n"
    code += "print(load_config(Path('demo')).run_name, load_config(Path('configs/recipes/vit_base.yaml')).run_name)\n"
    code += "print(s.__file__)"
    names, module = installation.run("python", "-c", code).splitlines()
    assert names.startswith("demo ")
    assert Path(module).is_relative_to(installation.bin.parent)


@pytest.mark.flows
@pytest.mark.slow
def test_a_deployment_of_any_folder_is_suspended_and_resumed(installation: Installation) -> None:
    deploy = ("python", "-m", "ssl_pipeline_flows.operations.deploy")
    installation.run(*deploy, "init")
    assert installation.run("python", "-c", LOAD_ENTRY_POINTS).split() == [
        "full-cycle",
        "build-masked-faces",
        "train-teacher",
        "pseudo-label",
        "train-student",
    ]
    try:
        port = free_port()
        installation.run(*deploy, "up", "--port", str(port))
        installation.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        parameters = json.dumps({"config_path": "tiny.yaml", "run_name": "deployed"})
        prefect = ("python", "-m", "prefect", "--no-prompt")
        installation.run(*prefect, "deployment", "run", "full-cycle/local", "--params", parameters)
        run = installation.folder / "runs/deployed"
        await_status(run, "waiting for review")
        decided = installation.run("ssl-pipeline", "cycle", "resume", "runs/deployed", "--reject")
        assert "continues as soon as a worker takes it" in decided
        await_status(run, "finished")
        assert json.loads((run / "summary.json").read_text())["status"] == "stopped by review"
    finally:
        installation.environment.pop("PREFECT_API_URL", None)
        installation.run(*deploy, "down")


def await_status(run: Path, status: str) -> None:
    deadline, file = time.monotonic() + 300, run / "run.json"
    while not file.is_file() or json.loads(file.read_text())["status"] != status:
        assert time.monotonic() < deadline, file.read_text() if file.is_file() else "the run never started"
        time.sleep(0.5)
