"""What the report says, from a run's records: sentences, and rows for its charts. Scores are in percent."""

from collections.abc import Iterator, Mapping
from typing import Any

from ssl_pipeline.points import signed
from ssl_pipeline.reports.cards import wilson_interval
from ssl_pipeline.reports.comparison import selection_sentence, student_labels_sentence, verdict

MODELS = ("teacher", "control", "student")
_MAX_CLASSES, _MAX_REASONS = 40, 6


def headline(facts: Mapping[str, Any]) -> tuple[str, str]:
    """State the result in a line, and in full."""
    summary = facts["summary"]
    if not summary:
        return "This run has not been compared yet", (
            "The cycle has not reached its end with these pseudo-labels: what follows is what is known so far."
        )
    if summary["student"] is None:
        return "The teacher stays: there is no student", verdict(summary)
    gain = 100 * (summary["student"]["test"]["macro_f1"] - summary["teacher"]["test"]["macro_f1"])
    if summary["promoted"] == "student":
        return f"The student is promoted: {signed(gain)} points of macro F1 over its teacher", verdict(summary)
    return f"The teacher stays: the student is {signed(gain)} points of macro F1 from it", verdict(summary)


def score_rows(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each model's macro F1 with its interval."""
    return [
        {
            "model": name,
            "value": 100 * scores["macro_f1"],
            "lower": 100 * scores["interval"][0],
            "upper": 100 * scores["interval"][1],
            "accuracy": 100 * scores["accuracy"],
            "num_faces": scores["num_faces"],
            "split": scores["split"],
        }
        for name, scores in facts["scores"].items()
    ]


def gain_rows(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the student's gain over its teacher, and its two parts, with intervals."""
    summary = facts["summary"]
    rows = []
    for name, comparison in (
        ("Student over teacher", summary.get("test_difference")),
        ("From the pool", summary.get("control_difference")),
        ("From more training", facts["control_over_teacher"]),
    ):
        if comparison:
            overall = comparison["overall"]
            numbers = {end: 100 * overall[end] for end in ("difference", "lower", "upper")}
            rows.append({"name": name, **numbers, "has_interval": comparison["has_enough_units"]})
    return rows


def small_multiples(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return charts on one scale: F1 per attribute, value and class, accuracy per group; each with rows of models."""
    scores = facts["scores"]
    if len(scores) < 2:
        return []
    first, few = next(iter(scores.values())), facts["min_units"]
    charts: list[dict[str, Any]] = [{"title": "Attributes", "measure": "macro F1", "rows": []}]
    charts[0]["rows"] = [
        _row(
            name,
            first["num_faces"],
            few,
            {own: part["per_attribute"][name]["macro_f1"] for own, part in scores.items()},
        )
        for name in first["per_attribute"]
    ]
    for name, attribute in first["per_attribute"].items():
        rows = [
            _row(
                value,
                own["num_faces"],
                few,
                {m: s["per_attribute"][name]["per_value"][value]["f1"] for m, s in scores.items()},
            )
            for value, own in attribute["per_value"].items()
        ]
        charts.append({"title": name, "measure": "F1", "rows": rows})
    classes = [
        _row(name, own["num_faces"], few, {model: part["per_class"][name]["f1"] for model, part in scores.items()})
        for name, own in first["per_class"].items()
    ]
    charts.append(
        {"title": "Classes", "measure": "F1", "rows": classes[:_MAX_CLASSES], "left_out": len(classes) - _MAX_CLASSES}
    )
    for column, groups in first["per_group"].items():
        rows = [
            _row(
                value,
                group["num_faces"],
                few,
                {m: s["per_group"][column][value]["accuracy"] for m, s in scores.items()},
            )
            for value, group in groups.items()
        ]
        for row, group in zip(rows, groups, strict=True):
            share = scores[list(scores)[-1]]["per_group"][column][group]["accuracy"]
            row["interval"] = [100 * end for end in wilson_interval(share, row["num_faces"])]
        charts.append({"title": f"Group: {column}", "measure": "class right", "rows": rows})
    return charts


def _row(name: str, num_faces: int, min_faces: int, values: Mapping[str, float | None]) -> dict[str, Any]:
    known = {model: 100 * value for model, value in values.items() if value is not None}
    return {"name": name, "num_faces": num_faces, "few": num_faces < min_faces, "values": known}


def label_bars(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return per attribute what became of the pool: known before, accepted, rejected by reason."""
    selection = facts["selection"]
    bars = []
    for name, counts in selection["per_attribute"].items():
        prefix = f"{name}: "
        reasons = [
            (reason.removeprefix(prefix), number)
            for reason, number in selection["rejection_reasons"].items()
            if reason.startswith(prefix)
        ]
        parts = [("known before", "known", counts["known"]), ("accepted", "accepted", counts["accepted"])]
        parts += [(f"rejected: {reason}", "rejected", number) for reason, number in reasons[:_MAX_REASONS]]
        if others := reasons[_MAX_REASONS:]:
            parts.append(
                (f"rejected for {len(others):,} other reasons", "rejected", sum(number for _, number in others))
            )
        parts.append(("unreadable", "unreadable", selection["counts"]["unreadable"]))
        shown = [{"name": text, "kind": kind, "number": number} for text, kind, number in parts if number]
        precision = (selection["precision"] or {}).get(name) or {}
        bars.append(
            {"name": name, "parts": shown, "total": sum(part["number"] for part in shown), "precision": precision}
        )
    return bars


def guarantee_sentences(facts: Mapping[str, Any]) -> list[str]:
    """State what may be said of the accepted labels' precision, and under which condition, in words."""
    selection, shift = facts["selection"]["selection"], facts["selection"]["selection"].get("shift")
    settings, sentences = selection["settings"], []
    condition = "if the pool resembles the held-out faces" + _resemblance(shift)
    if settings["type"] != "precision_guarantee":
        sentences.append(
            f"Nothing is guaranteed: the labels were accepted by {settings['type'].replace('_', ' ')}. What the held-out faces "
            f"say holds only {condition}."
        )
    for row in selection["thresholds"]:
        known = f" (known: {row['known_attributes']})" if row["known_attributes"] else ""
        what = f"{row['num_accepted']:,} accepted labels {row['attribute']} {row['value']}{known}"
        if settings["type"] == "precision_guarantee" and row["threshold"] is not None and row["num_accepted"]:
            sentences.append(
                f"Of the {what}, at least {settings['target']:.0%} are right, with {1 - settings['delta']:.0%} confidence, {condition}."
            )
        elif settings["type"] == "precision_guarantee" and row["threshold"] is None and row["num_candidates"]:
            why = f": {row['note']}" if row["note"] else ""
            sentences.append(
                f"For {row['attribute']} {row['value']}{known} nothing is guaranteed and nothing accepted{why}."
            )
        elif row["num_held_out"] and row["num_accepted"]:
            bound = row["lower_bound"]
            least = "" if bound is None else f", so at least {bound:.0%} with {row['bound_confidence']:.0%} confidence"
            sentences.append(
                f"Of the {what}: as sure, {row['num_correct']:,} of {row['num_held_out']:,} held-out faces were right{least}, on faces like those."
            )
    return sentences


def _resemblance(shift: Mapping[str, Any] | None) -> str:
    if not shift or shift.get("auc") is None:
        return "; whether it does was not measured"
    return f"; it {'does not' if shift['strong'] else 'does, as far as measured'} (shift: AUC {shift['auc']:.2f}, 0.50 is none)"


def findings(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """List what a reader has to know: level (warning, note or good), title and text."""
    found = [*_selection_findings(facts), *_group_findings(facts["summary"]), *_face_findings(facts)]
    found += _calibration_findings(facts["calibration"])
    return [{"level": level, "title": title, "text": text} for level, title, text in found]


_Finding = tuple[str, str, str]


def _selection_findings(facts: Mapping[str, Any]) -> Iterator[_Finding]:
    shift = facts["selection"]["selection"].get("shift")
    if shift:
        level, title = ("warning", "Strong shift") if shift["strong"] else ("good", "No strong shift")
        yield level, title, _sentence(shift["words"])
    else:
        yield "note", "Shift", "Not measured: nobody knows whether the pool resembles the labeled faces."
    for fault in facts["selection"]["selection"]["faults"]:
        yield "warning", "Fault of the selection", fault
    if facts["summary"].get("changed_labels"):
        yield "note", "Rounds", _sentence(facts["summary"]["changed_labels"]["words"])


def _group_findings(summary: Mapping[str, Any]) -> Iterator[_Finding]:
    for name in ("teacher", "control"):
        comparison = summary.get("test_difference" if name == "teacher" else "control_difference")
        if comparison and comparison["group_words"]:
            level = "warning" if comparison["regressions"] else "note"
            yield level, f"Groups, student against {name}", _sentence(comparison["group_words"])
    if summary.get("test_difference") and not summary["test_difference"]["regressions"]:
        yield (
            "good",
            "No group lost",
            "In no tested group is the student worse than its teacher (sign test over persons).",
        )


def _face_findings(facts: Mapping[str, Any]) -> Iterator[_Finding]:
    removed = {name: number for name, number in facts["faces"]["leakage"].items() if number}
    if removed:
        words = ", ".join(f"{number:,} of {name}" for name, number in removed.items())
        yield "note", "Leaks removed", f"Faces or persons of another split, taken out of the pool: {words}."
    else:
        yield (
            "good",
            "No leaks",
            "No face and no person of the pool is in a labeled split, as far as ids and pictures tell.",
        )
    if not facts["faces"]["persons_known"]:
        yield "warning", "Persons unknown", "A face without a person counts as a person: one may be in several splits."
    if facts["faces"]["rejected"]:
        reasons = "; ".join(f"{reason}: {number:,}" for reason, number in facts["unreadable"].items())
        yield "note", "Faces that could not be used", f"{facts['faces']['rejected']:,}: {reasons}."


def _calibration_findings(calibration: Mapping[str, Any]) -> Iterator[_Finding]:
    for name, report in calibration.items():
        if "refused" in report:
            yield "note", f"The {name} is not calibrated", _sentence(str(report["refused"]))
    if not calibration:
        yield (
            "note",
            "Confidence is not calibrated",
            "0.9 need not mean nine in ten; calibration in the config fits it.",
        )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def reliability_charts(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return reliability of the class and the attributes: before and after calibration where fitted, else by model."""
    for name, report in facts["calibration"].items():
        if "before" in report:
            return [
                _reliability(f"{name}, {what}, {when} calibration", own)
                for when in ("before", "after")
                for what, own in _with_attributes(report[when])
            ]
    return [
        _reliability(f"{name}, {what}", own)
        for name in ("teacher", "student")
        if name in facts["scores"]
        for what, own in _with_attributes(facts["scores"][name])
    ]


def _with_attributes(scores: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "class", scores
    yield from scores["per_attribute"].items()


def _reliability(title: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": title,
        "error": 100 * scores["expected_calibration_error"],
        "bins": [row for row in scores["reliability"] if row["num_faces"]],
        "most": max((row["num_faces"] for row in scores["reliability"]), default=1),
    }


def histogram_charts(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the confidence of the guessed labels per attribute, with the thresholds."""
    rows = facts["selection"]["selection"]["thresholds"]
    return [
        {
            "title": name,
            **counts,
            "bars": list(zip(counts["accepted"], counts["rejected"], strict=True)),
            "most": max(map(sum, zip(counts["accepted"], counts["rejected"], strict=True))),
            "thresholds": sorted(
                {
                    round(row["threshold"], 4)
                    for row in rows
                    if row["attribute"] == name and row["threshold"] is not None
                }
            ),
        }
        for name, counts in facts["histograms"].items()
    ]


def selection_words(facts: Mapping[str, Any]) -> str:
    """State how many candidates were accepted and, where hidden labels tell it, how many are right."""
    return selection_sentence(facts["selection"]["counts"], facts["selection"]["precision"])


def student_words(facts: Mapping[str, Any]) -> str:
    """State what changed since the teacher; empty without a student's labels."""
    return student_labels_sentence(facts["summary"]) if facts["summary"] else ""
