"""A person's decision on a round's selection: the question and the answer, as files in the run directory.

``round-01/review/`` holds request.json (what is asked, of which manifest), request.md (the same to read), the sheet of
an audit, and decision.json (who decided what, when, of which manifest). A decision counts only for the selection that
it was taken on. How the question is made, `review_request` knows; how a person is reached, flows and commands do.
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
_Kind = TypeVar("_Kind", bound=Section)

_OTHER_OPTIONS = {
    "balanced_top_k": "selection.k or selection.min_confidence",
    "percentile_curriculum": "selection.step_percent",
    "self_adaptive": "selection.type",
    "gaussian_weights": "selection.min_weight",
    "precision_guarantee": "selection.target",
}


class WaitingFlowRun(Section):
    """The Prefect flow run that waits for a decision."""

    id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    name: str
    api_url: str


class ReviewRequest(Section):
    """What a person is asked: whether a round's student may learn from a manifest. Paths lie inside the run."""

    run_name: str
    round_index: int = Field(ge=1)
    manifest: str
    manifest_digest: str
    basis: str
    """Digest of all that the selection rests on, the config's own settings among it; see `selection_review`."""
    selection_type: str
    confidence_threshold: float | None
    """What the config says; None for a strategy without one."""
    sheets: tuple[str, ...] = ()
    """Pages of drawn labels to look at."""
    answers: str | None = None
    """The sheet to fill in, for `manifest audit --answers`."""
    num_audited: int = 0
    flow_run: WaitingFlowRun | None = None
    """None where no server can make the run go on."""


class ReviewDecision(Section):
    """What a person decided on a request."""

    choice: Choice
    confidence_threshold: Threshold | None = None
    """In place of the config's, for this round."""
    note: str = ""
    by: str
    at: str
    """ISO 8601, UTC."""
    way: Literal["command", "form", "terminal"]
    manifest_digest: str
    """Of the manifest that was shown."""
    basis: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.choice == "threshold") != (self.confidence_threshold is not None):
            raise ValueError("a confidence_threshold goes with the choice 'threshold', and only with it")
        return self

    @property
    def words(self) -> str:
        """Who decided what, in half a sentence."""
        what = {
            "accept": "the selection was accepted",
            "threshold": f"the confidence_threshold was set to {self.confidence_threshold}",
            "reject": "the selection was rejected",
        }[self.choice]
        return f"{what} by {self.by}, {self.at}" + (f": {self.note}" if self.note else "")


def take_decision(
    request: ReviewRequest,
    choice: Choice,
    *,
    confidence_threshold: float | None = None,
    note: str = "",
    by: str,
    way: Literal["command", "form", "terminal"],
) -> ReviewDecision:
    """Make a decision of what a person said.

    Args:
        request: what was asked.
        choice: of the three.
        confidence_threshold: in (0, 1]; with the choice ``threshold`` only.
        note: why, in the person's words.
        by: who decides.
        way: how the answer came.

    Raises:
        ReviewError: if the threshold is missing, out of range, what it was, or the strategy has none.
    """
    if choice != "threshold":
        confidence_threshold = None  # a form sends it, whatever is chosen
    else:
        _check_threshold(request, confidence_threshold)
    return ReviewDecision(
        choice=choice,
        confidence_threshold=confidence_threshold,
        note=note.strip(),
        by=by,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        way=way,
        manifest_digest=request.manifest_digest,
        basis=request.basis,
    )


def _check_threshold(request: ReviewRequest, threshold: float | None) -> None:
    if request.confidence_threshold is None:
        raise ReviewError(
            f"the threshold cannot be changed: selection.type {request.selection_type} has no confidence_threshold; "
            f"accept or reject, or change {_OTHER_OPTIONS[request.selection_type]} in the config and run it again"
        )
    if threshold is None:
        raise ReviewError("the threshold is to change, but to what? give a number above 0 and up to 1")
    if not 0 < threshold <= 1:
        raise ReviewError(f"threshold {threshold:g}: expected a number above 0 and up to 1")
    if threshold == request.confidence_threshold:
        raise ReviewError(f"threshold {threshold:g}: is what it was; accept, or give another number")


