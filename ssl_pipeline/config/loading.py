"""Loading a config: YAML, `extends`, overrides, and one message that lists every fault with its key, value and cure."""

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ssl_pipeline.config.masking import MaskingFile
from ssl_pipeline.config.messages import describe_faults
from ssl_pipeline.config.overrides import apply_overrides
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.shipped import find_config
from ssl_pipeline.config.yaml_text import YamlError, read_yaml, write_yaml
from ssl_pipeline.errors import ConfigError, list_of_faults, shorten

_Schema = TypeVar("_Schema", bound=BaseModel)


def load_config(path: Path, *, overrides: Sequence[str] = (), run_name: str | None = None) -> RunConfig:
    """Read and check a config.

    Args:
        path: a YAML file, or the name of a shipped config. With ``extends: other.yaml`` it is merged into that file, with a
            list into the first, the second into it, and so on.
        overrides: ``dotted.key=value`` each, the value in YAML; a number in the key is a position in a list.
        run_name: replaces the config's own.

    Raises:
        ConfigError: listing every fault, or if the overrides give the run another name than `run_name`.
    """
    data = _read_with_overrides(path, overrides)
    if run_name is not None:
        name_overrides = [override for override in overrides if override.partition("=")[0].strip() == "run_name"]
        if name_overrides and data["run_name"] != run_name:
            raise ConfigError(
                f"the run is named twice: '{run_name}', and '{name_overrides[-1]}' in overrides; name it once"
            )
        data["run_name"] = run_name
    return _validate(RunConfig, data, path)


def load_masking(path: Path, *, overrides: Sequence[str] = ()) -> MaskingFile:
    """Read and check the section ``masking`` of a run's config, or a file with only ``masking`` and ``execution``.

    Raises:
        ConfigError: listing every fault, or if there is no such section.
    """
    data = _read_with_overrides(path, overrides)
    if _schema_of(data) is MaskingFile:
        return _validate(MaskingFile, data, path)
    config = _validate(RunConfig, data, path)
    if not config.masking:
        raise ConfigError(f"{path}: no section 'masking'; docs/masking.md shows one")
    return MaskingFile(masking=config.masked_sets, execution=config.execution)


def dump_config(config: RunConfig) -> str:
    """Return the config as YAML that `load_config` reads back to an equal one."""
    return write_yaml(config.model_dump(mode="json"))


def _read_with_overrides(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    data = _read_file(find_config(path))
    apply_overrides(data, overrides, _schema_of(data))
    return data


def _schema_of(data: dict[str, Any]) -> type[RunConfig] | type[MaskingFile]:
    return MaskingFile if data.keys() <= MaskingFile.model_fields.keys() else RunConfig


def _validate(schema: type[_Schema], data: dict[str, Any], path: Path) -> _Schema:
    """Validate plain values as JSON, where pydantic is strict about numbers, text and true or false, but not about lists."""
    try:
        return schema.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        faults = describe_faults(error, schema)
        raise ConfigError(list_of_faults(f"{path}: {count_faults(faults)}", faults)) from None


def count_faults(faults: Sequence[str]) -> str:
    """Return e.g. `2 faults`."""
    return f"{len(faults)} faults" if len(faults) > 1 else "1 fault"


def _read_file(path: Path, *, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file, merged into those that it `extends` (paths relative to it), if any."""
    if path.resolve() in extended_by:
        raise ConfigError(f"{path}: extends itself, through {', '.join(other.name for other in extended_by)}")
    try:
        data = read_yaml(path.read_text(encoding="utf-8"))
    except (YamlError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected sections such as 'labels:' and 'faces:', got {shorten(data)}")
    extends = data.pop("extends", None)
    bases = [] if extends is None else extends if isinstance(extends, list) else [extends]
    if not all(isinstance(base, str) for base in bases):
        raise ConfigError(
            f"{path}: 'extends': expected the path of a config, relative to this one, or a list of them, got "
            f"{shorten(extends)}"
        )
    files = [find_config(Path(base), folder=path.parent) for base in bases]
    read = [_read_file(file, extended_by=(*extended_by, path.resolve())) for file in files]
    return reduce(_merge, [*read, data])


def _merge(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Merge `data` into `base`, section by section; a section with another `type` replaces the whole section."""
    merged = dict(base)
    for key, value in data.items():
        section = base.get(key)
        if isinstance(value, dict) and isinstance(section, dict) and value.get("type") in (None, section.get("type")):
            merged[key] = _merge(section, value)
        else:
            merged[key] = value
    return merged
