"""Teacher against student: verdict in sentences, tables for a terminal and in Markdown."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from ssl_pipeline.points import signed
from ssl_pipeline.reports.manifest_tables import right_words
from ssl_pipeline.reports.markdown import markdown_code, markdown_safe
from ssl_pipeline.reports.tables import add_row, new_table


def verdict(summary: dict[str, Any]) -> str:
    """State in a few sentences whether the student is better, on validation and test, and where it is worse."""
    endings = [_review_sentence(summary["reviews"][-1])] if summary.get("status") == "stopped by review" else []
    if (changed := summary.get("changed_labels")) and not changed["should_continue"]:
        endings.append(f"No student was trained in round {changed['round_index']}: {changed['words']}.")
    if not summary.get("pool_teaches", True):
        endings.append(
            "No pseudo-label was accepted and no label of the pool is known, so no student was trained: without them it "
            "would be another teacher."
        )
    if refused := summary.get("refused"):
        endings.append(
            f"The guards refused these pseudo-labels, so no student was trained on them: {'; '.join(refused)}."
        )
    if summary["student"] is None:
        stays = "There is no student: the teacher stays, and the test split was not used."
        return " ".join([*endings, stays, _validation_sentence(summary["teacher"]["validation"])])
    teacher, student = summary["teacher"], summary["student"]
    gain = 100 * (student["test"]["macro_f1"] - teacher["test"]["macro_f1"])
    test_result = f"on the test split it is {_apart(gain)} the teacher"
    shift = summary.get("shift") or {}
    warning = [f"Warning, strong shift: {shift['words']}."] if shift.get("strong") else []
    if summary["promoted"] == "teacher":
        kept = (
            f"The gate promoted no student: the teacher stays. The student of round {student['round']}: {test_result}."
        )
        why = [f"The gate: {summary['rounds'][-1]['reason']}."] if summary.get("rounds") else []
        return " ".join(
            [
                *endings,
                kept,
                *why,
                _interval_sentence(summary),
                *_control_sentences(summary),
                *_cost_sentences(summary),
                *warning,
            ]
        )
    sentences = [f"The student of round {student['round']} is promoted: it is better on validation, and {test_result}."]
    if gain <= 0:
        sentences.append("The gain on validation did not carry over to test: examine this student before you use it.")
    losses = [
        f"{metric.removesuffix(' macro F1')} ({signed(100 * (student_value - teacher_value))})"
        for metric, teacher_value, student_value in comparison_rows(summary)
        if metric.endswith("macro F1")
        and not metric.startswith("joint")
        and round(100 * (student_value - teacher_value), 1) < 0
    ]
    if losses:
        sentences.append(f"Its macro F1 on test is below the teacher's on {' and '.join(losses)}.")
    comparison = [_interval_sentence(summary), *_control_sentences(summary), *_cost_sentences(summary)]
    return " ".join([*endings, *sentences, *comparison, *warning])


def _apart(points: float) -> str:
    """Say how far above or below, or that it is level."""
    if not round(points, 1):
        return "level in macro F1 with"
    return f"{abs(points):.1f} points of macro F1 {'above' if points > 0 else 'below'}"


def _validation_sentence(scores: Mapping[str, Any]) -> str:
    parts = [f"{name} {100 * own['accuracy']:.1f} %" for name, own in scores["per_attribute"].items()]
    return f"The teacher's accuracy on {scores['num_faces']:,} validation faces: {', '.join(parts)}."


def _review_sentence(review: dict[str, Any]) -> str:
    note = f": {review['note']}" if review["note"] else ""
    return f"{review['reviewer']} rejected the selection of round {review['round']}, which ended the cycle{note}."


def _is_undecided(difference: Mapping[str, Any]) -> bool:
    """Return whether the test faces are too few, or the interval of a comparison holds 0."""
    overall = difference["overall"]
    return not difference["has_enough_units"] or overall["lower"] <= 0 <= overall["upper"]


def _interval_sentence(summary: dict[str, Any]) -> str:
    """State the difference on test with its interval, and the groups of faces that got worse."""
    difference = summary["test_difference"]
    ending = "; the test faces cannot decide which model is better." if _is_undecided(difference) else "."
    groups = f" By groups: {difference['group_words']}." if difference["group_words"] else ""
    return f"Difference on test: {difference['overall_words']}{ending}{groups}"


def _control_sentences(summary: dict[str, Any]) -> list[str]:
    """State how much of the student's gain the pool brought: what it has above its control."""
    if summary.get("control") is None:
        return []
    teacher, control = (summary[name]["test"]["macro_f1"] for name in ("teacher", "control"))
    difference = summary["control_difference"]
    ending = "; the test faces cannot decide whether the pool helped" if _is_undecided(difference) else ""
    return [
        f"The control, the same training without the pool, is {signed(100 * (control - teacher))} points from the "
        f"teacher; the pool brought {difference['overall_words']}{ending}."
    ]


