"""A manifest put before a person: the sheet to fill in, and what the answers say of the accepted pseudo-labels."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group
from rich.text import Text

from ssl_pipeline.errors import ManifestError, list_of_faults
from ssl_pipeline.pseudo_labels.auditing import CONFIDENCE, sample_stratified, weighted_precision
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.manifest_report import add_row, new_table, without_formulas
from ssl_pipeline.runs.files import atomic_path

COLUMNS = ("number", "image_id", "attribute", "value", "confidence", "right")
ANSWERS = ("yes", "no", "unsure")
_IDENTITY = ("image_id", "attribute", "value")  # of a label


def accepted_labels(manifest: Manifest) -> pd.DataFrame:
    """List the accepted pseudo-labels, a row each, in the order of attributes, values, then image ids.

    Returns:
        image_id, image_path, attribute, value, confidence, and stratum, int from 0. With ``per: class`` a face has one
        label, its class, and `attribute` is ``class``.
    """
    faces, parts = manifest.faces, []
    if manifest.selection["settings"].get("per") == "class":
        rows = faces[(faces["status"] == "accepted").to_numpy(bool)]
        class_ids = rows["class_id"].to_numpy(np.int64)
        parts.append(_labels_of(rows, "class", rows["class_name"], rows["confidence"], class_ids))
    else:
        for position, name in enumerate(manifest.labels.names):
            chosen = manifest.accepted[:, position]
            rows, codes = faces[chosen], manifest.codes[chosen, position]
            parts.append(_labels_of(rows, name, rows[name], rows[f"{name}_confidence"], codes))
    labels = pd.concat(parts, ignore_index=True)
    labels["stratum"] = labels.groupby(["attribute", "code"], sort=False).ngroup().astype(np.int64)
    return labels.drop(columns="code")


def sample_audit(manifest: Manifest, *, num: int, seed: int) -> pd.DataFrame:
    """Draw the labels that a person is to judge: every value alike, the same ones for the same seed.

    Args:
        manifest: as read.
        num: labels to draw; all of them where there are fewer.
        seed: of the draw.

    Returns:
        Rows of `accepted_labels`, with `number` from 1.

    Raises:
        ManifestError: if nothing is accepted, or there are more values than `num`.
    """
    labels = accepted_labels(manifest)
    if labels.empty:
        raise ManifestError(f"{manifest.path}: no pseudo-label is accepted, so there is nothing to audit")
    num_strata = labels["stratum"].nunique()
    if num < num_strata:
        raise ManifestError(
            f"--sample {num}: there are accepted labels of {num_strata} values, and each needs to be looked at; "
            f"give at least {num_strata}"
        )
    drawn = labels.iloc[sample_stratified(labels["stratum"].to_numpy(), num, seed=seed)].reset_index(drop=True)
    return drawn.assign(number=np.arange(1, len(drawn) + 1))


def captions(drawn: pd.DataFrame) -> list[str]:
    """Say what is claimed of each label that `sample_audit` drew, as ``age: <30``."""
    return [f"{attribute}: {value}" for attribute, value in zip(drawn["attribute"], drawn["value"], strict=True)]


def write_sheet(path: Path, drawn: pd.DataFrame) -> None:
    """Write what `sample_audit` drew as CSV, the column `right` left empty; texts are kept from becoming formulas."""
    sheet = drawn.assign(confidence=drawn["confidence"].map("{:.4f}".format), right="")[list(COLUMNS)]
    with atomic_path(path) as beside:
        sheet.apply(without_formulas).to_csv(beside, index=False, lineterminator="\n", encoding="utf-8")


def read_answers(path: Path, drawn: pd.DataFrame) -> "pd.Series[str]":
    """Read a sheet that was filled in, rows in any order, separated by commas or, as some spreadsheets do, semicolons.

    Args:
        path: the CSV file.
        drawn: what the sheet asks, by `sample_audit`.

    Returns:
        ``yes``, ``no`` or ``unsure`` for each row of `drawn`.

    Raises:
        ManifestError: if it cannot be read, is of other labels, or an answer is missing, doubled or none of the three.
    """
    rows = _read_rows(path)
    asked = drawn[list(_IDENTITY)].apply(without_formulas).astype("str").to_numpy(object).tolist()
    by_number = {str(number): texts for number, texts in zip(drawn["number"], asked, strict=True)}
    answers: dict[str, str] = {}
    others, faults = [], []
    for place, row in enumerate(rows, start=2):
        number = (row["number"] or "").strip()
        if [row[name] for name in _IDENTITY] != by_number.get(number):
            others.append(
                f"row {place}: number {number or 'missing'}, {row['image_id']}, {row['attribute']} {row['value']}"
            )
            continue
        answer = (row["right"] or "").strip().lower()
        if number in answers:
            faults.append(f"row {place}: number {number} a second time")
        elif answer not in ANSWERS:
            faults.append(f"row {place}: number {number}, right: expected yes, no or unsure, got '{answer}'")
        answers[number] = answer
    if others:
        raise ManifestError(
            list_of_faults(
                f"{path}: {len(others):,} of {len(rows):,} rows are not of the sample of this manifest; give the "
                "--sample and --seed that the sheet was drawn with",
                others,
            )
        )
    faults += [f"number {number} is missing" for number in by_number if number not in answers]
    if faults:
        raise ManifestError(list_of_faults(f"{path}: incomplete answers; fill in the column 'right'", faults))
    return pd.Series([answers[str(number)] for number in drawn["number"]], index=drawn.index, dtype="str")


def audit(
    manifest: Manifest, drawn: pd.DataFrame, answers: "pd.Series[str]", truth: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Tell from a person's answers how pure the accepted pseudo-labels are, and whether the guarantee holds.

    Args:
        manifest: as read.
        drawn: by `sample_audit`.
        answers: of each row; ``unsure`` judges nothing.
        truth: image_id and a nullable column an attribute, where a run hid what it knows of the pool.

    Returns:
        JSON-able: `guarantee` (`target`, None without a guaranteed precision; `under_strong_shift`), `confidence` of the
        intervals, `num_drawn`, `overall`, `per_attribute` and `per_value` (attribute → value). Each has num_labels,
        num_judged, num_right, num_unsure, precision, lower, upper, `guaranteed`, `verdict` (kept, broken, open) and `words`;
        and `true_purity`, of all accepted labels whose truth is known, None without any.
    """
    settings = manifest.selection["settings"]
    target = settings.get("target") if settings.get("type") == "precision_guarantee" else None
    labels = accepted_labels(manifest)
    labels["true"] = _true_values(labels, manifest, truth)
    labels["truly_right"] = (labels["true"] == labels["value"]).where(labels["true"].notna())
    table = labels.groupby("stratum", sort=True).agg(
        attribute=("attribute", "first"),
        value=("value", "first"),
        size=("value", "size"),
        confidence=("confidence", "mean"),
        num_known=("true", "count"),
        num_truly_right=("truly_right", "sum"),
    )
    for answer in ANSWERS:
        table[answer] = drawn.loc[answers == answer, "stratum"].value_counts().reindex(table.index, fill_value=0)
    per_attribute = {name: _judged(rows, target) for name, rows in table.groupby("attribute", sort=False)}
    per_value: dict[str, dict[str, Any]] = {str(name): {} for name in per_attribute}
    for stratum in table.index:
        row = table.loc[[stratum]]
        per_value[row["attribute"].iloc[0]][row["value"].iloc[0]] = _judged(row, target)
    return {
        "manifest": str(manifest.path),
        "identity": asdict(manifest.identity),
        "guarantee": {
            "target": target,
            "under_strong_shift": (manifest.selection.get("shift") or {}).get("strong", False),
        },
        "confidence": CONFIDENCE,
        "num_drawn": len(drawn),
        "overall": _judged(table, target),
        "per_attribute": per_attribute,
        "per_value": per_value,
    }


