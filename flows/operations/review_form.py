"""The form by which a person answers a review in Prefect's UI, and its words for the library's."""

from typing import Any, Literal

from prefect.input import RunInput
from pydantic import Field

from ssl_pipeline.runs.review import Choice, ReviewDecision

CHOICES: dict[str, Choice] = {"accept": "accept", "change threshold": "threshold", "reject": "reject"}


class ReviewForm(RunInput):
    """What a person fills in to let a suspended run go on."""

    decision: Literal["accept", "change threshold", "reject"] = Field(
        description="accept: a student learns from these labels. change threshold: select again by the threshold below, "
        "then train. reject: end the cycle; the teacher stays."
    )
    threshold: float | None = Field(
        default=None,
        description="With 'change threshold' only: the least confidence of an accepted label, above 0 and up to 1.",
    )
    note: str = Field(default="", description="Why; kept with the decision and in the run's summary.")


def resume_input(decision: ReviewDecision) -> dict[str, Any]:
    """Give a decision as the form's answer."""
    named = {choice: name for name, choice in CHOICES.items()}
    return {"decision": named[decision.choice], "threshold": decision.confidence_threshold, "note": decision.note}
