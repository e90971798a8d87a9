"""The few settings that flows take as parameters of their own, since people change them from run to run."""

from typing import Any

from ssl_pipeline.errors import ConfigError, list_of_faults


def as_overrides(overrides: list[str] | None, **parameters: Any) -> list[str]:
    """Join overrides with parameters that stand for a config's key of the same name; None leaves the config's own.

    Raises:
        ConfigError: if a key is given both ways.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    overrides = list(overrides or [])
    twice = [name for name in given if any(override.partition("=")[0].strip() == name for override in overrides)]
    if twice:
        faults = [f"'{name}': as a parameter ({given[name]}) and in overrides; give it once" for name in twice]
        raise ConfigError(list_of_faults("settings given twice", faults))
    return [*overrides, *(f"{name}={value}" for name, value in given.items())]