def render_audit(found: Mapping[str, Any]) -> Group:
    """Draw `audit` for a terminal."""
    table = new_table(
        f"Precision of accepted pseudo-labels, by {found['num_drawn']:,} judged by a person",
        *(
            "of",
            "value",
            "labels",
            "judged",
            "right",
            "unsure",
            "precision",
            "interval",
            "truly",
            "guaranteed",
            "verdict",
        ),
        left=2,
    )
    table.columns[-1].justify = "left"
    for name, own in found["per_attribute"].items():
        for value, numbers in found["per_value"][name].items():
            _add_judged(table, name, value, numbers)
        if len(found["per_value"][name]) > 1:
            _add_judged(table, name, "all", own)
    overall = found["overall"]
    if len(found["per_attribute"]) > 1:
        _add_judged(table, "overall", "", overall)
    told = (
        "guaranteed precision"
        if found["guarantee"]["target"] is not None
        else "nothing was guaranteed; mean confidence"
    )
    lines = [
        f"Measured against: {told}. Intervals: {found['confidence']:.0%}, exact; several values are weighed by size."
    ]
    if found["guarantee"]["under_strong_shift"]:
        lines.append(
            "The selection was made under strong shift: what validation faces guarantee is about other faces than these."
        )
    broken = [
        f"{name} {value}"
        for name, values in found["per_value"].items()
        for value, numbers in values.items()
        if numbers["verdict"] == "broken"
    ]
    if overall["true_purity"] is not None:
        lines.append("Truly: the share of all accepted labels that is right by what the run knows and hid.")
    lines.append(f"Overall {overall['words']}.")
    if broken:
        lines.append(f"Surely below it: {', '.join(broken)}.")
    return Group(table, Text("\n".join(lines)))


