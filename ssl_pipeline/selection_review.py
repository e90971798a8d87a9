"""Which decision of a person counts for a round's selection, and what follows from it for the stages."""

from typing import Any

from ssl_pipeline import __version__
from ssl_pipeline.config import RunConfig
from ssl_pipeline.errors import ReviewError, ReviewPending
from ssl_pipeline.review import Decision, decision_on
from ssl_pipeline.runs import RunDir, digest_of, faces_digest, read_json
from ssl_pipeline.selection_job import judge_shift


def selection_inputs(config: RunConfig, run: RunDir, round_index: int) -> dict[str, Any]:
    """All that a round's selection by the config depends on.

    A decision counts for as long as these are what they were when it was taken, see `basis_of`.
    """
    directory = run.pseudo_labels(round_index)
    predicted = (directory / "predictions", directory / "unseen", run.out_of_fold)
    records = [read_json(of / "done.json") for of in predicted if (of / "done.json").is_file()]
    return {
        "predicted": [digest_of([record["inputs"], record["outputs"]]) for record in records],
        "selection": config.selection,
        "shift": judge_shift(config, run, round_index),
        "labels": config.labels,
        "faces": faces_digest(run),
        "round": round_index,
        "run_name": config.run_name,
    }


def basis_of(inputs: dict[str, Any]) -> str:
    """One digest for a selection's inputs and the library's version: another version may select otherwise."""
    return digest_of(inputs | {"version": __version__})


def standing_decision(config: RunConfig, run: RunDir, round_index: int) -> Decision | None:
    """Give the decision on a round's selection as it is now; None without any, or if the config wants none."""
    if config.review == "none":
        return None
    inputs = selection_inputs(config, run, round_index)
    return decision_on(run, round_index, basis=basis_of(inputs))


def check_accepted(config: RunConfig, run: RunDir, round_index: int) -> None:
    """Refuse to train on a selection that waits for a person, or was rejected by one.

    Raises:
        ReviewPending: if nobody has decided.
        ReviewError: if it was rejected.
    """
    if config.review == "none":
        return
    decision = standing_decision(config, run, round_index)
    if decision is None:
        raise ReviewPending(
            f"{run.root}: round {round_index}: nobody has decided on its selection (review: wait), so no student is "
            "trained; flows.full_cycle asks"
        )
    if decision.choice == "reject":
        raise ReviewError(f"{run.root}: round {round_index}: {decision.words}; no student is trained on it")
