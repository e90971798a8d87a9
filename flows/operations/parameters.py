"""Parameters that several flows share: their descriptions, and the config that they select."""

from pathlib import Path
from typing import Any

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import ConfigError, list_of_faults

DEFAULT_CONFIG = "configs/demo.yaml"

DESCRIPTIONS = {
    "config_path": "A YAML file with all settings of the run, e.g. configs/demo.yaml; a relative path starts at the "
    "working directory. A shipped config is also found by its name, e.g. demo.",
    "run_name": "The name of the run's folder under data/runs; by default the config's. The same name resumes that run; "
    "while another process works in it, a second one is refused.",
    "seed": "The seed of all random draws; another seed also splits the faces differently. By default the config's.",
    "device": "The device to compute on; `auto` uses a GPU if there is one. By default the config's.",
    "overrides": "Any other setting, each as dotted.key=value, e.g. teacher.training.epochs=5.",
}

CONFIG_KEYS = ("seed", "rounds", "review", "device")
"""Flow parameters that set the config key of the same name."""


def configure(config_path: str, run_name: str | None, overrides: list[str] | None, **parameters: Any) -> RunConfig:
    """Load the config that a flow's parameters select.

    Raises:
        ConfigError: if the config is invalid or a key is set twice.
    """
    return load_config(Path(config_path), overrides=as_overrides(overrides, **parameters), run_name=run_name)


def as_overrides(overrides: list[str] | None, **parameters: Any) -> list[str]:
    """Append parameters that set the config key of the same name to the overrides; None keeps the config's value.

    Raises:
        ConfigError: if a key is set by a parameter and by an override.
    """
    values = {name: value for name, value in parameters.items() if value is not None}
    overrides = list(overrides or [])
    overridden = {override.partition("=")[0].strip() for override in overrides}
    faults = [
        f"'{name}': as a parameter ({value}) and in overrides; give it once"
        for name, value in values.items()
        if name in overridden
    ]
    if faults:
        raise ConfigError(list_of_faults("settings given twice", faults))
    return [*overrides, *(f"{name}={value}" for name, value in values.items())]
