"""Which flow runs count as dead, by the note beside a run's lock."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Running

from flows.operations import stuck
from ssl_pipeline.runs.directory import RunDir
from tests.cycle_config import write_tiny_config

pytestmark = pytest.mark.flows


def flow_run(config: Path, identity: UUID) -> FlowRun:
    """A flow run that has been Running for a minute."""
    state = Running(timestamp=datetime.now(UTC) - timedelta(minutes=1))
    return FlowRun(id=identity, flow_id=uuid4(), parameters={"config_path": str(config)}, state=state)


def test_a_flow_run_is_dead_only_if_its_own_process_held_the_run_and_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, cycle, masks = write_tiny_config(tmp_path), uuid4(), uuid4()
    with RunDir(tmp_path / "runs/tiny").lock(str(cycle)):
        pass
    assert stuck.diagnose(flow_run(config, cycle)).is_dead is False
    monkeypatch.setattr(stuck, "is_alive", lambda pid: False)
    assert stuck.diagnose(flow_run(config, cycle)).is_dead is True
    # build-masked-faces of the same config takes no lock and may well be alive; so may another run that waits for it
    assert stuck.diagnose(flow_run(config, masks)).is_dead is None
