"""Run directories: atomic writes, the lock, and stages that are skipped while nothing has changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_pipeline.errors import RunError
from ssl_pipeline.runs import records as runs
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import atomic_path, digest_of, read_json, write_text
from ssl_pipeline.runs.records import finished_stage, run_stage


class Stage:
    """A stage that writes one file and counts how often it worked."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.times, self.version = directory, 0, 1

    def __call__(self, **inputs: object) -> dict:
        def work() -> dict:
            self.times += 1
            write_text(self.directory / "out.txt", "result")
            return {"answer": 42}

        return run_stage(self.directory, version=self.version, inputs=inputs, outputs=["out.txt"], work=work)


def test_a_finished_stage_is_skipped_and_returns_the_same_result(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    first, second = stage(a=1), stage(a=1)
    assert stage.times == 1
    assert (first.skipped, second.skipped) == (False, True)
    assert first.result == second.result == {"answer": 42}


def test_a_stage_works_again_if_inputs_or_outputs_changed(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage(a=1)
    stage(a=2)
    assert stage.times == 2
    (tmp_path / "out.txt").unlink()
    stage(a=2)
    assert stage.times == 3
    (tmp_path / "done.json").write_text("{ cut short")
    stage(a=2)
    assert stage.times == 4
    (tmp_path / "done.json").write_text('{"inputs": {}}')  # of another format
    stage(a=2)
    assert stage.times == 5
    stage.version = 2  # the code computes other results now
    stage(a=2)
    assert stage.times == 6


@pytest.mark.parametrize("inputs", [{"a": 1}, {"a": 2}])
def test_a_stage_never_overwrites_an_output_that_somebody_edited(tmp_path: Path, inputs: dict) -> None:
    stage = Stage(tmp_path)
    stage(a=1)
    (tmp_path / "out.txt").write_text("edited")
    with pytest.raises(
        RunError, match=r"out\.txt: changed since the stage finished, and would be overwritten; to keep your"
    ):
        stage(**inputs)
    assert ((tmp_path / "out.txt").read_text(), stage.times) == ("edited", 1)
    (tmp_path / "out.txt").unlink()
    stage(**inputs)
    assert ((tmp_path / "out.txt").read_text(), stage.times) == ("result", 2)


def test_a_stage_reads_only_what_a_finished_stage_left(tmp_path: Path) -> None:
    def read(**inputs: object) -> object:
        return finished_stage(tmp_path, inputs=inputs, cure="do it first").result["answer"]

    with pytest.raises(RunError, match="this stage has not finished; do it first"):
        read()
    stage, output = Stage(tmp_path), tmp_path / "out.txt"
    stage(a={"b": 1, "c": 2}, d=3)
    assert read() == read(d=3) == read(a={"b": 1, "c": 2}) == 42
    with pytest.raises(RunError, match=r"made with other settings \(a\.c\); do it first"):
        read(a={"b": 1, "c": 4}, d=3)
    output.write_text("edited")
    with pytest.raises(RunError, match=r"out\.txt: changed since the stage finished; .*; do it first"):
        read()
    output.unlink()
    with pytest.raises(RunError, match=r"out\.txt: removed since the stage finished; do it first"):
        read()
    for content in ("{}", '{"inputs": {}, "outputs": {}}', "[]", "{"):
        (tmp_path / "done.json").write_text(content)
        with pytest.raises(RunError):
            read()


def test_a_stage_that_fails_leaves_no_record(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage(a=1)
    with pytest.raises(ZeroDivisionError):
        run_stage(tmp_path, version=1, inputs={"a": 2}, outputs=["out.txt"], work=lambda: {"x": 1 / 0})
    assert not (tmp_path / "done.json").exists()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_one_process_at_a_time_works_in_a_run(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ssl_pipeline.runs.directory import RunDir\n"
        "with RunDir(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"process {other.pid} is working in this run"), RunDir(tmp_path).lock():
        pass
    other.kill()
    other.wait()
    with RunDir(tmp_path).lock():
        pass


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": Path("x")}) == digest_of({"b": "x", "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "expected a JSON object, got list")])
def test_an_invalid_record_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RunError, match=message):
        read_json(tmp_path / "x.json")


def test_outputs_are_not_read_again_while_their_size_and_modification_time_are_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, read = Stage(tmp_path), []
    stage(a=1)
    digest = runs.digest_file
    monkeypatch.setattr(runs, "digest_file", lambda path: read.append(path.name) or digest(path))
    stage(a=1)
    assert read == []
    os.utime(tmp_path / "out.txt", ns=(0, 0))  # e.g. after a copy: the content decides
    stage(a=1)
    assert (read, stage.times) == (["out.txt"], 1)


def test_old_partial_files_are_removed_and_new_ones_are_kept(
    tmp_path: Path,
) -> None:
    left, fresh = tmp_path / "faces/.pixels.npy.123.partial", tmp_path / ".a.txt.124.partial"
    left.parent.mkdir()
    left.touch()
    fresh.touch()
    os.utime(left, (0, 0))
    with RunDir(tmp_path).lock():
        assert not left.exists()
        assert fresh.exists()
