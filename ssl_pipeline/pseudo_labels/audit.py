"""Audit of accepted pseudo-labels: a stratified sample, and precision estimates from a person's answers.

Each value of an attribute (or each class) is a stratum. Strata get equal shares of the sample, so that each can be
judged alone; estimates over several strata weigh each by its size.

Shapes: N labels, H strata.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import beta

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.labels import FloatArray, IntArray
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.stratified_interval import lower_bounds, upper_bounds

CONFIDENCE = 0.95
"""Of every interval, two-sided."""

ANSWERS = ("yes", "no", "unsure")


@dataclass(frozen=True)
class PrecisionEstimate:
    """The share of correct labels in [0, 1], with its interval."""

    precision: float | None
    """None if no label was judged."""
    lower: float
    upper: float


def accepted_labels(manifest: Manifest) -> pd.DataFrame:
    """List the accepted pseudo-labels, one per row, sorted by attribute, value and image id.

    Returns:
        image_id, image_path, attribute, value, confidence, stratum, int from 0, and unit, int (see
        `faces.independence`). With ``per: class`` a face has one label, its class, and `attribute` is ``class``.
    """
    readable = (manifest.faces["status"] != "unreadable").to_numpy(bool)
    faces, parts = manifest.faces.assign(unit=-1), []
    faces.loc[readable, "unit"] = independent_units(faces[readable])
    if manifest.selection["settings"].get("per") == "class":
        rows = faces[(faces["status"] == "accepted").to_numpy(bool)]
        class_ids = rows["class_id"].to_numpy(np.int64)
        parts.append(_labels_of(rows, "class", rows["class_name"], rows["confidence"], class_ids))
    else:
        for position, name in enumerate(manifest.labels.names):
            accepted = manifest.accepted[:, position]
            rows, codes = faces[accepted], manifest.codes[accepted, position]
            parts.append(_labels_of(rows, name, rows[name], rows[f"{name}_confidence"], codes))
    labels = pd.concat(parts, ignore_index=True)
    labels["stratum"] = labels.groupby(["attribute", "code"], sort=False).ngroup().astype(np.int64)
    return labels.drop(columns="code")


def sample_audit(manifest: Manifest, *, num: int, seed: int) -> pd.DataFrame:
    """Sample accepted labels for a person to judge, equally many per value.

    Args:
        manifest: the manifest.
        num: labels to sample; all of them if there are fewer.
        seed: equal seeds give equal samples.

    Returns:
        Rows of `accepted_labels`, with ``number`` from 1.

    Raises:
        ManifestError: if no label is accepted, or there are more values than `num`.
    """
    labels = accepted_labels(manifest)
    if labels.empty:
        raise ManifestError(f"{manifest.path}: no pseudo-label is accepted, so there is nothing to audit")
    num_strata = labels["stratum"].nunique()
    if num < num_strata:
        raise ManifestError(
            f"--sample {num}: accepted labels have {num_strata} values, and the sample needs one label of each; "
            f"give at least {num_strata}"
        )
    sample = labels.iloc[sample_stratified(labels["stratum"].to_numpy(), num, seed=seed)].reset_index(drop=True)
    return sample.assign(number=np.arange(1, len(sample) + 1))


def captions(sample: pd.DataFrame) -> list[str]:
    """Write the label of each row of `sample_audit`, e.g. ``age: <30``."""
    return [f"{attribute}: {value}" for attribute, value in zip(sample["attribute"], sample["value"], strict=True)]


def allocate(sizes: npt.ArrayLike, num: int) -> IntArray:
    """Share a sample equally among strata; strata that are too small give all they have.

    Equal, not proportional shares, since a guarantee is made per value and rare values have few labels.

    Args:
        sizes: labels per stratum, int [H].
        num: labels to sample.

    Returns:
        int [H], at most `sizes`. A remainder goes to the largest strata, among equal ones to the first.

    >>> allocate([500, 3, 40], 24)
    array([11,  3, 10])
    """
    left = np.array(sizes, dtype=np.int64)
    shares = np.zeros_like(left)
    missing = min(num, int(left.sum()))
    while missing:
        open_strata = np.flatnonzero(left > 0)
        share = missing // len(open_strata)
        if share == 0:
            open_strata = open_strata[np.argsort(-left[open_strata], kind="stable")][:missing]
            share = 1
        taken = np.minimum(left[open_strata], share)
        shares[open_strata] += taken
        left[open_strata] -= taken
        missing -= int(taken.sum())
    return shares


def sample_stratified(strata: IntArray, num: int, *, seed: int) -> IntArray:
    """Sample labels of every stratum without replacement.

    Args:
        strata: the stratum of each label, int [N], from 0.
        num: labels to sample in total, see `allocate`.
        seed: equal seeds give equal samples of equal strata.

    Returns:
        Positions, int [min(num, N)], stratum by stratum, in random order within each, so that the first answers are a
        sample, too.
    """
    rng = np.random.default_rng(seed)
    shares = allocate(np.bincount(strata), num)
    sampled = [
        rng.choice(np.flatnonzero(strata == stratum), size=share, replace=False) for stratum, share in enumerate(shares)
    ]
    return np.concatenate([np.zeros(0, np.int64), *sampled])


def exact_interval(num_correct: float, num_judged: float, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Compute the two-sided exact binomial interval of a share (Clopper and Pearson 1934).

    Args:
        num_correct: number of correct labels; a fraction if `num_judged` is an effective sample size.
        num_judged: number of judged labels, at least `num_correct`; 0 gives (0, 1).
        confidence: in (0, 1).

    >>> [round(bound, 3) for bound in exact_interval(19, 20)]
    [0.751, 0.999]
    """
    tail = (1 - confidence) / 2
    num_wrong = num_judged - num_correct
    lower = float(beta.ppf(tail, num_correct, num_wrong + 1)) if num_correct > 0 else 0.0
    upper = float(beta.isf(tail, num_correct + 1, num_wrong)) if num_wrong > 0 else 1.0
    return lower, upper


