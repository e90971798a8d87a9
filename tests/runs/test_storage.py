"""Runs in a storage: what is there at every moment can be gone on from, and nothing that looks whole is not."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from ssl_pipeline.config.storage import StorageConfig
from ssl_pipeline.errors import RunError, StorageError
from ssl_pipeline.runs.files import write_text
from ssl_pipeline.runs.records import run_stage
from ssl_pipeline.runs.storage import files, push
from ssl_pipeline.runs.storage.files import Journal
from ssl_pipeline.runs.storage.lock import RemoteLock
from ssl_pipeline.runs.storage.mirror import mirror_run
from ssl_pipeline.runs.storage.push import Pusher
from ssl_pipeline.runs.storage.remote import RemoteDirectory, local_copy


class Store:
    """A folder that lists what was written to it, and fails where it is told to."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.failing: set[str] = set()


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store, move, create = Store(), LocalFileSystem.mv, LocalFileSystem.pipe_file

    def watched(action: Any) -> Any:
        def act(self: Any, *paths: Any, **kwargs: Any) -> None:
            name = Path(paths[1] if action is move else paths[0]).name
            if {"*", name} & store.failing:
                raise ConnectionError("no route to host")
            action(self, *paths, **kwargs)
            store.written.append(name)

        return act

    monkeypatch.setattr(LocalFileSystem, "mv", watched(move))
    monkeypatch.setattr(LocalFileSystem, "pipe_file", watched(create))
    return store


def settings(directory: Path, **changed: Any) -> StorageConfig:
    values = {"url": f"file://{directory / 'store'}", "every_seconds": 60, "retry_seconds": 0, **changed}
    return StorageConfig.model_validate(values)


def stage(root: Path, *, text: str = "result", number: int = 2, name: str = "stage") -> bool:
    """Do a stage of a few outputs; tell whether it worked."""
    directory = root / name

    def work() -> dict[str, Any]:
        for stale in directory.glob("part-*.txt"):
            stale.unlink()
        for index in range(number):
            write_text(directory / f"part-{index}.txt", f"{text} {index}")
        return {}

    outputs = [f"part-{index}.txt" for index in range(number)]
    return not run_stage(directory, inputs={"text": text, "number": number}, outputs=outputs, work=work).skipped


def stored(directory: Path) -> dict[str, str]:
    """What a machine that comes next finds."""
    root = directory / "store" / "run"
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def names_in(directory: Path) -> set[str]:
    return set(stored(directory)) - {"storage.json"}


