"""Parameters that several flows share: their fields in a form, their descriptions, and the config that they select."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import Device as DeviceSetting
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.shipped import shipped_configs
from ssl_pipeline.errors import ConfigError, list_of_faults

DEFAULT_CONFIG = "configs/demo.yaml"

WHOLE_RUNS = [name for name in shipped_configs() if not name.startswith(("presets/", "masked-"))]
"""The shipped configs of whole runs; the presets name no faces, and masked sets are drawn by build-masked-faces."""

# A form offers a choice or checks a number before a flow run exists. The config says the same once more.
Preset = Annotated[str | None, WithJsonSchema({"anyOf": [{"type": "string", "enum": WHOLE_RUNS}, {"type": "null"}]})]
Seed = Annotated[int | None, Field(ge=0, lt=2**31)]
Count = Annotated[int | None, Field(ge=1)]
Confidence = Annotated[float | None, Field(gt=0, le=1)]
Device = DeviceSetting | None
Review = Literal["none", "wait"] | None

DESCRIPTIONS = {
    "config_path": "A YAML file with all settings of the run, e.g. configs/demo.yaml; a relative path starts at the "
    "working directory. A shipped config is also found by its name, e.g. demo.",
    "run_name": "The name of the run's folder under data/runs; by default the config's. The same name resumes that run; "
    "while another process works in it, a second one is refused.",
    "seed": "The seed of all random draws; another seed also splits the faces differently. By default the config's.",
    "rounds": "How often a student may become the next teacher, from 1. By default the config's.",
    "review": "Whether a person decides before each student is trained: `wait` or `none`. By default the config's.",
    "device": "The device to compute on; `auto` uses a GPU if there is one. By default the config's.",
    "preset": "A config that comes with the package, in place of config_path; `ssl-pipeline recipes ls` tells what each is "
    "for. All but demo need faces_root.",
    "faces_root": "The folder of the faces; the config's source paths start there. By default the config's.",
    "threshold": "The lowest confidence of an accepted pseudo-label, above 0 and up to 1. By default the "
    "config's; only a selection of type fixed_threshold or ensemble_agreement has it.",
    "overrides": "Any other setting, each as dotted.key=value, e.g. faces.image_size=96.",
}

CONFIG_KEYS = {
    "seed": "seed",
    "rounds": "rounds",
    "review": "review",
    "device": "device",
    "faces_root": "faces.root",
    "threshold": "selection.confidence_threshold",
}
"""Config keys that flow parameters set."""


def selected_config(parameters: Mapping[str, Any]) -> str:
    """Return the path or the name of the config that a flow's parameters select."""
    return str(parameters.get("preset") or parameters.get("config_path") or DEFAULT_CONFIG)


def configure(config_path: str, run_name: str | None, overrides: list[str] | None, **parameters: Any) -> RunConfig:
    """Load the config that a flow's parameters select.

    Args:
        config_path: a path, or the name of a shipped config.
        run_name: replaces the config's own.
        overrides: ``dotted.key=value`` each.
        **parameters: of `CONFIG_KEYS`.

    Raises:
        ConfigError: if the config is invalid or a key is set twice.
    """
    return load_config(Path(config_path), overrides=as_overrides(overrides, **parameters), run_name=run_name)


def as_overrides(overrides: list[str] | None, **parameters: Any) -> list[str]:
    """Append parameters of `CONFIG_KEYS` to the overrides; None keeps the config's value.

    Raises:
        ConfigError: if a key is set by a parameter and by an override.
    """
    values = {name: value for name, value in parameters.items() if value is not None}
    overrides = list(overrides or [])
    overridden = {override.partition("=")[0].strip() for override in overrides}
    faults = [
        f"'{CONFIG_KEYS[name]}': as the parameter {name} ({value}) and in overrides; give it once"
        for name, value in values.items()
        if CONFIG_KEYS[name] in overridden
    ]
    if faults:
        raise ConfigError(list_of_faults("settings given twice", faults))
    return [*overrides, *(f"{CONFIG_KEYS[name]}={json.dumps(value)}" for name, value in values.items())]
