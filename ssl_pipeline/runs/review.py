"""Review of a round's selection: the request and the decision, as files in the run directory.

``round-01/review/`` holds request.json (what to decide, on which manifest), request.md (the same as a page), the audit
sheet, and decision.json (who decided what, when). A decision is valid only for the selection that it was made on.
Reading a damaged file raises RunError.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from ssl_pipeline.config.base import Section
from ssl_pipeline.config.selection import SelectionConfig, Threshold
from ssl_pipeline.errors import ReviewError, RunError
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_file, read_json, write_json

logger = logging.getLogger(__name__)

Choice = Literal["accept", "threshold", "reject"]
Channel = Literal["command", "form", "terminal"]
_Section = TypeVar("_Section", bound=Section)


class WaitingFlowRun(Section):
    """The suspended Prefect flow run that continues after the decision."""

    id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    name: str
    api_url: str


class ReviewRequest(Section):
    """The question whether a round's student may train on a manifest. Paths are relative to the run directory."""

    run_name: str
    round_index: int = Field(ge=1)
    manifest: str
    manifest_digest: str
    selection_digest: str
    """Of all inputs of the selection, including the config's settings; see `stages.review.digest_selection`."""
    selection_type: str
    confidence_threshold: float | None
    """The config's; None for a strategy without one."""
    sheets: tuple[str, ...] = ()
    """Pages with a sample of accepted labels."""
    answers: str | None = None
    """The sheet to fill in for `manifest audit --answers`."""
    num_audited: int = 0
    flow_run: WaitingFlowRun | None = None
    """None if the person starts the run again."""


class ReviewDecision(Section):
    """A person's decision on a request."""

    choice: Choice
    confidence_threshold: Threshold | None = None
    """Replaces the config's in this round."""
    note: str = ""
    reviewer: str
    decided_at: str
    """ISO 8601, UTC."""
    channel: Channel
    manifest_digest: str
    """Of the manifest that was shown."""
    selection_digest: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.choice == "threshold") != (self.confidence_threshold is not None):
            raise ValueError("the choice 'threshold' needs a confidence_threshold; no other choice has one")
        return self

    @property
    def description(self) -> str:
        """What was decided, by whom, when and why, as part of a sentence."""
        what = {
            "accept": "the selection was accepted",
            "threshold": f"the confidence_threshold was set to {self.confidence_threshold}",
            "reject": "the selection was rejected",
        }[self.choice]
        return f"{what} by {self.reviewer}, {self.decided_at}" + (f": {self.note}" if self.note else "")


def record_decision(
    run: RunDir,
    request: ReviewRequest,
    choice: Choice,
    *,
    confidence_threshold: float | None = None,
    note: str = "",
    reviewer: str,
    channel: Channel,
) -> ReviewDecision:
    """Check a decision and write it; it replaces any earlier one.

    Args:
        run: the run's directory.
        request: what was asked.
        choice: accept, threshold or reject.
        confidence_threshold: in (0, 1]; ignored unless the choice is ``threshold``.
        note: the reason.
        reviewer: who decides.
        channel: how the answer was given.

    Raises:
        ReviewError: if the threshold cannot be used, or the manifest is no longer the one that was shown.
    """
    _check_manifest(run, request)
    if choice == "threshold":
        _check_threshold(request, confidence_threshold)
    decision = ReviewDecision(
        choice=choice,
        confidence_threshold=confidence_threshold if choice == "threshold" else None,
        note=note.strip(),
        reviewer=reviewer,
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
        channel=channel,
        manifest_digest=request.manifest_digest,
        selection_digest=request.selection_digest,
    )
    write_json(run.review(request.round_index) / "decision.json", decision.model_dump(mode="json"))
    logger.info("round %d: %s", request.round_index, decision.description)
    return decision


def _check_manifest(run: RunDir, request: ReviewRequest) -> None:
    """Reject a manifest that differs from the one shown, unless an earlier decision changed it."""
    manifest = run.root / request.manifest
    is_unchanged = manifest.is_file() and digest_file(manifest) == request.manifest_digest
    if not is_unchanged and valid_decision(run, request.round_index, request.selection_digest) is None:
        raise ReviewError(
            f"{manifest}: changed since the review was requested (manifest {request.manifest_digest[:12]}); run the cycle "
            "again to review it as it is now"
        )


def _check_threshold(request: ReviewRequest, threshold: float | None) -> None:
    if request.confidence_threshold is None:
        raise ReviewError(
            f"the threshold cannot be changed: selection.type {request.selection_type} has no confidence_threshold; "
            "accept or reject, or change the section 'selection' of the config and run it again"
        )
    if threshold is None or not 0 < threshold <= 1:
        value = "missing" if threshold is None else f"{threshold:g}"
        raise ReviewError(f"threshold {value}: expected a number above 0 and up to 1")
    if threshold == request.confidence_threshold:
        raise ReviewError(f"threshold {threshold:g}: equals the current one; accept, or give another number")


def withdraw_decision(run: RunDir, round_index: int) -> None:
    """Delete the decision on a round, if any."""
    (run.review(round_index) / "decision.json").unlink(missing_ok=True)


def read_decision(run: RunDir, round_index: int) -> ReviewDecision | None:
    """Read the decision on a round, valid or not; None if there is none."""
    return _read(run.review(round_index) / "decision.json", ReviewDecision)


def valid_decision(run: RunDir, round_index: int, selection_digest: str) -> ReviewDecision | None:
    """Read the decision on a round; None unless it was made on this selection and on the requested manifest."""
    decision, request = read_decision(run, round_index), read_request(run, round_index)
    if decision is None or request is None:
        return None
    is_valid = (decision.selection_digest, decision.manifest_digest) == (selection_digest, request.manifest_digest)
    return decision if is_valid else None


def write_request(run: RunDir, request: ReviewRequest) -> None:
    """Write a request; the run waits until there is a valid decision."""
    write_json(run.review(request.round_index) / "request.json", request.model_dump(mode="json"))


def read_request(run: RunDir, round_index: int) -> ReviewRequest | None:
    """Read the request of a round; None if there is none."""
    return _read(run.review(round_index) / "request.json", ReviewRequest)


def latest_request(run: RunDir) -> ReviewRequest | None:
    """Read the request of the last round that has one; None if none has."""
    rounds = [int(path.parts[-3].removeprefix("round-")) for path in run.root.glob("round-*/review/request.json")]
    return read_request(run, max(rounds)) if rounds else None


def is_waiting(run: RunDir) -> bool:
    """Return whether the latest request has no valid decision yet."""
    request = latest_request(run)
    return request is not None and valid_decision(run, request.round_index, request.selection_digest) is None


def apply_decision(
    selection: SelectionConfig, decision: ReviewDecision | None
) -> tuple[SelectionConfig, dict[str, Any]]:
    """Replace the config's threshold by the decided one.

    Returns:
        The selection's settings, and the change to record; empty without a change.
    """
    configured = getattr(selection, "confidence_threshold", None)
    if decision is None or decision.confidence_threshold is None or configured is None:
        return selection, {}
    threshold = decision.confidence_threshold
    change = {"confidence_threshold": {"configured": configured, "decided": threshold}}
    return selection.model_copy(update={"confidence_threshold": threshold}), {"changed_in_review": change}


def _read(path: Path, section: type[_Section]) -> _Section | None:
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        return section.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise RunError(f"{path}: damaged ({key}: {first['msg']}); delete it and run the cycle again") from None