def _cost_sentences(summary: dict[str, Any]) -> list[str]:
    """Weigh a vote against the student: size, speed and accuracy; nothing if the teacher is one network."""
    if not summary.get("members") or not summary.get("costs"):
        return []
    student, vote = summary["costs"]["student"], summary["costs"]["teacher"]
    accuracy = [summary[model]["test"]["accuracy"] for model in ("teacher", "student")]
    ahead = 100 * (accuracy[0] - accuracy[1])
    ahead_words = f"{abs(ahead):.1f} points {'more' if ahead > 0 else 'less'}" if round(ahead, 1) else "as"
    kind = f"vote is {vote['num_models']} models" if vote["num_models"] > 1 else "teacher is one model"
    return [
        f"The student is one network of {_size(student)} and {_speed(student)}; the {kind} of {_size(vote)}, "
        f"{_speed(vote)}, and is {ahead_words} accurate on test."
    ]


def _size(cost: Mapping[str, Any]) -> str:
    number = cost["num_parameters"]
    counted = "" if number is None else f" ({number / 1e6:.2f} million parameters)"
    return f"{cost['num_bytes'] / 1e6:.1f} MB{counted}"


def _speed(cost: Mapping[str, Any]) -> str:
    speed = cost["faces_per_second"]
    if speed is None:
        return "cannot predict new images (a teacher of type features has those of this run's faces only)"
    return f"predicts {speed:,.{0 if speed >= 10 else 1}f} faces/s"


def _cost_rows(summary: dict[str, Any]) -> list[list[str]]:
    """Format size and speed of teacher and student for the page."""
    if not (costs := summary.get("costs")):
        return []
    control = [""] if summary.get("control") else []
    models = costs["teacher"], costs["student"]
    parameters = ["–" if own["num_parameters"] is None else f"{own['num_parameters'] / 1e6:.2f}" for own in models]
    speeds = [
        "not of new images" if own["faces_per_second"] is None else f"{own['faces_per_second']:,.1f}" for own in models
    ]
    rows = [
        ("size of the checkpoint, MB", [f"{own['num_bytes'] / 1e6:.1f}" for own in models]),
        ("million parameters", parameters),
        (f"faces per second on {costs['student']['device']}", speeds),
    ]
    return [[name, teacher, *control, student, ""] for name, (teacher, student) in rows]