def estimate_precision(strata: pd.DataFrame, *, confidence: float = CONFIDENCE) -> PrecisionEstimate:
    """Estimate the precision of several strata together, each weighted by its size.

    p = Σ w_h · yes_h / (yes_h + no_h) over the strata with such an answer. The interval takes unsure answers, and strata
    without any answer, as wrong in its lower bound and as right in its upper one. Answers on faces of one person or
    picture count as one, with the mean of their answers. See `stratified_interval`.

    Args:
        strata: yes, no, unsure, num_units (independent ones among the answered faces) and size per stratum, H rows.
        confidence: of the interval, in (0, 1).
    """
    yes, no, unsure, num_units, sizes = (
        strata[name].to_numpy(np.float64) for name in ("yes", "no", "unsure", "num_units", "size")
    )
    weights, judged, answered = sizes / sizes.sum(), yes + no, yes + no + unsure
    is_judged, is_answered = judged > 0, answered > 0
    precision = None
    if is_judged.any():
        shares = yes[is_judged] / judged[is_judged]
        precision = 1.0 if (shares == 1).all() else float(np.average(shares, weights=weights[is_judged]))
    if not is_answered.any():
        return PrecisionEstimate(precision, 0.0, 1.0)
    units, per_answer = num_units[is_answered], (num_units / np.maximum(answered, 1))[is_answered]
    share = float(weights[is_answered].sum())
    lower, upper = _interval(
        yes[is_answered] * per_answer,
        (yes + unsure)[is_answered] * per_answer,
        units,
        weights[is_answered] / share,
        confidence,
    )
    return PrecisionEstimate(precision, share * lower, share * upper + 1 - share)


def _interval(
    surely: FloatArray, possibly: FloatArray, units: FloatArray, weights: FloatArray, confidence: float
) -> tuple[float, float]:
    """Bound the precision by the surely right units from below and the possibly right ones from above, float [H] each."""
    if len(units) == 1:
        lower, _ = exact_interval(surely[0], units[0], confidence=confidence)
        return lower, exact_interval(possibly[0], units[0], confidence=confidence)[1]
    surely, possibly = np.minimum(surely, units), np.minimum(possibly, units)  # rounding may have left them above
    alpha = (1 - confidence) / 2
    return (
        float(lower_bounds(surely[None], units, weights, alpha=alpha)[0]),
        float(upper_bounds(possibly[None], units, weights, alpha=alpha)[0]),
    )


