"""`ssl-pipeline check`: everything that a run would refuse before its work, at once."""

from pathlib import Path
from typing import Annotated

import typer

from ssl_pipeline.config.loading import count_faults, load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.sources import DrawnSource
from ssl_pipeline.config.teachers import NetworkTeacher
from ssl_pipeline.errors import ConfigError, FaceTableError, list_of_faults


def check(
    config: Annotated[Path, typer.Argument(help="A YAML config, or the name of a shipped one.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value; may be repeated.")] = None,
) -> None:
    """Say everything that can be refused before work: settings, networks, devices, folders and tables of the faces."""
    from ssl_pipeline.stages.check import find_faults

    loaded = load_config(config, overrides=overrides or [])
    faults = [*find_faults(loaded), *_source_faults(loaded)]
    if faults:
        raise ConfigError(list_of_faults(f"{config}: {count_faults(faults)}", faults))
    typer.echo(f"OK: {_describe(loaded)}")


def _source_faults(config: RunConfig) -> list[str]:
    """Read each source's list of faces, without decoding; faces that the run draws, or puts masks on, come later."""
    from ssl_pipeline.faces.sources.corrections import Corrections
    from ssl_pipeline.faces.sources.reading import read_source

    made = [masking.folder.resolve() for masking in config.masked_sets]
    faults = []
    try:
        corrections = Corrections.read(config.faces.correction_paths, config.labels)
    except FaceTableError as error:
        return [str(error)]
    for source in config.faces.all_sources:
        if isinstance(source, DrawnSource) or (config.faces.root / source.path).resolve() in made:
            continue
        try:
            read_source(source, root=config.faces.root, labels=config.labels, seed=config.seed, corrections=corrections)
        except FaceTableError as error:
            faults.append(str(error))
    return faults


def _describe(config: RunConfig) -> str:
    rounds = f"{config.rounds} round{'s' if config.rounds > 1 else ''}"
    teachers = " + ".join(
        f"{teacher.model.architecture}, {teacher.training.epochs} epochs"
        if isinstance(teacher, NetworkTeacher)
        else f"a linear head on {teacher.type} features"
        for teacher in config.teachers
    )
    return (
        f"run '{config.run_name}' in {config.runs_root / config.run_name}: teacher {teachers}; {rounds} of {config.selection.type} and a student "
        f"{config.student.model.architecture}, {config.student.training.epochs} epochs; {config.labels.space.num_classes} "
        f"classes at {config.faces.image_size} × {config.faces.image_size} pixels"
    )
