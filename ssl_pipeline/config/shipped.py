"""The configs that come with the package, found by name from any folder."""

from importlib.util import find_spec
from pathlib import Path

from ssl_pipeline.errors import ConfigError

_PACKAGE = "ssl_pipeline_configs"
_MAX_SIBLINGS_SHOWN = 8
SCHEMA = "schema.json"
"""Beside the shipped configs."""


def find_config(path: Path, *, folder: Path = Path()) -> Path:
    """Return the file that a path names, or the shipped config of that name.

    Args:
        path: a file relative to `folder`; otherwise a shipped config, e.g. ``demo``, ``recipes/vit_base`` or
            ``configs/demo.yaml``.
        folder: the current folder, or the folder of the config that extends this one.

    Raises:
        ConfigError: if there is neither; lists the first files of that folder and the shipped configs.
    """
    file, shipped = folder / path, shipped_configs()
    if file.is_file():
        return file
    name = path.with_suffix("").as_posix().removeprefix("configs/")
    if name in shipped and path.suffix in ("", ".yaml"):
        return shipped[name]
    siblings = sorted(str(sibling) for sibling in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
    hints = [f"; files there: {_first(siblings)}"] if siblings else []
    hints += [f"; shipped: {', '.join(shipped)}"] if shipped else []
    raise ConfigError(f"{file}: no such config file{''.join(hints)}")


def _first(names: list[str]) -> str:
    more = len(names) - _MAX_SIBLINGS_SHOWN
    return ", ".join(names[:_MAX_SIBLINGS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def shipped_configs() -> dict[str, Path]:
    """Return the shipped configs by name; none where the package is not installed."""
    files = [(file.relative_to(folder), file) for folder in _folders() for file in folder.rglob("*.yaml")]
    return dict(sorted((path.with_suffix("").as_posix(), file) for path, file in files))


def schema_file() -> Path:
    """Return the JSON schema of configs, see `config.json_schema`.

    Raises:
        ConfigError: where the package is not installed.
    """
    for folder in _folders():
        if (file := folder / SCHEMA).is_file():
            return file
    raise ConfigError(
        "the shipped configs are not installed; install the package: pip install ssl-pipeline, or make setup"
    )


def _folders() -> list[Path]:
    package = find_spec(_PACKAGE)
    return [Path(location) for location in (package and package.submodule_search_locations) or ()]