def audit(
    manifest: Manifest, sample: pd.DataFrame, answers: "pd.Series[str]", truth: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Estimate the precision of the accepted pseudo-labels from a person's answers, and test the guarantee.

    Args:
        manifest: the manifest.
        sample: rows of `sample_audit`.
        answers: ``yes``, ``no``, ``unsure`` or, not answered yet, an empty text for each row.
        truth: image_id and one nullable column per attribute, where the run hid labels of the pool.

    Returns:
        JSON-able. ``guarantee``: `target`, None without a guaranteed precision, and `under_strong_shift`. ``confidence``
        of the intervals. ``num_sampled`` and ``num_answered``. ``overall``, ``per_attribute`` and ``per_value`` (attribute
        → value), each with num_labels, num_judged (yes or no), num_units (independent ones among the answered faces),
        num_correct, num_unsure, precision, lower, upper; ``reference``, the target, else the mean confidence; ``verdict``
        against it (kept, broken, open; never kept while no label of a value could be judged); ``words``; and
        ``true_precision`` of all accepted labels with known truth, None without any.
    """
    settings = manifest.selection["settings"]
    target = settings.get("target") if settings.get("type") == "precision_guarantee" else None
    labels = accepted_labels(manifest)
    labels["true"] = _true_values(labels, manifest, truth)
    labels["matches"] = (labels["true"] == labels["value"]).where(labels["true"].notna())
    strata = labels.groupby("stratum", sort=True).agg(
        attribute=("attribute", "first"),
        value=("value", "first"),
        size=("value", "size"),
        confidence=("confidence", "mean"),
        num_known=("true", "count"),
        num_matching=("matches", "sum"),
    )
    for answer in ANSWERS:
        strata[answer] = sample.loc[answers == answer, "stratum"].value_counts().reindex(strata.index, fill_value=0)
    answered = sample[(answers != "").to_numpy(bool)]
    strata["num_units"] = answered.groupby("stratum")["unit"].nunique().reindex(strata.index, fill_value=0)
    per_attribute = {name: _estimate(rows, target) for name, rows in strata.groupby("attribute", sort=False)}
    per_value: dict[str, dict[str, Any]] = {str(name): {} for name in per_attribute}
    for stratum in strata.index:
        row = strata.loc[[stratum]]
        per_value[row["attribute"].iloc[0]][row["value"].iloc[0]] = _estimate(row, target)
    shift: Mapping[str, Any] = manifest.selection.get("shift") or {}
    return {
        "manifest": str(manifest.path),
        "identity": asdict(manifest.identity),
        "guarantee": {"target": target, "under_strong_shift": shift.get("strong", False)},
        "confidence": CONFIDENCE,
        "num_sampled": len(sample),
        "num_answered": len(answered),
        "overall": _estimate(strata, target),
        "per_attribute": per_attribute,
        "per_value": per_value,
    }


def _estimate(strata: pd.DataFrame, target: float | None) -> dict[str, Any]:
    """Estimate the precision of strata together and compare it with the target or the mean confidence."""
    num_judged = strata["yes"] + strata["no"]
    unjudged = strata.loc[num_judged == 0, "value"].tolist()
    estimate = estimate_precision(strata)
    reference = float(np.average(strata["confidence"], weights=strata["size"])) if target is None else target
    if estimate.lower >= reference and not unjudged:
        verdict, comparison = "kept", "is at least"
    elif estimate.upper < reference:
        verdict, comparison = "broken", "is below"
    else:
        verdict, comparison = "open", "may be above or below"
    words = f"precision {comparison} the {'mean confidence' if target is None else 'guaranteed'} {reference:.1%}"
    if estimate.precision is not None:
        words += f": {estimate.precision:.1%}, interval {estimate.lower:.1%} to {estimate.upper:.1%}"
    if unjudged:
        words += f"; no label could be judged of {', '.join(unjudged)}"
    num_known = strata["num_known"].sum()
    return {
        "num_labels": int(strata["size"].sum()),
        "num_judged": int(num_judged.sum()),
        "num_units": int(strata["num_units"].sum()),
        "num_correct": int(strata["yes"].sum()),
        "num_unsure": int(strata["unsure"].sum()),
        **asdict(estimate),
        "true_precision": float(strata["num_matching"].sum() / num_known) if num_known else None,
        "reference": reference,
        "verdict": verdict,
        "words": words,
    }


def _true_values(labels: pd.DataFrame, manifest: Manifest, truth: pd.DataFrame | None) -> "pd.Series[Any]":
    """Return the true value of each accepted label, None where unknown."""
    if truth is None or truth.empty:
        return pd.Series(None, index=labels.index, dtype=object)
    known = truth.set_index("image_id").reindex(labels["image_id"])
    class_ids = manifest.labels.class_ids(manifest.labels.encode(known))
    class_names = np.array([*manifest.labels.class_names, None], dtype=object)  # class id -1, unknown, is the last
    values = class_names[class_ids]
    for name in manifest.labels.names:
        is_attribute = (labels["attribute"] == name).to_numpy(bool)
        column = known[name].astype(object).where(known[name].notna(), None).to_numpy(object)
        values[is_attribute] = column[is_attribute]
    return pd.Series(values, index=labels.index, dtype=object)


def _labels_of(rows: pd.DataFrame, attribute: str, values: Any, confidences: Any, codes: Any) -> pd.DataFrame:
    labels = pd.DataFrame(
        {
            "image_id": rows["image_id"].to_numpy(object),
            "image_path": rows["image_path"].to_numpy(object),
            "unit": rows["unit"].to_numpy(np.int64),
            "attribute": attribute,
            "value": np.asarray(values, dtype=object),
            "confidence": np.asarray(confidences, dtype=np.float64),
            "code": codes,
        }
    )
    return labels.sort_values(["code", "image_id"], kind="stable", ignore_index=True)
