"""Synthetic faces: people drawn from parameters, masks drawn on faces. Existing images are reused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_pipeline.config.execution import ExecutionConfig
from ssl_pipeline.config.masking import MaskingConfig
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.sources import DrawnSource
from ssl_pipeline.execution.shards import IN_PROCESS
from ssl_pipeline.runs.run_progress import run_progress
from ssl_pipeline.synthetic.masks.masked_set import build_masked_faces
from ssl_pipeline.synthetic.people.drawing import draw_people


@dataclass(frozen=True)
class DrawnFaces:
    """The synthetic faces of a config, new or reused."""

    masked_sets: tuple[Mapping[str, Any], ...]
    """Record of each masked set, see `build_masked_faces`."""


def draw(config: RunConfig) -> DrawnFaces:
    """Draw the people of all sources of type `drawn`, then the masked sets of `masking`; skips finished sets."""
    run_progress().begin(config.faces.root)
    for source in config.faces.all_sources:
        if isinstance(source, DrawnSource):
            draw_people(source, root=config.faces.root)
    return draw_masks(config.masked_sets, config.execution)


def draw_masks(masked_sets: Sequence[MaskingConfig], execution: ExecutionConfig = IN_PROCESS) -> DrawnFaces:
    """Draw masks on faces: build each masked set, or complete an unfinished one."""
    for masked_set in masked_sets:
        for source in masked_set.sources:
            if isinstance(source, DrawnSource):
                draw_people(source, root=masked_set.root)
    return DrawnFaces(tuple(build_masked_faces(masked_set, execution=execution) for masked_set in masked_sets))