def _true_values(labels: pd.DataFrame, manifest: Manifest, truth: pd.DataFrame | None) -> "pd.Series[Any]":
    """Look up what accepted labels ought to be, in the order of `labels`; null where nobody knows."""
    if truth is None or truth.empty:
        return pd.Series(None, index=labels.index, dtype=object)
    known = truth.set_index("image_id").reindex(labels["image_id"])
    class_ids = manifest.labels.class_ids(manifest.labels.encode(known))
    names = np.array([*manifest.labels.class_names, None], dtype=object)  # -1, not wholly known, is the last
    found = names[class_ids]
    for name in manifest.labels.names:
        of_attribute = (labels["attribute"] == name).to_numpy(bool)
        found[of_attribute] = known[name].astype(object).where(known[name].notna(), None).to_numpy(object)[of_attribute]
    return pd.Series(found, index=labels.index, dtype=object)


def _labels_of(rows: pd.DataFrame, attribute: str, values: Any, confidences: Any, codes: Any) -> pd.DataFrame:
    labels = pd.DataFrame(
        {
            "image_id": rows["image_id"].to_numpy(object),
            "image_path": rows["image_path"].to_numpy(object),
            "attribute": attribute,
            "value": np.asarray(values, dtype=object),
            "confidence": np.asarray(confidences, dtype=np.float64),
            "code": codes,
        }
    )
    return labels.sort_values(["code", "image_id"], kind="stable", ignore_index=True)


def _read_rows(path: Path) -> list[dict[str, str | None]]:
    """Read the rows of a sheet.

    Raises:
        ManifestError: if there is no file, it is no UTF-8 text, or a column is missing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path}: not UTF-8 text; save the sheet as CSV UTF-8") from None
    lines = text.splitlines()
    separator = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=separator)
    header = reader.fieldnames or ()
    if missing := [name for name in COLUMNS if name not in header and name != "confidence"]:
        raise ManifestError(f"{path}: no column {', '.join(missing)}; the header has {list(header)}")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise ManifestError(f"{path}: columns twice: {', '.join(twice)}")
    return list(reader)


def _judged(strata: pd.DataFrame, target: float | None) -> dict[str, Any]:
    """Judge strata together: their numbers, the estimate, and whether it keeps what was guaranteed."""
    num_right, num_judged = strata["yes"], strata["yes"] + strata["no"]
    estimate = weighted_precision(num_right, num_judged, strata["size"])
    expected = float(np.average(strata["confidence"], weights=strata["size"]))
    guaranteed = expected if target is None else target
    unjudged = strata.loc[num_judged == 0, "value"].tolist()
    if estimate.lower >= guaranteed:
        verdict, words = "kept", "is surely at least"
    elif estimate.upper < guaranteed:
        verdict, words = "broken", "is surely below"
    else:
        verdict, words = "open", "may lie on either side of"
    what = "the mean confidence of" if target is None else "the guaranteed"
    text = f"precision {words} {what} {guaranteed:.1%}"
    if estimate.precision is not None:
        text += f": {estimate.precision:.1%}, between {estimate.lower:.1%} and {estimate.upper:.1%}"
    if unjudged:
        text += f"; nothing could be judged of {', '.join(unjudged)}"
    return {
        "num_labels": int(strata["size"].sum()),
        "num_judged": int(num_judged.sum()),
        "num_right": int(num_right.sum()),
        "num_unsure": int(strata["unsure"].sum()),
        **asdict(estimate),
        "true_purity": float(strata["num_truly_right"].sum() / known) if (known := strata["num_known"].sum()) else None,
        "guaranteed": guaranteed,
        "verdict": verdict,
        "words": text,
    }


def _add_judged(table: Any, name: str, value: str, numbers: Mapping[str, Any]) -> None:
    counts = [f"{numbers[what]:,}" for what in ("num_labels", "num_judged", "num_right", "num_unsure")]
    precision = "" if numbers["precision"] is None else f"{numbers['precision']:.1%}"
    interval = f"{numbers['lower']:.1%} to {numbers['upper']:.1%}"
    truly = "" if numbers["true_purity"] is None else f"{numbers['true_purity']:.1%}"
    add_row(table, name, value, *counts, precision, interval, truly, f"{numbers['guaranteed']:.1%}", numbers["verdict"])
