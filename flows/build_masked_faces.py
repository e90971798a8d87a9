"""Draw masks on bare faces: a set labeled with age and gender also gets mask labels."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from ssl_pipeline.config.loading import load_masking

from . import tasks
from .operations.command import print_lines, run_from_command_line
from .operations.pipeline_flow import ends_with


def record_lines(records: list[dict[str, Any]]) -> Iterator[str]:
    """State the faces found and left out and the pictures drawn, per masked set."""
    for record in records:
        left_out = ("rejected", "passed_over", "filtered", "beyond_limit", "not_needed")
        parts = " + ".join(f"{record[part]:,} {part.replace('_', ' ')}" for part in ("used", *left_out))
        drawn = ", ".join(f"{count:,} {mask}" for mask, count in record["drawn"].items())
        yield f"{record['folder']}: {record['found']:,} found = {parts}"
        yield f"  {record['pictures']:,} pictures: {drawn}; {record['kept']:,} were there before"
        for reason, count in record["reasons"].items():
            yield f"  rejected {count:,} ×: {reason}"


@flow(name="build-masked-faces")
@ends_with(record_lines)
def build_masked_faces(
    config_path: str = "configs/masked-utkface.yaml", overrides: list[str] | None = None, run_name: str | None = None
) -> list[dict[str, Any]]:
    """Build the masked sets of a config, or the missing parts of them. A run of that config also does this.

    Args:
        config_path: A run's YAML file with a section `masking`, e.g. configs/masked-utkface.yaml.
        overrides: Any setting of the config, each as dotted.key=value, e.g. masking.0.seed=1.
        run_name: Unused; present because all flows have it.
    """
    config = load_masking(Path(config_path), overrides=overrides or [])
    return [dict(record) for record in tasks.draw_masks(config.masking, config.execution).masked_sets]


if __name__ == "__main__":
    run_from_command_line(
        build_masked_faces,
        validate=lambda config, overrides, _: load_masking(config, overrides=overrides),
        report=partial(print_lines, record_lines),
    )
