"""`ssl-pipeline check`: everything that a run would refuse before its work, at once."""

from collections.abc import Iterator
from typing import Annotated

import typer

from ssl_pipeline.cli.completion import ConfigArgument
from ssl_pipeline.config.loading import count_faults, load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.sources import DrawnSource
from ssl_pipeline.config.teachers import FeaturesTeacher, NetworkTeacher, OnnxTeacher
from ssl_pipeline.errors import ConfigError, FaceTableError, list_of_faults


def check(
    config: ConfigArgument,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value; may be repeated.")] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Also build the networks, and look for pretrained weights and devices.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Say what a run would refuse before its work: settings, files, folders and tables of the faces, at once."""
    loaded = load_config(config, overrides=overrides or [])
    faults = [*(_model_faults(loaded) if models else _faults_without_networks(loaded)), *_source_faults(loaded)]
    if faults:
        raise ConfigError(list_of_faults(f"{config}: {count_faults(faults)}", faults))
    if not quiet:
        typer.echo(f"OK: {_describe(loaded)}")


def _model_faults(config: RunConfig) -> list[str]:
    from ssl_pipeline.stages.check import find_faults

    return find_faults(config)


def _faults_without_networks(config: RunConfig) -> Iterator[str]:
    """Yield the files of weights and features, and packages, that are not there, and a student that cannot start."""
    from ssl_pipeline.learning.engine import find_engine_faults
    from ssl_pipeline.learning.trackers import find_missing_trackers

    yield from find_engine_faults(config.prediction.engine, device=config.device)
    yield from find_missing_trackers(config.track)
    for key, teacher in zip(config.teacher_keys, config.teachers, strict=True):
        if isinstance(teacher, OnnxTeacher | FeaturesTeacher) and not teacher.file.is_file():
            yield f"'{key}.file': no such file {teacher.file}"
    for key, role in config.roles.items():
        if (weights := role.model.weights_file) is not None and not weights.is_file():
            yield f"'{key}.model.weights_file': no such file {weights}"
    yield from config.start_faults


def _source_faults(config: RunConfig) -> list[str]:
    """Read each source's list of faces, without decoding; faces that the run draws, or puts masks on, come later."""
    from ssl_pipeline.faces.inventory import join_sources
    from ssl_pipeline.faces.sources.corrections import Corrections
    from ssl_pipeline.faces.sources.reading import read_source

    made = [masking.folder.resolve() for masking in config.masked_sets]
    faults, read = [], []
    try:
        corrections = Corrections.read(config.faces.correction_paths, config.labels)
    except FaceTableError as error:
        return [str(error)]
    for role, source in config.faces.roles:
        if isinstance(source, DrawnSource) or (config.faces.root / source.path).resolve() in made:
            continue
        try:
            faces = read_source(
                source, root=config.faces.root, labels=config.labels, seed=config.seed, corrections=corrections
            )
            read.append((role, source, faces))
        except FaceTableError as error:
            faults.append(str(error))
    if len(read) == len(config.faces.roles):
        inventory = join_sources(read, corrections)
        try:
            inventory.check_roles()
            inventory.check_attributes(config.labels)
            inventory.check_pool(config.faces)
        except FaceTableError as error:
            faults.append(str(error))
    return faults


def _describe(config: RunConfig) -> str:
    rounds = f"{config.rounds} round{'s' if config.rounds > 1 else ''}"
    teachers = " + ".join(
        f"{teacher.model.architecture}, {teacher.training.budget}"
        if isinstance(teacher, NetworkTeacher)
        else f"a linear head on {teacher.type} features"
        for teacher in config.teachers
    )
    return (
        f"run '{config.run_name}' in {config.runs_root / config.run_name}: teacher {teachers}; {rounds} of {config.selection.type} and a student "
        f"{config.student.model.architecture}, {config.student.training.budget}; {config.labels.space.num_classes} "
        f"classes at {config.faces.image_size} × {config.faces.image_size} pixels"
    )
