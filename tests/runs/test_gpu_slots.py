"""GPU slots: taken by a stage that works, not by one that is skipped."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ssl_pipeline.runs.gpu_slots import gpu_slots, provide_gpu_slots
from ssl_pipeline.runs.records import run_stage


class Limit:
    """Records slots that are taken and released."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def __call__(self, num_gpus: int) -> Iterator[None]:
        self.events.append(f"take {num_gpus}")
        try:
            yield
        finally:
            self.events.append(f"release {num_gpus}")


def stage(directory: Path, limit: Limit, *, fails: bool = False) -> bool:
    def work() -> dict[str, int]:
        limit.events.append("work")
        return {"x": 1 // (0 if fails else 1)}

    record = run_stage(directory, version=1, inputs={"fails": fails}, outputs=[], work=work, around=gpu_slots(2))
    return bool(record.skipped)


def test_a_stage_works_inside_its_slots_and_takes_none_when_it_is_finished(tmp_path: Path) -> None:
    limit = Limit()
    with provide_gpu_slots(limit):
        assert not stage(tmp_path, limit)
        assert limit.events == ["take 2", "work", "release 2"]
        assert stage(tmp_path, limit)
    assert limit.events == ["take 2", "work", "release 2"]


def test_a_stage_that_fails_releases_its_slots(tmp_path: Path) -> None:
    limit = Limit()
    with provide_gpu_slots(limit), pytest.raises(ZeroDivisionError):
        stage(tmp_path, limit, fails=True)
    assert limit.events == ["take 2", "work", "release 2"]


def test_without_a_provider_a_stage_does_not_wait(tmp_path: Path) -> None:
    limit = Limit()
    assert not stage(tmp_path, limit)
    assert limit.events == ["work"]