def write_request(run: RunDir, request: ReviewRequest) -> None:
    """Ask: from now on the run waits, unless a decision on this very request is there."""
    write_json(run.review(request.round_index) / "request.json", request.model_dump(mode="json"))


def read_request(run: RunDir, round_index: int) -> ReviewRequest | None:
    """Read what is asked about a round; None if nothing is.

    Raises:
        RunError: if the file is damaged.
    """
    return _read(run.review(round_index) / "request.json", ReviewRequest)


def latest_request(run: RunDir) -> ReviewRequest | None:
    """Read what was asked last; None if nothing ever was.

    Raises:
        RunError: if the file is damaged.
    """
    rounds = sorted(int(path.parts[-3].removeprefix("round-")) for path in run.root.glob("round-*/review/request.json"))
    return read_request(run, rounds[-1]) if rounds else None


def write_decision(run: RunDir, round_index: int, decision: ReviewDecision) -> None:
    """Keep a decision, in place of any earlier one."""
    write_json(run.review(round_index) / "decision.json", decision.model_dump(mode="json"))
    logger.info("round %d: %s", round_index, decision.words)


def withdraw_decision(run: RunDir, round_index: int) -> None:
    """Take a decision back, if there is one: it is asked again."""
    (run.review(round_index) / "decision.json").unlink(missing_ok=True)


def read_decision(run: RunDir, round_index: int) -> ReviewDecision | None:
    """Read the decision on a round, whatever it was taken on; None if there is none.

    Raises:
        RunError: if the file is damaged.
    """
    return _read(run.review(round_index) / "decision.json", ReviewDecision)


def decision_on(run: RunDir, round_index: int, *, basis: str) -> ReviewDecision | None:
    """Give the decision on a round if it was taken on this selection, and on the manifest that is asked about.

    Args:
        run: the run's directory.
        round_index: from 1.
        basis: digest of what the selection rests on.

    Raises:
        RunError: if the file is damaged.
    """
    decision, request = read_decision(run, round_index), read_request(run, round_index)
    if decision is None or request is None:
        return None
    same = decision.basis == basis and decision.manifest_digest == request.manifest_digest
    return decision if same else None


def is_waiting(run: RunDir) -> bool:
    """Whether the last thing asked is not decided yet."""
    request = latest_request(run)
    return request is not None and decision_on(run, request.round_index, basis=request.basis) is None


def check_unchanged(run: RunDir, request: ReviewRequest) -> None:
    """Refuse to decide on a manifest that is no longer there as it was shown, unless by an earlier decision.

    Raises:
        ReviewError: saying that the question has aged.
    """
    if decision_on(run, request.round_index, basis=request.basis) is not None:
        return
    manifest = run.root / request.manifest
    if not manifest.is_file() or digest_file(manifest) != request.manifest_digest:
        raise ReviewError(
            f"{manifest} is not the manifest that was asked about ({request.manifest_digest[:12]}); run the cycle again "
            "to be asked about it as it is now"
        )


def with_decision(
    selection: SelectionConfig, decision: ReviewDecision | None
) -> tuple[SelectionConfig, dict[str, Any]]:
    """Put a person's threshold in the place of the config's.

    Returns:
        The settings to select by, and what to record of the change; nothing if nothing changed.
    """
    configured = getattr(selection, "confidence_threshold", None)
    if decision is None or decision.confidence_threshold is None or configured is None:
        return selection, {}
    threshold = decision.confidence_threshold
    change = {"confidence_threshold": {"configured": configured, "decided": threshold}}
    return selection.model_copy(update={"confidence_threshold": threshold}), {"changed_in_review": change}


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RunError(f"{path}: damaged ({where}: {first['msg']}); delete it and run the cycle again") from None
