"""`ssl-pipeline report`: one HTML file about a run, or about a manifest of a run that has not ended."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ssl_pipeline.cli.completion import complete_run
from ssl_pipeline.cli.cycle import find_run


def report(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's directory, its name under data/runs, or a manifest.parquet in a run.",
            autocompletion=complete_run,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write; by default report.html in the run.")
    ] = None,
    faces: Annotated[bool, typer.Option("--faces/--no-faces", help="Leave all pictures of faces out.")] = True,
    blur: Annotated[bool, typer.Option("--blur", help="Blur the pictures, so that nobody is recognized.")] = False,
    max_faces: Annotated[int, typer.Option(min=0, max=20_000, help="Faces in the page, at most.")] = 1500,
) -> None:
    """Write one HTML file that shows a run: results, labels, faces, map, findings. It needs no network."""
    from ssl_pipeline.stages.report import report_run
    from ssl_pipeline.stages.report_context import ReportOptions

    path = Path(run) if Path(run).is_file() else find_run(run).root
    written = report_run(path, out, ReportOptions(faces=faces, blur=blur, max_faces=max_faces))
    megabytes = written.stat().st_size / 1e6
    Console(markup=False).print(f"Report: {written} ({megabytes:.1f} MB)", highlight=False, soft_wrap=True)