def test_a_stage_done_on_one_machine_skips_itself_on_the_next(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with mirror_run(settings(tmp_path), here):
        assert stage(here)
    assert names_in(tmp_path) == {"stage/part-0.txt", "stage/part-1.txt", "stage/done.json"}
    with mirror_run(settings(tmp_path), there):
        assert not stage(there)
    assert (there / "stage/done.json").read_bytes() == (here / "stage/done.json").read_bytes()


def test_what_counts_on_others_is_written_after_them(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "run"
    with mirror_run(settings(tmp_path), root):
        stage(root)
        for name in ("best.safetensors", "last.pt", "zebra.csv"):
            write_text(root / "stage" / name, "x")
    order = [name for name in store.written if name not in ("storage.json", "lock.json") and not name.startswith(".")]
    assert order[-2:] == ["last.pt", "done.json"]
    assert set(order[:-2]) == {"part-0.txt", "part-1.txt", "best.safetensors", "zebra.csv"}


@pytest.mark.parametrize("fails_at", ["part-0.txt", "part-1.txt", "done.json"])
def test_an_upload_that_breaks_off_leaves_no_record(tmp_path: Path, store: Store, fails_at: str) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with pytest.raises(StorageError), mirror_run(settings(tmp_path), here):
        stage(here)
        store.failing = {fails_at}
    store.failing = set()
    assert "stage/done.json" not in stored(tmp_path)
    assert not [name for name in stored(tmp_path) if name.endswith(".partial")]
    with mirror_run(settings(tmp_path), there):
        assert stage(there)


def test_a_stage_done_anew_is_never_stored_under_its_old_record(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "run"
    with mirror_run(settings(tmp_path), root):
        stage(root, text="old", number=3)
    with pytest.raises(StorageError), mirror_run(settings(tmp_path), root):
        stage(root, text="new", number=2)
        store.failing = {"part-1.txt"}
    store.failing = set()
    assert stored(tmp_path)["stage/part-0.txt"] == "new 0"
    assert "stage/done.json" not in stored(tmp_path)
    with mirror_run(settings(tmp_path), root):
        assert not stage(root, text="new", number=2)
    assert names_in(tmp_path) == {"stage/part-0.txt", "stage/part-1.txt", "stage/done.json"}  # the third is gone


def test_a_training_state_is_never_stored_beside_an_older_best_checkpoint(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write_text(root / "best.safetensors", "epoch 0")
    write_text(root / "last.pt", "epoch 0")
    remote = RemoteDirectory.of_run(settings(tmp_path), "run")
    put = remote.put

    def put_while_training_goes_on(path: Path, name: str) -> None:
        put(path, name)
        assert len(list(root.rglob("last.pt"))) == 1  # none else is to be found by its name
        write_text(root / "best.safetensors", "epoch 1")
        write_text(root / "last.pt", "epoch 1")

    remote.put = put_while_training_goes_on  # type: ignore[method-assign]
    Pusher(remote, root, Journal(remote.url), pixels=True).push()
    assert stored(tmp_path) == {"best.safetensors": "epoch 0", "last.pt": "epoch 0"}


def test_outputs_that_are_not_their_records_are_never_stored_under_it(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with mirror_run(settings(tmp_path), root):
        stage(root)
        write_text(root / "stage/part-1.txt", "of a stage that is at work again")
    assert names_in(tmp_path) == {"stage/part-0.txt", "stage/part-1.txt"}
    with mirror_run(settings(tmp_path), root):
        assert stage(root)
    assert names_in(tmp_path) == {"stage/part-0.txt", "stage/part-1.txt", "stage/done.json"}


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
def test_whenever_a_training_saves_its_state_is_never_held_newer_than_its_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    root = tmp_path / "run"
    looked = []

    def look_while_training_goes_on(path: Path) -> Any:
        looked.append(path)
        seen = files.signature(path)
        if len(looked) == after:
            write_text(root / "best.safetensors", "epoch 1")
            write_text(root / "last.pt", "epoch 1")
        return seen

    remote = RemoteDirectory.of_run(settings(tmp_path), "run")
    write_text(root / "best.safetensors", "epoch 0")
    write_text(root / "last.pt", "epoch 0")
    pusher = Pusher(remote, root, Journal(remote.url), pixels=True)
    pusher.push()
    write_text(root / "last.pt", "epoch 0, half of 1")
    monkeypatch.setattr(push, "signature", look_while_training_goes_on)
    pusher.push()
    kept = stored(tmp_path)
    assert kept["last.pt"] != "epoch 1" or kept["best.safetensors"] == "epoch 1"


def test_shards_of_an_unfinished_stage_are_stored_as_they_come(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with pytest.raises(KeyboardInterrupt), mirror_run(settings(tmp_path), here):
        write_text(here / "stage/part-0.txt", "result 0")
        raise KeyboardInterrupt
    with mirror_run(settings(tmp_path), there):
        assert (there / "stage/part-0.txt").read_text() == "result 0"


def test_an_outage_ends_no_run_and_what_is_pending_is_uploaded_later(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "run"
    with mirror_run(settings(tmp_path, every_seconds=0.02), root):
        store.failing = {"*"}
        write_text(root / "a.txt", "a")
        wait_for(lambda: "the run goes on here" in caplog.text)
        assert "a.txt" not in stored(tmp_path)
        store.failing = set()
        wait_for(lambda: "a.txt" in stored(tmp_path))
        wait_for(lambda: "reached again" in caplog.text)
    assert json.loads((root / "storage.json").read_text())["complete"]


def test_what_never_got_there_is_told_loudly_and_recorded(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "run"
    told = r"no route to host(.|\n)*3 files of the run are on this machine alone"
    with pytest.raises(StorageError, match=told), mirror_run(settings(tmp_path), root):
        store.failing = {"*"}
        stage(root)
    record = json.loads((root / "storage.json").read_text())
    assert not record["complete"]
    assert record["pending"] == ["stage/done.json", "stage/part-0.txt", "stage/part-1.txt"]
    store.failing = set()
    with mirror_run(settings(tmp_path), root):
        assert not stage(root)
    assert names_in(tmp_path) == set(record["pending"])


def test_nothing_is_uploaded_twice(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "run"
    with mirror_run(settings(tmp_path), root):
        stage(root)
    store.written.clear()
    with mirror_run(settings(tmp_path), root):
        stage(root)
    assert [name for name in store.written if name != "lock.json"] == []


def test_an_output_that_is_not_its_records_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here, there = tmp_path / "here" / "run", tmp_path / "there" / "run"
    with mirror_run(settings(tmp_path), here):
        stage(here)
    (tmp_path / "store/run/stage/part-1.txt").write_text("bit rot")
    with mirror_run(settings(tmp_path), there):
        assert stage(there)
    assert "its record does not fit part-1.txt; the stage is done again" in caplog.text
    assert stored(tmp_path)["stage/part-1.txt"] == "result 1"
    assert "stage/done.json" in stored(tmp_path)


def test_a_machine_that_comes_back_takes_what_another_did_meanwhile(tmp_path: Path) -> None:
    first, second = tmp_path / "first" / "run", tmp_path / "second" / "run"
    with mirror_run(settings(tmp_path), first):
        write_text(first / "stage/last.pt", "epoch 1")
    write_text(first / "stage/last.pt", "epoch 2, never uploaded")
    with mirror_run(settings(tmp_path), second):
        write_text(second / "stage/last.pt", "epoch 3")
    with mirror_run(settings(tmp_path), first):
        assert (first / "stage/last.pt").read_text() == "epoch 3"
        write_text(first / "stage/last.pt", "epoch 4")
    with mirror_run(settings(tmp_path), first):  # the last to work in the run: what is here is ahead
        assert (first / "stage/last.pt").read_text() == "epoch 4"


def test_without_the_pixels_the_faces_have_no_record_in_the_storage(tmp_path: Path) -> None:
    root = tmp_path / "run"

    def work() -> dict[str, Any]:
        for name in ("labeled.parquet", "pixels.npy"):
            write_text(root / "faces" / name, name)
        return {}

    with mirror_run(settings(tmp_path, pixels=False), root):
        run_stage(root / "faces", inputs={}, outputs=["labeled.parquet", "pixels.npy"], work=work)
    assert names_in(tmp_path) == {"faces/labeled.parquet"}
    with mirror_run(settings(tmp_path), root):
        pass
    assert names_in(tmp_path) == {"faces/labeled.parquet", "faces/pixels.npy", "faces/done.json"}


@pytest.mark.parametrize(
    "name", ["../outside.txt", "a/../../outside.txt", "/etc/outside.txt", "a\\..\\outside.txt", ""]
)
def test_a_name_that_leads_out_of_the_run_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="would lead out of the run's folder"):
        RemoteDirectory(f"file://{tmp_path}/store").fetch(name, tmp_path / "run")


def test_a_stored_name_that_leads_out_stops_the_run_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "there" / "run"
    with mirror_run(settings(tmp_path), tmp_path / "here" / "run"):
        stage(tmp_path / "here" / "run")
    find = LocalFileSystem.find

    def with_a_strange_name(self: Any, path: str, **kwargs: Any) -> dict[str, Any]:
        return {**find(self, path, **kwargs), f"{path}/../outside.txt": {"size": 1}}

    monkeypatch.setattr(LocalFileSystem, "find", with_a_strange_name)
    with pytest.raises(RunError, match=r"'\.\./outside\.txt'"), mirror_run(settings(tmp_path), root):
        pass
    assert [path.name for path in root.iterdir()] == ["storage.json"]


def test_the_folder_itself_is_no_file_in_it_but_a_file_without_a_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, kind = RemoteDirectory(f"file://{tmp_path}/store"), "directory"

    def itself(self: Any, path: str, **kwargs: Any) -> dict[str, Any]:
        """As s3fs answers where the first file came between its two questions."""
        return {path: {"name": path, "size": 0, "type": kind}}

    monkeypatch.setattr(LocalFileSystem, "find", itself)
    assert remote.names() == {}
    kind = "file"
    with pytest.raises(RunError, match="would lead out"):
        remote.names()


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
    told = r"process \d+ on \S+ is working in this run since"
    with pytest.raises(RunError, match=told), mirror_run(settings(tmp_path), tmp_path / "run"):
        pass
    lock.release()
    with mirror_run(settings(tmp_path), tmp_path / "run"):
        assert other.read_json("lock.json") is not None
    assert other.read_json("lock.json") is None


def test_a_silent_machine_and_an_ended_process_of_this_directory_are_taken_for_dead(tmp_path: Path) -> None:
    remote, root = RemoteDirectory.of_run(settings(tmp_path), "run"), tmp_path / "run"
    long_ago = {
        "owner": "another",
        "host": "gone",
        "process": 1,
        "since": "x",
        "heartbeat": "2020-01-01T00:00:00+00:00",
    }
    remote.write_json("lock.json", long_ago)
    with mirror_run(settings(tmp_path), root):
        pass
    owner = json.loads((root / "storage.json").read_text())["owner"]
    remote.write_json("lock.json", {**long_ago, "owner": owner, "heartbeat": "2999-01-01T00:00:00+00:00"})
    with mirror_run(settings(tmp_path), root):
        pass


def test_a_machine_whose_lock_was_taken_uploads_no_more_and_says_so(tmp_path: Path) -> None:
    root = tmp_path / "run"
    remote = RemoteDirectory.of_run(settings(tmp_path), "run")
    thief = {
        "owner": "thief",
        "host": "elsewhere",
        "process": 7,
        "since": "now",
        "heartbeat": "2999-01-01T00:00:00+00:00",
    }
    taken = mirror_run(settings(tmp_path, lock_seconds=1), root)
    with pytest.raises(RunError, match=r"process 7 on elsewhere(.|\n)*uploads no more"), taken:
        remote.write_json("lock.json", thief)
        time.sleep(0.6)  # a heartbeat
        write_text(root / "a.txt", "a")
    assert "a.txt" not in stored(tmp_path)
    assert remote.read_json("lock.json") == thief


def test_a_storage_out_of_reach_is_told_at_once(tmp_path: Path, store: Store) -> None:
    store.failing = {"*"}
    kept = mirror_run(settings(tmp_path), tmp_path / "run")
    with pytest.raises(StorageError, match=r"file://.*/run.*no route to host"), kept:
        raise AssertionError("no run without its storage")


def test_memory_is_a_storage_too(tmp_path: Path) -> None:
    config = StorageConfig(url="memory://bucket/runs", every_seconds=0.02)
    for directory in ("here", "there"):
        root = tmp_path / directory / "run"
        with mirror_run(config, root):
            assert stage(root) == (directory == "here")
    copy = local_copy("memory://bucket/runs/run/stage/part-0.txt")
    assert (copy.name, copy.read_text()) == ("part-0.txt", "result 0")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"url": "bucket/runs"}, "expected protocol://location, e.g. s3://bucket/runs, got 'bucket/runs'"),
        ({"url": "s4://bucket"}, "unknown protocol 's4'"),
        ({"url": "s3://me:hush@bucket/runs"}, "contains credentials or a query"),
        ({"url": "s3://bucket/runs?token=hush"}, "contains credentials or a query"),
        ({"url": "s3://bucket/../runs"}, r"without '\.\.'"),
        ({"options": {"secret": "hush"}}, r"options\.secret: looks like a secret; a config must not contain secrets"),
        ({"options": {"key": "hush"}}, r"options\.key: looks like a secret"),
        ({"options": {"client_kwargs": {"aws_secret_access_key": "hush"}}}, r"options\.client_kwargs\.aws_secret_acc"),
        ({"options": {"sessionToken": "hush"}}, r"options\.sessionToken"),
        ({"options": {"SASToken": "hush"}}, r"options\.SASToken"),
    ],
)
def test_what_cannot_be_a_storage_or_is_a_secret_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        StorageConfig.model_validate({"url": "s3://bucket/runs", **changed})
    assert "hush" not in str(error.value.errors()[0]["msg"])  # type: ignore[attr-defined]


def test_settings_that_are_no_secrets_pass() -> None:
    options = {
        "endpoint_url": "http://host:9000",
        "anon": False,
        "client_kwargs": {"region_name": "eu"},
        "profile": "me",
    }
    assert StorageConfig(url="s3://bucket/runs", options=options).options == options


def wait_for(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
