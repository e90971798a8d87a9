"""Runs in a storage: whatever is there can be continued, and nothing incomplete looks complete."""

import json
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from ssl_pipeline.config.storage import StorageConfig
from ssl_pipeline.errors import RunError, StorageError
from ssl_pipeline.runs.files import write_text
from ssl_pipeline.runs.records import run_stage
from ssl_pipeline.runs.storage.lock import RemoteLock
from ssl_pipeline.runs.storage.mirror import mirror_run
from ssl_pipeline.runs.storage.remote import RemoteDirectory, local_copy
from ssl_pipeline.runs.storage.sync import SyncedRun
from ssl_pipeline.runs.uploads import request_upload


class Store:
    """Records the names of the files written to the storage, and fails for those in `failing`; `*` is all."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.failing: set[str] = set()


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store, move = Store(), LocalFileSystem.mv

    def watched_move(self: Any, source: str, target: str, **kwargs: Any) -> None:
        name = Path(target).name
        if {"*", name} & store.failing:
            raise ConnectionError("no route to host")
        move(self, source, target, **kwargs)
        store.written.append(name)

    monkeypatch.setattr(LocalFileSystem, "mv", watched_move)
    return store


def settings(directory: Path, **changed: Any) -> StorageConfig:
    return StorageConfig.model_validate({"url": f"file://{directory / 'store'}", "every_seconds": 60, **changed})


def stage(root: Path, *, text: str = "result", number: int = 2, name: str = "stage") -> bool:
    """Run a stage with a few outputs; returns whether it worked, i.e. did not skip itself."""
    directory = root / name

    def work() -> dict[str, Any]:
        for stale in directory.glob("part-*.txt"):
            stale.unlink()
        for index in range(number):
            write_text(directory / f"part-{index}.txt", f"{text} {index}")
        return {}

    outputs = [f"part-{index}.txt" for index in range(number)]
    return not run_stage(
        directory, version=1, inputs={"text": text, "number": number}, outputs=outputs, work=work
    ).skipped


def stored(directory: Path) -> dict[str, str]:
    """Files in the storage, name → text, as the next machine finds them."""
    root = directory / "store" / "run"
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def stored_names(directory: Path) -> set[str]:
    return set(stored(directory)) - {"storage.json", "lock.json"}


def test_a_stage_finished_on_one_machine_is_skipped_on_the_next(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with mirror_run(settings(tmp_path), here):
        assert stage(here)
    assert stored_names(tmp_path) == {"stage/part-0.txt", "stage/part-1.txt", "stage/done.json"}
    with mirror_run(settings(tmp_path), there):
        assert not stage(there)
    assert (there / "stage/done.json").read_bytes() == (here / "stage/done.json").read_bytes()


def test_a_stage_is_uploaded_when_it_ends_and_files_within_a_stage_after_a_pause(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with mirror_run(settings(tmp_path), root):
        stage(root)
        assert "stage/done.json" in stored_names(tmp_path)
        write_text(root / "a.txt", "a")
        request_upload()
        assert "a.txt" not in stored_names(tmp_path)
    with mirror_run(settings(tmp_path, every_seconds=1e-9), root):
        write_text(root / "b.txt", "b")
        request_upload()
        assert "b.txt" in stored_names(tmp_path)
    write_text(root / "c.txt", "c")
    request_upload(now=True)  # no run is open
    assert "c.txt" not in stored_names(tmp_path)


def test_states_and_records_are_written_after_the_files_that_they_rely_on(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "run"
    with mirror_run(None, root):
        stage(root)
    for name in ("best.safetensors", "last.pt", "zebra.csv"):
        write_text(root / "stage" / name, "x")
    with mirror_run(settings(tmp_path), root):
        pass
    order = [name for name in store.written if name not in ("storage.json", "lock.json")]
    assert order[-2:] == ["last.pt", "done.json"]
    assert set(order[:-2]) == {"part-0.txt", "part-1.txt", "best.safetensors", "zebra.csv"}


@pytest.mark.parametrize("fails_at", ["part-0.txt", "part-1.txt", "done.json"])
def test_an_interrupted_upload_leaves_no_record(tmp_path: Path, store: Store, fails_at: str) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with pytest.raises(StorageError), mirror_run(settings(tmp_path), here):
        store.failing = {fails_at}
        stage(here)
    store.failing = set()
    assert "stage/done.json" not in stored(tmp_path)
    assert not [name for name in stored(tmp_path) if name.endswith(".partial")]
    with mirror_run(settings(tmp_path), there):
        assert stage(there)


def test_a_stage_done_again_is_never_stored_under_its_old_record(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "run"
    with mirror_run(settings(tmp_path), root):
        stage(root, text="old", number=3)
    with pytest.raises(StorageError), mirror_run(settings(tmp_path), root):
        store.failing = {"part-1.txt"}
        stage(root, text="new", number=2)
    store.failing = set()
    assert stored(tmp_path)["stage/part-0.txt"] == "new 0"
    assert "stage/done.json" not in stored(tmp_path)
    with mirror_run(settings(tmp_path), root):
        assert not stage(root, text="new", number=2)
    assert stored_names(tmp_path) == {"stage/part-0.txt", "stage/part-1.txt", "stage/done.json"}  # no third part


def test_a_training_state_is_never_stored_with_an_older_best_checkpoint(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write_text(root / "best.safetensors", "epoch 0")
    write_text(root / "last.pt", "epoch 0")
    remote = RemoteDirectory.of_run(settings(tmp_path), "run")
    put = remote.put

    def put_while_training_continues(path: Path, name: str) -> None:
        put(path, name)
        assert len(list(root.rglob("last.pt"))) == 1  # the held copy has another name
        write_text(root / "best.safetensors", "epoch 1")
        write_text(root / "last.pt", "epoch 1")

    remote.put = put_while_training_continues  # type: ignore[method-assign]
    SyncedRun(remote, root, pixels=True).push()
    assert stored(tmp_path) == {"best.safetensors": "epoch 0", "last.pt": "epoch 0"}
    assert not list(root.rglob("*.partial"))


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_whenever_training_saves_the_stored_state_is_never_newer_than_the_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    root = tmp_path / "run"
    calls = []
    version_of = SyncedRun._version

    def version_while_training_continues(self: SyncedRun, name: str) -> Any:
        calls.append(name)
        version = version_of(self, name)
        if len(calls) == after:
            write_text(root / "best.safetensors", "epoch 1")
            write_text(root / "last.pt", "epoch 1")
        return version

    remote = RemoteDirectory.of_run(settings(tmp_path), "run")
    write_text(root / "best.safetensors", "epoch 0")
    write_text(root / "last.pt", "epoch 0")
    run = SyncedRun(remote, root, pixels=True)
    run.push()
    write_text(root / "last.pt", "epoch 0, half of 1")
    monkeypatch.setattr(SyncedRun, "_version", version_while_training_continues)
    run.push()
    assert len(calls) >= after
    files = stored(tmp_path)
    assert files["last.pt"] != "epoch 1" or files["best.safetensors"] == "epoch 1"
    run.push()
    assert stored(tmp_path) == {"best.safetensors": "epoch 1", "last.pt": "epoch 1"}


def test_shards_of_an_unfinished_stage_are_stored(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with pytest.raises(KeyboardInterrupt), mirror_run(settings(tmp_path), here):
        write_text(here / "stage/part-0.txt", "result 0")
        raise KeyboardInterrupt
    with mirror_run(settings(tmp_path), there):
        assert (there / "stage/part-0.txt").read_text() == "result 0"


def test_an_outage_fails_no_stage_and_the_next_upload_sends_what_is_pending(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "run"
    with mirror_run(settings(tmp_path), root):
        store.failing = {"*"}
        stage(root, name="first")
        assert "no route to host" in caplog.text and "the next upload tries again" in caplog.text
        assert stored_names(tmp_path) == set()
        store.failing = set()
        stage(root, name="second")
        assert {"first/done.json", "second/done.json"} <= stored_names(tmp_path)


def test_an_incomplete_upload_fails_the_run_at_its_end_and_names_the_files(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "run"
    message = r"no route to host(.|\n)*3 files of the run are on this machine only"
    with pytest.raises(StorageError, match=message) as error, mirror_run(settings(tmp_path), root):
        store.failing = {"*"}
        stage(root)
    pending = str(error.value).splitlines()[2:]
    assert sorted(name.strip() for name in pending) == ["stage/done.json", "stage/part-0.txt", "stage/part-1.txt"]
    store.failing = set()
    with mirror_run(settings(tmp_path), root):
        assert not stage(root)
    assert stored_names(tmp_path) == {name.strip() for name in pending}


def test_nothing_is_uploaded_twice(tmp_path: Path, store: Store) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with mirror_run(settings(tmp_path), here):
        stage(here)
    store.written.clear()
    for root in (here, there):
        with mirror_run(settings(tmp_path), root):
            stage(root)
    assert {name for name in store.written if name not in ("lock.json", "storage.json")} == set()


@pytest.mark.parametrize("damaged", ["part-0.txt", "part-1.txt"])
def test_a_damaged_output_is_detected_and_its_stage_done_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with mirror_run(settings(tmp_path), here):
        stage(here)
        write_text(here / "stage/last.pt", "last epoch")
    content = stored(tmp_path)[f"stage/{damaged}"]
    (tmp_path / "store/run/stage" / damaged).write_text("bit rot")
    with mirror_run(settings(tmp_path), there):
        assert not (there / "stage/last.pt").exists()  # a training would take its best checkpoint for undamaged
        assert stage(there)
    assert f"its record does not fit {damaged}; the stage is done again" in caplog.text
    assert stored(tmp_path)[f"stage/{damaged}"] == content
    assert "stage/done.json" in stored(tmp_path)


def test_an_output_that_is_missing_here_is_fetched(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    for root in (here, there):
        with mirror_run(settings(tmp_path), root):
            stage(root)
    (here / "stage/part-0.txt").unlink()
    with mirror_run(settings(tmp_path), here):
        assert not stage(here)


def test_a_machine_that_comes_back_fetches_what_another_did_meanwhile(tmp_path: Path) -> None:
    first, second = tmp_path / "first" / "run", tmp_path / "second" / "run"
    with mirror_run(settings(tmp_path), first):
        write_text(first / "stage/last.pt", "epoch 1")
    write_text(first / "stage/last.pt", "epoch 2, never uploaded")
    with mirror_run(settings(tmp_path), second):
        write_text(second / "stage/last.pt", "epoch 3")
    with mirror_run(settings(tmp_path), first):
        assert (first / "stage/last.pt").read_text() == "epoch 3"
        write_text(first / "stage/last.pt", "epoch 4")
    write_text(first / "stage/last.pt", "epoch 5")
    with mirror_run(settings(tmp_path), first):  # the last one that worked in the run, so nothing newer is stored
        assert (first / "stage/last.pt").read_text() == "epoch 5"
    assert stored(tmp_path)["stage/last.pt"] == "epoch 5"


def test_a_fetch_that_was_interrupted_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with mirror_run(settings(tmp_path), here):
        stage(here)
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(LocalFileSystem, "get_file", lambda *_, **__: 1 / 0)
        with mirror_run(settings(tmp_path), there):
            raise AssertionError("no run without its files")
    with mirror_run(settings(tmp_path), there):
        assert not stage(there)


def test_without_the_pixels_the_faces_have_no_record_in_the_storage(tmp_path: Path) -> None:
    root = tmp_path / "run"

    def work() -> dict[str, Any]:
        for name in ("labeled.parquet", "pixels.npy"):
            write_text(root / "faces" / name, name)
        return {}

    with mirror_run(settings(tmp_path, pixels=False), root):
        run_stage(root / "faces", version=1, inputs={}, outputs=["labeled.parquet", "pixels.npy"], work=work)
    assert stored_names(tmp_path) == {"faces/labeled.parquet"}
    with mirror_run(settings(tmp_path), root):
        pass
    assert stored_names(tmp_path) == {"faces/labeled.parquet", "faces/pixels.npy", "faces/done.json"}


@pytest.mark.parametrize(
    "name", ["../outside.txt", "a/../../outside.txt", "/etc/outside.txt", "a\\..\\outside.txt", ""]
)
def test_a_name_that_leads_out_of_the_run_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="would lead out of the run's folder"):
        RemoteDirectory(f"file://{tmp_path}/store").get(name, tmp_path / "run" / "file")


def test_a_stored_name_that_leads_out_stops_the_run_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "there" / "run"
    with mirror_run(settings(tmp_path), tmp_path / "here" / "run"):
        stage(tmp_path / "here" / "run")
    find = LocalFileSystem.find

    def find_outside(self: Any, path: str, **kwargs: Any) -> dict[str, Any]:
        return {**find(self, path, **kwargs), f"{path}/../outside.txt": {"size": 1}}

    monkeypatch.setattr(LocalFileSystem, "find", find_outside)
    with pytest.raises(RunError, match=r"'\.\./outside\.txt'"), mirror_run(settings(tmp_path), root):
        pass
    assert [path.name for path in root.iterdir()] == ["storage.json"]


def test_the_folder_itself_is_not_listed_as_a_file_but_a_file_without_a_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, kind = RemoteDirectory(f"file://{tmp_path}/store"), "directory"

    def find_itself(self: Any, path: str, **kwargs: Any) -> dict[str, Any]:
        """Answer as s3fs does if the first file appears during the listing."""
        return {path: {"name": path, "size": 0, "type": kind}}

    monkeypatch.setattr(LocalFileSystem, "find", find_itself)
    assert remote.sizes() == {}
    kind = "file"
    with pytest.raises(RunError, match="would lead out"):
        remote.sizes()


def test_a_record_whose_outputs_lie_outside_is_refused(tmp_path: Path) -> None:
    with mirror_run(settings(tmp_path), tmp_path / "here" / "run"):
        stage(tmp_path / "here" / "run")
    record = tmp_path / "store/run/stage/done.json"
    record.write_text(json.dumps({"inputs": {}, "outputs": {"../../../secret": "00"}}))
    with pytest.raises(RunError, match="would lead out"), mirror_run(settings(tmp_path), tmp_path / "there" / "run"):
        pass


def test_one_machine_at_a_time(tmp_path: Path) -> None:
    other = RemoteDirectory.of_run(settings(tmp_path), "run")
    lock = RemoteLock(other, "another directory", seconds=30)
    lock.acquire()
    message = r"process \d+ on \S+ is working in this run since"
    with pytest.raises(RunError, match=message), mirror_run(settings(tmp_path), tmp_path / "run"):
        pass
    lock.release()
    with mirror_run(settings(tmp_path), tmp_path / "run"):
        assert other.read_json("lock.json") is not None
    assert other.read_json("lock.json") is None


def test_a_stale_lock_and_one_of_this_directory_are_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remote, root = RemoteDirectory.of_run(settings(tmp_path), "run"), tmp_path / "run"
    stale = {"owner": "other", "host": "gone", "process": 1, "since": "x", "renewed": "2020-01-01T00:00:00+00:00"}
    remote.write_json("lock.json", stale)
    with mirror_run(settings(tmp_path), root):
        pass
    assert "process 1 on gone" in caplog.text and "its lock is taken over" in caplog.text
    owner = json.loads((root / "storage.json").read_text())["owner"]
    remote.write_json("lock.json", {**stale, "owner": owner, "renewed": "2999-01-01T00:00:00+00:00"})
    with mirror_run(settings(tmp_path), root):
        pass


def test_each_upload_renews_the_lock(tmp_path: Path) -> None:
    remote, root = RemoteDirectory.of_run(settings(tmp_path), "run"), tmp_path / "run"
    with mirror_run(settings(tmp_path), root):
        lock = remote.read_json("lock.json")
        assert lock is not None
        remote.write_json("lock.json", {**lock, "renewed": "2020-01-01T00:00:00+00:00"})
        stage(root)
        renewed = remote.read_json("lock.json")
        assert renewed is not None and renewed["renewed"] >= lock["renewed"]


def test_a_machine_whose_lock_was_taken_over_uploads_no_more_and_fails_at_its_end(tmp_path: Path) -> None:
    root = tmp_path / "run"
    remote = RemoteDirectory.of_run(settings(tmp_path), "run")
    thief = {
        "owner": "thief",
        "host": "elsewhere",
        "process": 7,
        "since": "now",
        "renewed": "2999-01-01T00:00:00+00:00",
    }
    run = mirror_run(settings(tmp_path), root)
    with pytest.raises(RunError, match=r"process 7 on elsewhere(.|\n)*uploads no more"), run:
        remote.write_json("lock.json", thief)
        assert stage(root)
    assert stored_names(tmp_path) == set()
    assert remote.read_json("lock.json") == thief


def test_a_storage_that_cannot_be_reached_is_refused_at_the_start(tmp_path: Path, store: Store) -> None:
    store.failing = {"*"}
    run = mirror_run(settings(tmp_path), tmp_path / "run")
    with pytest.raises(StorageError, match=r"file://.*/run.*no route to host"), run:
        raise AssertionError("no run without its storage")


def test_memory_is_a_storage_too(tmp_path: Path) -> None:
    config = StorageConfig(url="memory://bucket/runs")
    for directory in ("here", "there"):
        root = tmp_path / directory / "run"
        with mirror_run(config, root):
            assert stage(root) == (directory == "here")
    copy = local_copy("memory://bucket/runs/run/stage/part-0.txt")
    assert (copy.name, copy.read_text()) == ("part-0.txt", "result 0")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"url": "bucket/runs"}, "expected protocol://path, e.g. s3://bucket/runs, got 'bucket/runs'"),
        ({"url": "s4://bucket"}, "expected a protocol of fsspec, e.g. s3, gs, az, sftp or file, got 's4'"),
        ({"url": "s3://me:hush@bucket/runs"}, "expected a path without '@'"),
        ({"url": "s3://bucket/runs?token=hush"}, "expected a path without '@' and '\\?'"),
        ({"url": "s3://bucket/../runs"}, r"without '\.\.'"),
        ({"options": {"secret": "hush"}}, r"options\.secret: looks like a secret; a config holds no secrets"),
        ({"options": {"key": "hush"}}, r"options\.key: looks like a secret"),
        ({"options": {"client_kwargs": {"aws_secret_access_key": "hush"}}}, r"options\.client_kwargs\.aws_secret_acc"),
        ({"options": {"sessionToken": "hush"}}, r"options\.sessionToken"),
        ({"options": {"SASToken": "hush"}}, r"options\.SASToken"),
        ({"retry_seconds": 60}, "retry_seconds: removed, since the next upload tries again; delete this key"),
    ],
)
def test_an_unusable_url_a_secret_and_a_removed_key_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        StorageConfig.model_validate({"url": "s3://bucket/runs", **changed})
    assert "hush" not in str(error.value.errors()[0]["msg"])  # type: ignore[attr-defined]


def test_options_that_are_no_secrets_are_accepted() -> None:
    options = {
        "endpoint_url": "http://host:9000",
        "anon": False,
        "client_kwargs": {"region_name": "eu"},
        "profile": "me",
    }
    assert StorageConfig(url="s3://bucket/runs", options=options).options == options
