"""One folder on a remote file system: whole files in, whole files out, under names that stay inside.

Whatever a file system raises (each has errors of its own, of which not all are OSErrors) leaves here as `StorageError`.
"""

import atexit
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, TypeVar

import fsspec

from ssl_pipeline.config.storage import StorageConfig
from ssl_pipeline.errors import ConfigError, RunError, StorageError
from ssl_pipeline.runs.files import atomic_path

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Where an object appears when all of it has arrived. Elsewhere a file is written beside its place and moved there.
_WHOLE_OBJECTS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci"}
_FINAL = (PermissionError, FileNotFoundError)  # trying again gives no right, and makes no bucket
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0


class RemoteDirectory:
    """A folder named by a URL, whose files are named by their paths inside it, with `/` between the parts."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        """Open the file system; nothing is read or written yet.

        Raises:
            ConfigError: if its package is not installed, or refuses the options.
        """
        self.url = url
        protocol = url.partition("://")[0]
        self._writes_whole = protocol in _WHOLE_OBJECTS
        try:
            # listings must be fresh: another machine may have written
            fixed = {"skip_instance_cache": True, "use_listings_cache": False}
            self._fs, self._root = fsspec.core.url_to_fs(url, **fixed, **(options or {}))
        except ImportError as error:
            raise ConfigError(
                f"{url}: {protocol}:// needs a package that is not installed ({error}); for S3: "
                "pip install 'ssl-pipeline[s3]'"
            ) from None
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{url}: cannot be opened with these options: {error}") from None
        self._root = self._root.rstrip("/")

    @classmethod
    def of_run(cls, config: StorageConfig, run_name: str) -> "RemoteDirectory":
        """Give the folder of a run."""
        return cls(f"{config.url.rstrip('/')}/{run_name}", config.options)

    def names(self) -> dict[str, int]:
        """List the files at any depth and their sizes in bytes; hidden ones, as files half written, are left out.

        Raises:
            StorageError: if it cannot be reached.
            RunError: if a name would lead out of the folder.
        """
        with self._told_in_words("listed"):
            found = self._fs.find(self._root, detail=True)
        # s3fs answers with the folder itself where it was empty when listed and has a first file a moment later
        if found.get(self._root, {}).get("type") == "directory":
            del found[self._root]
        names = {path[len(self._root) :].removeprefix("/"): info.get("size") or 0 for path, info in found.items()}
        for name in names:
            check_inside(name, self.url)
        return {name: size for name, size in names.items() if not is_hidden(name)}

    def put(self, path: Path, name: str) -> None:
        """Upload a file; until all of it is there, the one before stays."""
        with self._told_in_words("written", name), self._beside(name) as target:
            self._fs.put_file(str(path), target)

    def get(self, name: str, path: Path) -> None:
        """Download a file to `path`, which must not be there or may be lost."""
        check_inside(name, self.url)
        with self._told_in_words("read", name):
            self._fs.get_file(self._at(name), str(path))

    def fetch(self, name: str, root: Path) -> None:
        """Download a file to its place under `root`, atomically."""
        check_inside(name, self.url)
        with atomic_path(root / name) as beside:
            self.get(name, beside)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read a JSON object; None if there is none, or something else of that name."""
        with self._told_in_words("read", name):
            try:
                content = json.loads(self._fs.cat_file(self._at(name)))
            except (FileNotFoundError, ValueError):
                return None
        return content if isinstance(content, dict) else None

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON object."""
        with self._told_in_words("written", name), self._beside(name) as target:
            self._fs.pipe_file(target, json.dumps(content, indent=2).encode())

    def create_json(self, name: str, content: Mapping[str, Any]) -> bool:
        """Write a JSON object unless something of that name is there; tell whether it was written."""
        with self._told_in_words("written", name):
            try:
                self._make_parent(name)
                self._fs.pipe_file(self._at(name), json.dumps(content, indent=2).encode(), mode="create")
            except FileExistsError:
                return False
        return True

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._told_in_words("removed", name), suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_parent(self, name: str) -> None:
        if not self._writes_whole:
            self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _beside(self, name: str) -> Iterator[str]:
        """Give where to write a file so that it appears at `name` when it is whole."""
        if self._writes_whole:
            yield self._at(name)
            return
        self._make_parent(name)
        place = PurePosixPath(self._at(name))
        beside = str(place.with_name(f".{place.name}.{uuid.uuid4().hex}.partial"))
        try:
            yield beside
            self._fs.mv(beside, str(place))
        except Exception:
            if self._fs.exists(beside):
                self._fs.rm_file(beside)
            raise

    @contextmanager
    def _told_in_words(self, what: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file system raises errors of its own; none of them is to end a training
            place = f"{self.url}/{name}" if name else self.url
            reason = " ".join(str(error).split())
            raise StorageError(f"{place}: cannot be {what} ({type(error).__name__}: {reason})") from error


def local_copy(path_or_url: str) -> Path:
    """Give a local file for a path, or for a URL that fsspec can read: a copy that goes with this process.

    What a store asks for comes from the environment or fsspec's own config.

    Raises:
        StorageError: if it cannot be read.
    """
    if "://" not in path_or_url:
        return Path(path_or_url)
    folder, _, name = path_or_url.rpartition("/")
    directory = Path(mkdtemp(prefix="ssl-pipeline-"))
    atexit.register(rmtree, directory, ignore_errors=True)
    RemoteDirectory(folder).fetch(name, directory)
    return directory / name


def is_hidden(name: str) -> bool:
    """Tell whether some part of a name begins with a dot: locks and files half written are nobody's business."""
    return any(part.startswith(".") for part in name.split("/"))


def check_inside(name: str, owner: str) -> None:
    """Refuse a name that would lead out of its folder: whoever may write to a bucket chooses the names in it.

    Raises:
        RunError: naming it.
    """
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise RunError(
            f"{owner}: a file there is named {name!r}, which would lead out of the run's folder; nothing was fetched; "
            "remove it"
        )


def with_retries(action: Callable[[], T], *, seconds: float) -> T:
    """Do it, and for so many seconds again after ever longer pauses.

    Raises:
        StorageError: that of the last try.
    """
    end, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except StorageError as error:
            if isinstance(error.__cause__, _FINAL) or time.monotonic() + pause > end:
                raise
            logger.warning("%s; trying again in %.1f s", error, pause)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
