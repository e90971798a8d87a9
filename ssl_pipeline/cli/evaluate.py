"""`ssl-pipeline evaluate`: score a checkpoint on labeled faces.

Modules that need torch are imported inside the function, so that the other commands start without it.
"""

from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from typer import Option

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.runs.storage.remote import local_copy


def evaluate(
    checkpoint: Annotated[
        Path, Option("--checkpoint", parser=local_copy, help="A best.safetensors, or its URL, e.g. s3://….")
    ],
    config: Annotated[Path, Option("--config", help="A YAML config.")],
    overrides: Annotated[list[str] | None, Option("--set", help="dotted.key=value; may be repeated.")] = None,
    run_name: Annotated[str | None, Option("--run-name", help="Folder under data/runs.")] = None,
    split: Annotated[
        Literal["validation", "test", "all"], Option(help="Which labeled faces; 'all' includes the training faces.")
    ] = "test",
    out: Annotated[Path | None, Option("--out", help="Also write the scores to this JSON file.")] = None,
    pictures: Annotated[Path | None, Option("--pictures", help="Also plot the scores into this folder.")] = None,
) -> None:
    """Score a checkpoint on the config's labeled faces: jointly, per attribute, per class and per group.

    Changes nothing in the run; where its faces are not prepared, they are prepared in a temporary folder.
    """
    from ssl_pipeline.inference.framing import warn_of_other_cropping
    from ssl_pipeline.learning.checkpoint import warn_if_unfinished
    from ssl_pipeline.learning.predict import CheckpointPredictor
    from ssl_pipeline.learning.shard_prediction import check_image_size
    from ssl_pipeline.reports.plots import plot_scores
    from ssl_pipeline.reports.scores import scores_tables
    from ssl_pipeline.runs.files import write_json
    from ssl_pipeline.stages.evaluate import evaluate_split
    from ssl_pipeline.stages.open import open_faces

    warn_if_unfinished(checkpoint)
    loaded = load_config(config, overrides=overrides or [], run_name=run_name)
    predictor = CheckpointPredictor.load(
        checkpoint, loaded.prediction, labels=loaded.labels.space, device=loaded.device
    )
    check_image_size(predictor.checkpoint, loaded.faces.image_size)
    warn_of_other_cropping(predictor.checkpoint, loaded.faces.crop_rules)
    with open_faces(loaded) as run:
        scores = evaluate_split(predictor, loaded, run, split).scores
    for table in scores_tables(scores, title=f"{checkpoint} on {split}"):
        Console(markup=False).print(table)
    if out is not None:
        write_json(out, scores)
    if pictures is not None:
        plot_scores(pictures, scores, title=f"{checkpoint.parent.name} on {split}")
