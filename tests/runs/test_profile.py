"""Where a stage's time goes: parts count for themselves alone, and nothing is measured unless asked."""

from pathlib import Path

import pytest

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs import profile as module
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import read_json
from ssl_pipeline.runs.profile import part_of_stage, profiling, shares_in_words, stage_profile
from ssl_pipeline.runs.records import StageRecord, run_stage
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.report import _profiles
from ssl_pipeline.stages.teachers import train_teacher
from tests.cycle_config import label_the_pool, write_tiny_config


class Clock:
    """Seconds that a test lets pass."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_a_part_inside_another_counts_for_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    with profiling(True), stage_profile() as profile:
        clock.wait(1)
        with part_of_stage("write"):
            clock.wait(2)
            with part_of_stage("decode"):
                clock.wait(4)
            clock.wait(8)
        with pytest.raises(ValueError, match="x"), part_of_stage("compute"):
            clock.wait(16)
            raise ValueError("x")
        clock.wait(32)
    assert profile is not None
    assert profile.seconds() == {"other": 33.0, "compute": 16.0, "write": 10.0, "decode": 4.0}
    assert shares_in_words(profile.seconds()) == "other 52 %, compute 25 %, write 16 %, decode 6 %"


def test_a_stage_inside_another_has_a_profile_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    with profiling(True), stage_profile() as outer, part_of_stage("compute"):
        clock.wait(1)
        with stage_profile() as inner, part_of_stage("write"):
            clock.wait(2)
    assert inner is not None and inner.seconds() == {"write": 2.0, "other": 0.0}
    assert outer is not None and outer.seconds()["compute"] == 3.0  # it took that long, whatever it did


def test_nothing_is_measured_unless_asked(tmp_path: Path) -> None:
    with stage_profile() as profile, part_of_stage("compute"):
        assert profile is None
    record = run_stage(tmp_path, version=1, inputs={}, outputs=[], work=dict)
    assert record.profile == {} and "profile" not in read_json(tmp_path / "done.json")


def test_the_stages_of_a_run_say_where_their_time_went(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(write_tiny_config(tmp_path), overrides=["profile=true", "student.training.fixmatch={}"])
    with caplog.at_level("INFO"), open_run(config) as run:
        label_the_pool(config, run)
    for directory, part in ((run.faces, "decode"), (run.teacher, "compute"), (run.teacher, "augment")):
        record = StageRecord.read(directory)
        assert record.profile[part] > 0
        assert sum(record.profile.values()) == pytest.approx(record.seconds, abs=0.1)
    predictions = StageRecord.read(run.pseudo_labels(1) / "predictions").profile
    assert predictions["compute"] > 0 and predictions["write"] >= 0
    assert f"round-00/teacher: done in {StageRecord.read(run.teacher).seconds:.1f} s: " in caplog.text
    rows = _profiles(run)
    assert [row["stage"] for row in rows].index("faces") < [row["stage"] for row in rows].index("round-00/teacher")
    assert train_teacher(config.model_copy(update={"profile": False}), RunDir(run.root)).skipped
