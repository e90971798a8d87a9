"""Draw masks on bare faces: a set that knows age and gender becomes labeled in how a mask is worn, too."""

from pathlib import Path
from typing import Any

from prefect import flow
from rich.console import Console

from ssl_pipeline.config.loading import load_masking

from . import tasks
from .operations.command import run_from_command_line


@flow(name="build-masked-faces")
def build_masked_faces(
    config_path: str = "configs/masked-utkface.yaml", overrides: list[str] | None = None, run_name: str | None = None
) -> list[dict[str, Any]]:
    """Build the masked sets of a config, or what is missing of them. A run of that config does so by itself.

    Args:
        config_path: A YAML file that says all of the run with a section `masking`, as configs/masked-utkface.yaml.
        overrides: Any setting of the config, dotted.key=value each, as masking.0.seed=1.
        run_name: Not needed here; taken so that all flows are started alike.
    """
    config = load_masking(Path(config_path), overrides=overrides or [])
    return [dict(record) for record in tasks.draw_masks(config.masking, config.execution).masked_sets]


def show(records: list[dict[str, Any]]) -> None:
    """Print what was found, left out and drawn, set by set."""
    console = Console(soft_wrap=True, highlight=False)
    for record in records:
        left_out = ("rejected", "filtered", "beyond_limit", "not_needed")
        parts = " + ".join(f"{record[part]:,} {part.replace('_', ' ')}" for part in ("used", *left_out))
        drawn = ", ".join(f"{number:,} {mask}" for mask, number in record["drawn"].items())
        console.print(f"{record['folder']}: {record['found']:,} found = {parts}")
        console.print(f"  {record['pictures']:,} pictures: {drawn}; {record['kept']:,} were there before")
        for reason, number in record["reasons"].items():
            console.print(f"  rejected {number:,} ×: {reason}")


if __name__ == "__main__":
    run_from_command_line(
        build_masked_faces,
        refuse=lambda config, overrides, _: load_masking(config, overrides=overrides),
        after=show,
    )
