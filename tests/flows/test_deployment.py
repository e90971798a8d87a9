"""A real server, a real worker, `prefect deployment run --watch`: exit codes and what the run leaves."""

from pathlib import Path

import pytest

from tests.cycle_config import write_tiny_config
from tests.flows.conftest import Operator

pytestmark = pytest.mark.flows


def test_every_flow_has_a_deployment(operator: Operator) -> None:
    listed = operator.run("deployment", "ls").stdout
    for flow in ("full-cycle", "build-masked-faces", "train-teacher", "pseudo-label", "train-student"):
        assert f"{flow}/local" in listed.replace("\n", "")


def test_a_deployment_run_does_the_full_cycle(operator: Operator, tmp_path: Path, raw: Path) -> None:
    config = write_tiny_config(tmp_path, root=raw)
    result = operator.run("deployment", "run", "full-cycle/local", "--watch", "-p", f"config_path={config}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "runs/tiny/summary.json").is_file()
    assert (tmp_path / "runs/tiny/round-01/pseudo_labels/manifest.parquet").is_file()


def test_a_deployment_run_that_fails_exits_non_zero(operator: Operator, tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    result = operator.run("deployment", "run", "full-cycle/local", "--watch", "-p", f"config_path={absent}")
    assert result.returncode != 0
