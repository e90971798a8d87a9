"""The form with which a person answers a review in Prefect's UI."""

from typing import Any

from prefect.input import RunInput
from pydantic import Field

from ssl_pipeline.runs.review import Choice, ReviewDecision


class ReviewForm(RunInput):
    """The input that a suspended flow run waits for."""

    decision: Choice = Field(
        description="accept: a student trains on these labels. threshold: select again with the threshold below, then "
        "train. reject: end the cycle; the teacher stays."
    )
    threshold: float | None = Field(
        default=None,
        description="With 'threshold' only: the lowest confidence of an accepted label, above 0 and up to 1.",
    )
    note: str = Field(default="", description="The reason; kept with the decision and in the run's summary.")


def form_input(decision: ReviewDecision) -> dict[str, Any]:
    """Return a decision as the form's input."""
    return {"decision": decision.choice, "threshold": decision.confidence_threshold, "note": decision.note}
