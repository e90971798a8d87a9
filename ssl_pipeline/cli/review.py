"""`ssl-pipeline review`: a page on this machine where people go through a run's faces."""

from typing import Annotated

import typer
from rich.console import Console

from ssl_pipeline.cli.cycle import RunArgument, find_run


def review(
    run: RunArgument,
    queue: Annotated[
        str,
        typer.Option(
            help="all; audit: a random sample of accepted labels; label-errors: likely wrong labels of people; "
            "or a CSV file of `ssl-pipeline queue`."
        ),
    ] = "all",
    reviewer: Annotated[str, typer.Option(help="Your name; the page asks for it otherwise.")] = "",
    num: Annotated[int, typer.Option("--sample", min=1, help="Labels of an audit.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of an audit's sample.")] = 0,
    round_index: Annotated[
        int | None, typer.Option("--round", min=1, help="Whose pseudo-labels; by default the last student's.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0: one that is the run's own, or a free one if it is taken.")
    ] = 0,
    host: Annotated[str, typer.Option(help="The address to listen on; another one shows the faces to its network.")] = (
        "127.0.0.1"
    ),
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Go through faces in a browser: accept, correct or reject labels by keyboard; answers become human labels."""
    from ssl_pipeline.review.serve import open_review, serve

    directory = find_run(run)
    opened = open_review(directory, round_index=round_index, queue=queue, num=num, seed=seed, reviewer=reviewer.strip())
    console = Console(highlight=False, markup=False, soft_wrap=True)

    def tell(address: str) -> None:
        console.print(f"{opened.queue.title}\nanswers: {directory.answers}\n{address}\nCtrl-C ends it.")

    opened.similar.start_if_kept()
    serve(opened, host=host, port=port, open_browser=browser, tell=tell)
