"""`ssl-pipeline plot`: plots of a config, without running it.

Modules that need torch or matplotlib are imported inside the functions, as in `cli.main`.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from ssl_pipeline.cli.completion import ConfigArgument
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.runs.directory import RunDir

plot_app = typer.Typer(no_args_is_help=True, add_completion=False, help="Plot a config without running it.")

Role = Literal["teacher", "student"]
ASSUMED_STEPS_PER_EPOCH = 100


@plot_app.command("schedule")
def plot_schedule(
    config: ConfigArgument,
    role: Annotated[Role, typer.Option(help="The model whose schedule to plot.")],
    out: Annotated[Path, typer.Option("--out", help="A .png file.")],
    num_faces: Annotated[
        int | None, typer.Option(min=1, help="Number of training faces; default: those of the run, if prepared.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value; may be repeated.")] = None,
    run_name: Annotated[str | None, typer.Option("--run-name", help="Folder under data/runs.")] = None,
) -> None:
    """Plot the learning rate of every training step, without training."""
    from ssl_pipeline.learning.optimizers import check_optimizer
    from ssl_pipeline.learning.schedules import learning_rates
    from ssl_pipeline.reports.plots import save_figure
    from ssl_pipeline.reports.schedule_plot import describe_schedule, plot_schedule

    if out.suffix != ".png":
        raise ConfigError(f"--out {out}: expected a name that ends with .png")
    loaded = load_config(config, overrides=overrides or [], run_name=run_name)
    role_config = _role(loaded, role)
    check_optimizer(role_config)
    training, optimizer = role_config.training, role_config.training.optimizer
    num_faces, source = (num_faces, "given") if num_faces is not None else count_training_faces(loaded, role)
    steps_per_epoch = -(-num_faces // training.batch_size)
    rates = learning_rates(training, steps_per_epoch=steps_per_epoch)
    curves = {"learning rate": rates}
    if optimizer.head_learning_rate_factor != 1:
        curves = {"backbone": rates, "classifier": rates * optimizer.head_learning_rate_factor}
    summary = (
        f"{num_faces:,} faces ({source})\nin batches of {training.batch_size}: "
        f"{steps_per_epoch:,} steps per epoch, {len(rates):,} in {training.num_epochs(steps_per_epoch)} epochs"
    )
    if optimizer.layer_decay is not None:
        summary += f"\nlayer decay: × {optimizer.layer_decay:g} per layer below the classifier"
    figure = plot_schedule(
        curves,
        steps_per_epoch=steps_per_epoch,
        frozen_epochs=optimizer.freeze_backbone_epochs,
        title=f"{role}: {describe_schedule(training.scheduler, peak=optimizer.learning_rate)}",
        subtitle=summary,
    )
    save_figure(figure, out)
    Console(markup=False).print(f"{summary}\nwritten to {out}", highlight=False, soft_wrap=True)


def count_training_faces(config: RunConfig, role: Role) -> tuple[int, str]:
    """Count the training faces of a role from the run's tables, or assume a number.

    Returns:
        The number, and a description of its source.
    """
    import pyarrow.parquet as pq

    from ssl_pipeline.faces.table import read_faces

    run = RunDir(config.runs_root / config.run_name)
    merged = [run.student(number) / "training.parquet" for number in range(config.rounds, 0, -1)]
    latest = next((path for path in merged if path.is_file()), None)
    if role == "student" and latest is not None:
        return pq.read_metadata(latest).num_rows, f"from {latest.relative_to(run.root)}"
    labeled, pool = run.faces / "labeled.parquet", run.faces / "unlabeled.parquet"
    if not labeled.is_file():
        num_faces = ASSUMED_STEPS_PER_EPOCH * _role(config, role).training.batch_size
        return num_faces, "assumed, the run has no faces yet; set --num-faces"
    faces = read_faces(labeled)
    known = (config.labels.space.encode(faces) >= 0).any(axis=1)
    num_human = int((known & (faces["split"] == "train").to_numpy(bool)).sum())
    if role == "teacher":
        return num_human, f"from {labeled.relative_to(run.root)}"
    num_pool = pq.read_metadata(pool).num_rows
    return num_human + num_pool, f"{num_human:,} labeled, assuming that all {num_pool:,} of the pool are accepted"


def _role(config: RunConfig, role: Role) -> RoleConfig:
    if role == "student":
        return config.student
    if config.network_teacher is None:
        raise ConfigError(
            "--role teacher: the config has no single network as its teacher, so there is no schedule to plot"
        )
    return config.network_teacher
