"""One folder on an fsspec file system: list, upload, download and remove files by names that stay inside.

Each file system raises errors of its own, not all of them OSErrors: all leave this module as `StorageError`.
"""

import atexit
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import fsspec

from ssl_pipeline.config.storage import StorageConfig
from ssl_pipeline.errors import ConfigError, RunError, StorageError
from ssl_pipeline.runs.files import atomic_path

# An object appears when it is complete. On other file systems a file is written under another name and moved.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci"}


class RemoteDirectory:
    """A folder at a URL; files are named by their paths inside it, with `/` between the parts."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        """Open the file system; nothing is read or written yet.

        Raises:
            ConfigError: if its package is not installed, or refuses the options.
        """
        self.url = url
        protocol = url.partition("://")[0]
        self._is_object_store = protocol in _OBJECT_STORES
        try:
            # no cached listings: another machine may have written
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
        """Open the folder of a run."""
        return cls(f"{config.url.rstrip('/')}/{run_name}", config.options)

    def sizes(self) -> dict[str, int]:
        """List the files at any depth, name → bytes, without hidden ones such as partial files.

        Raises:
            StorageError: if the storage cannot be reached.
            RunError: if a name leads out of the folder.
        """
        with self._storage_errors("listed"):
            infos = self._fs.find(self._root, detail=True)
        # s3fs may list the folder itself if its first file appears during the listing
        if infos.get(self._root, {}).get("type") == "directory":
            del infos[self._root]
        sizes = {path[len(self._root) :].removeprefix("/"): info.get("size") or 0 for path, info in infos.items()}
        for name in sizes:
            check_inside(name, self.url)
        return {name: size for name, size in sizes.items() if not is_hidden(name)}

    def put(self, path: Path, name: str) -> None:
        """Upload a file; an earlier version stays until the upload is complete."""
        with self._storage_errors("written", name), self._atomic(name) as target:
            self._fs.put_file(str(path), target)

    def get(self, name: str, path: Path) -> None:
        """Download a file to `path`, atomically."""
        check_inside(name, self.url)
        with atomic_path(path) as partial, self._storage_errors("read", name):
            self._fs.get_file(self._path(name), str(partial))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read a JSON object; None if there is none, or the file holds something else."""
        with self._storage_errors("read", name):
            try:
                content = json.loads(self._fs.cat_file(self._path(name)))
            except (FileNotFoundError, ValueError):
                return None
        return content if isinstance(content, dict) else None

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON object."""
        with self._storage_errors("written", name), self._atomic(name) as target:
            self._fs.pipe_file(target, json.dumps(content, indent=2).encode())

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        with self._storage_errors("removed", name), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _atomic(self, name: str) -> Iterator[str]:
        """Yield the path to write to, so that `name` appears when it is complete."""
        path = PurePosixPath(self._path(name))
        if self._is_object_store:
            yield str(path)
            return
        self._fs.makedirs(str(path.parent), exist_ok=True)
        partial = str(path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial"))
        try:
            yield partial
            self._fs.mv(partial, str(path))
        except Exception:
            if self._fs.exists(partial):
                self._fs.rm_file(partial)
            raise

    @contextmanager
    def _storage_errors(self, action: str, name: str = "") -> Iterator[None]:
        """Turn any error of the file system into StorageError."""
        try:
            yield
        except Exception as error:
            url = f"{self.url}/{name}" if name else self.url
            reason = " ".join(str(error).split())
            raise StorageError(f"{url}: cannot be {action} ({type(error).__name__}: {reason})") from error


def local_copy(path_or_url: str) -> Path:
    """Return the path itself, or a local copy of a URL that is removed when this process ends.

    Credentials come from the environment or fsspec's own config.

    Raises:
        StorageError: if the URL cannot be read.
    """
    if "://" not in path_or_url:
        return Path(path_or_url)
    folder, _, name = path_or_url.rpartition("/")
    directory = Path(mkdtemp(prefix="ssl-pipeline-"))
    atexit.register(rmtree, directory, ignore_errors=True)
    RemoteDirectory(folder).get(name, directory / name)
    return directory / name


def is_hidden(name: str) -> bool:
    """Whether a part of a name begins with a dot, as those of locks and partial files."""
    return any(part.startswith(".") for part in name.split("/"))


def check_inside(name: str, location: str) -> None:
    """Refuse a name that leads out of its folder: anyone who may write to a bucket chooses the names in it.

    Raises:
        RunError: naming it.
    """
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise RunError(
            f"{location}: a file there is named {name!r}, which would lead out of the run's folder; nothing was fetched; "
            "remove it"
        )
