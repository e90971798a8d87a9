"""A config's full cycle of one round as plain function calls, without Prefect.

python -m benchmarks.plain_cycle --config configs/demo.yaml --run-name plain
"""

from typing import Annotated

import typer

from benchmarks.runner import ConfigPath, Overrides, run_command
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.stages.draw import draw
from ssl_pipeline.stages.finish import RoundOutcome, finish
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_student


def main(config: ConfigPath, run_name: Annotated[str, typer.Option()], overrides: Overrides = None) -> None:
    """Run the stages; finished ones are skipped."""
    loaded = load_config(config, overrides=overrides or [], run_name=run_name)
    with open_run(loaded) as run:
        draw(loaded)
        prepare(loaded, run)
        train_teacher(loaded, run)
        predict(loaded, run, 1, run.teacher / "best.safetensors")
        select(loaded, run, 1)
        train_student(loaded, run, 1)
        finish(loaded, run, [RoundOutcome(1, gate=gate(loaded, run, 1, run.teacher))])


if __name__ == "__main__":
    run_command(main)