def comparison_rows(summary: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return (metric, teacher, student) of the test split, joint first, then per attribute; values in [0, 1]."""
    return score_rows(summary["teacher"]["test"], summary["student"]["test"])


def score_rows(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return (metric, teacher, student) from two models' scores on the same faces, joint first, then per attribute.

    With one attribute, the joint scores are its scores, and are left out.
    """
    is_joint = len(teacher["per_attribute"]) > 1
    rows = [(f"joint {metric}", teacher[name], student[name]) for name, metric in _METRICS if is_joint]
    for attribute, scores in teacher["per_attribute"].items():
        student_scores = student["per_attribute"][attribute]
        rows += [(f"{attribute} {metric}", scores[name], student_scores[name]) for name, metric in _METRICS]
    return rows


def comparison_table(summary: dict[str, Any]) -> Table:
    """Render the comparison on the test split for a terminal."""
    num_faces = summary["teacher"]["test"]["num_faces"]
    table = new_table(f"Teacher against student on {num_faces:,} test faces", *_columns(summary))
    for row in _rows(summary):
        add_row(table, *row)
    return table


def comparison_markdown(summary: dict[str, Any]) -> str:
    """Render the verdict and, if there is a student, the comparison as Markdown."""
    text, manifest = markdown_safe(verdict(summary)), ["", f"Manifest: {markdown_code(summary['manifest'])}", ""]
    if summary.get("members"):
        vote = {"vote": summary["teacher"]["validation"]}
        manifest = ["", *members_markdown({**summary["members"], **vote}), *manifest]
    if summary["student"] is None:
        return "\n".join([text, *manifest])
    if answered := answers_sentence(summary.get("answers")):
        manifest = ["", f"Student: {markdown_safe(answered)}", *manifest]
    if labels := student_labels_sentence(summary):
        manifest = ["", markdown_safe(labels), "", *_student_labels_markdown(summary["student_labels"]), *manifest]
    columns = _columns(summary)
    lines = [text, "", f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    lines += [f"| {' | '.join(map(markdown_safe, row))} |" for row in [*_rows(summary), *_cost_rows(summary)]]
    return "\n".join([*lines, *manifest])


def _columns(summary: dict[str, Any]) -> list[str]:
    control = ["control"] if summary.get("control") else []
    return ["%", "teacher", *control, f"student (round {summary['student']['round']})", "difference"]


def _rows(summary: dict[str, Any]) -> list[list[str]]:
    """Format each metric of teacher, control (if any) and student; the difference is to the teacher."""
    rows = [
        [metric, f"{100 * teacher:.1f}", f"{100 * student:.1f}", signed(100 * (student - teacher))]
        for metric, teacher, student in comparison_rows(summary)
    ]
    if summary.get("control"):
        controls = score_rows(summary["teacher"]["test"], summary["control"]["test"])
        for row, (_, _, control) in zip(rows, controls, strict=True):
            row.insert(2, f"{100 * control:.1f}")
    return rows


def members_markdown(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Render the validation scores of the teachers that vote, each alone and together."""
    attributes = list(next(iter(scores.values()))["per_attribute"])
    heads = ["macro F1", "accuracy", *(f"{name} accuracy" for name in attributes)]
    lines = [f"| teacher, % on validation | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for name, own in scores.items():
        numbers = [own["macro_f1"], own["accuracy"], *(own["per_attribute"][part]["accuracy"] for part in attributes)]
        lines.append(f"| {markdown_safe(name)} | {' | '.join(f'{100 * number:.1f}' for number in numbers)} |")
    return lines


def members_sentence(summary: Mapping[str, Any]) -> str:
    """State the accuracy of the teachers that vote, alone and together, on validation; empty for one network."""
    if not summary.get("members"):
        return ""
    parts = [f"{name} {100 * scores['accuracy']:.1f}" for name, scores in summary["members"].items()]
    together = 100 * summary["teacher"]["validation"]["accuracy"]
    return f"Teachers on validation, accuracy in %: {', '.join(parts)}; their vote {together:.1f}."


def selection_sentence(
    counts: Mapping[str, int], precision: Mapping[str, Any] | None, *, removed: Mapping[str, int] | None = None
) -> str:
    """State how many candidates were accepted and, where hidden labels tell it, how many accepted values are right.

    Args:
        counts: of the candidates.
        precision: see `summary.precision`.
        removed: faces that were removed from the pool before, by the split that has them or ``pool``.
    """
    right = [
        f"{name} {100 * own['precision']:.1f} % of {own['num']:,}"
        for name, own in (precision or {}).items()
        if name != "joint" and own["precision"] is not None
    ]
    return (
        f"Pseudo-labels: {counts['accepted']:,} of {counts['candidates']:,} candidates accepted, "
        f"{counts['rejected']:,} rejected, {counts['unreadable']:,} unreadable"
        + (f"; right, by the hidden labels: {', '.join(right)}." if right else ".")
        + "".join(f" {words}." for words in removed_words(removed or {}))
    )


def removed_words(removed: Mapping[str, int]) -> list[str]:
    """Say how many faces were removed from the pool, and why; empty if none.

    Args:
        removed: by the split that has the picture or the person, or ``pool`` for duplicates.
    """
    duplicates, leaks = removed.get("pool", 0), {name: num for name, num in removed.items() if num and name != "pool"}
    words = []
    if leaks:
        parts = ", ".join(f"{number:,} {split}" for split, number in leaks.items())
        words.append(f"Removed from the pool, as labeled faces show the same picture or person: {parts}")
    if duplicates:
        words.append(f"Removed from the pool as duplicates: {duplicates:,}")
    return words


def answers_sentence(answers: Mapping[str, int] | None) -> str:
    """State how many human answers a student was trained with, see `stages.answers.RunAnswers.counts`; empty without any."""
    if not answers:
        return ""
    faces, labeled, corrected, left_out = (
        f"{answers[key]:,} {noun}{'' if answers[key] == 1 else 's'}"
        for key, noun in (
            ("faces", "face"),
            ("labeled", "label"),
            ("corrected", "corrected label"),
            ("left_out", "label"),
        )
    )
    return (
        f"Trained with people's answers about {faces}: {labeled} of the pool, {corrected} of labeled faces, "
        f"{left_out} left out."
    )


def student_labels_sentence(summary: Mapping[str, Any]) -> str:
    """State what the compared student says of the pool, and what changed since its teacher; empty if it was not asked."""
    labels = summary.get("student_labels")
    if labels is None:
        return ""
    counts, per_attribute = labels["counts"], labels["difference"]["per_attribute"]
    changes = [
        f"{name} {own['gained']:,} gained, {own['lost']:,} lost, {own['changed']:,} changed{right_words(own, 'changed')}"
        for name, own in per_attribute.items()
    ]
    faults = [fault.partition("; ")[0] for fault in labels["faults"]]  # without the cures: nobody trains on them
    warning = f" ({'; '.join(faults)})" if faults else ""
    return (
        f"The student of round {labels['student']} labels the pool once more: {counts['accepted']:,} of "
        f"{counts['candidates']:,} candidates accepted{warning}. Against the labels that it was trained on: {'; '.join(changes)}. "
        f"Its manifest: {labels['manifest']}"
    )


def _student_labels_markdown(labels: Mapping[str, Any]) -> list[str]:
    """Render the changes since the teacher's labels, per attribute, and the precision where the truth is known."""
    lines = [
        "| the student's labels | precision % | kept | gained | lost | changed | another value, accepted or not |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, own in labels["difference"]["per_attribute"].items():
        precision = ((labels["precision"] or {}).get(name) or {}).get("precision")
        numbers = [f"{own[kind]:,}{right_words(own, kind)}" for kind in ("gained", "lost", "changed", "other_value")]
        share = "" if precision is None else f"{100 * precision:.1f}"
        lines.append(f"| {markdown_safe(name)} | {share} | {own['kept']:,} | {' | '.join(numbers)} |")
    return lines


_METRICS = (("macro_f1", "macro F1"), ("accuracy", "accuracy"))
