"""Model card and data card of a finished run, as Markdown, from its records (Mitchell et al. 2019; Gebru et al. 2021)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.teachers import NetworkTeacher
from ssl_pipeline.reports.comparison import answers_sentence, verdict
from ssl_pipeline.reports.markdown import markdown_code, markdown_safe

_NUM_WORST = 5
_USE = (
    "Research, and counting in aggregate, with the consent or lawful basis that your jurisdiction requires. **Not for** "
    "identifying people, decisions about a person, surveillance, or inferring how someone identifies. An attribute's value "
    "is what annotators wrote down from an image."
)


def model_card(summary: Mapping[str, Any], config: RunConfig) -> str:
    """Render the card of the promoted model.

    Args:
        summary: the content of summary.json.
        config: the run's config.
    """
    promoted = summary[summary["promoted"]]
    split = "test" if "test" in promoted else "validation"
    scores = promoted[split]
    where = "test faces, which were used once" if split == "test" else "validation faces; the test split was not used"
    lines = [
        f"# Model card: {markdown_safe(summary['run_name'])}",
        "",
        f"{_model(summary, config)} It predicts {_labels(config)} from a face of {config.faces.image_size} × "
        f"{config.faces.image_size} pixels. File: {markdown_code(summary['promoted_checkpoint'])}.",
        "",
        "## Intended use",
        "",
        _USE,
        "",
        "## Training data",
        "",
        f"{summary['counts']['train']:,} labeled faces, {summary['counts']['validation']:,} for validation, and a pool of "
        f"{summary['counts']['candidates']:,} faces; see the data card. The model is not free of the terms of these sets, "
        "nor of those of pretrained weights and other teachers."
        + (f" {answers_sentence(summary.get('answers'))}".rstrip() if summary["promoted"] == "student" else ""),
        "",
        f"## Scores on {scores['num_faces']:,} {where}",
        "",
        *_score_table(scores),
        "",
        "Per group of the faces, the share whose class is right, with its 95 % interval (Wilson; faces are taken as "
        "independent):",
        "",
        *_group_table(scores["per_group"]),
        "",
        "## Calibration",
        "",
        f"Expected calibration error {100 * scores['expected_calibration_error']:.1f} %, Brier score "
        f"{scores['brier_score']:.3f}, log loss {scores['log_loss']:.3f}. Temperatures: "
        f"{'none fitted' if config.calibration.type == 'none' else 'fitted on the validation faces'}.",
        "",
        "## Known limits",
        "",
        *(f"- {markdown_safe(text)}" for text in _limits(summary, scores)),
        "",
        "## How it was compared",
        "",
        markdown_safe(verdict(dict(summary))),
        "",
        "## Reproduce",
        "",
        f"{markdown_code('ssl-pipeline run RUN/config.yaml')}, seed {summary['seed']}, on {summary['device']}, "
        f"{summary['machine']}; {', '.join(f'{name} {version}' for name, version in summary['versions'].items())}.",
    ]
    return "\n".join(lines) + "\n"


def data_card(faces: Mapping[str, Any], config: RunConfig) -> str:
    """Render the card of the run's faces.

    Args:
        faces: the result of the stage that prepared them.
        config: the run's config.
    """
    lines = [
        f"# Data card: {markdown_safe(config.run_name)}",
        "",
        "Each face set has its own terms; they bind whoever trains on it. The run's directory holds pixels of these faces: "
        "keep and delete it as you would the faces.",
        "",
        "## Sources",
        "",
        *_table(
            ["source", "type", "role", "found", "used", "rejected", "filtered or beyond the limit"],
            [
                [
                    name,
                    next(source.type for source in config.faces.all_sources if (source.name or source.type) == name),
                    counts["role"],
                    *(f"{counts[key]:,}" for key in ("found", "used", "rejected")),
                    f"{counts['filtered'] + counts['beyond_limit']:,}",
                ]
                for name, counts in faces["sources"].items()
            ],
        ),
        "",
        "Rejected faces are listed with their reasons in `faces/rejected.parquet`.",
        "",
        "## Splits",
        "",
        f"{_splits(faces['labeled'])}; {faces['unlabeled']:,} in the pool. "
        f"{'One person is in one split only' if faces['persons_known'] else 'Persons are unknown: one may be in several splits'}; "
        f"near duplicates stay together. Removed from the pool since a labeled split has them: {_splits(faces['leakage'])}.",
        "",
        "## Classes",
        "",
        *_table(
            ["class", *next(iter(faces["by_class"].values()))],
            [[name, *(f"{number:,}" for number in counts.values())] for name, counts in faces["by_class"].items()],
        ),
    ]
    return "\n".join(lines) + "\n"


def _model(summary: Mapping[str, Any], config: RunConfig) -> str:
    if summary["promoted"] == "student":
        return (
            f"The student of round {summary['student']['round']}, {markdown_code(config.student.model.architecture)}."
        )
    teachers = [
        markdown_code(teacher.model.architecture)
        if isinstance(teacher, NetworkTeacher)
        else f"a linear head on {teacher.type} features"
        for teacher in config.teachers
    ]
    return f"The teacher: {' and '.join(teachers)}{', which vote' if len(teachers) > 1 else ''}."


def _labels(config: RunConfig) -> str:
    return " × ".join(
        f"{attribute.name} ({', '.join(markdown_safe(value) for value in attribute.values)})"
        for attribute in config.labels.attributes
    )


def _score_table(scores: Mapping[str, Any]) -> list[str]:
    rows = {"class (all attributes)": scores, **scores["per_attribute"]}
    return _table(
        ["", "accuracy", "macro F1"],
        [[name, f"{100 * own['accuracy']:.1f} %", f"{100 * own['macro_f1']:.1f} %"] for name, own in rows.items()],
    )


def _group_table(per_group: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for attribute, groups in per_group.items():
        for value, group in groups.items():
            low, high = wilson_interval(group["accuracy"], group["num_faces"])
            shown = f"{100 * group['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
            rows.append([f"{attribute} {value}", f"{group['num_faces']:,}", shown])
    return _table(["group", "faces", "class right"], rows)


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `number` independent faces (Wilson 1927).

    >>> [round(end, 3) for end in wilson_interval(0.5, 100)]
    [0.404, 0.596]
    """
    z = 1.959964
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _limits(summary: Mapping[str, Any], scores: Mapping[str, Any]) -> Iterator[str]:
    worst = sorted(scores["per_class"].items(), key=lambda item: item[1]["f1"])[:_NUM_WORST]
    described = ", ".join(f"{name} {100 * own['f1']:.0f} % of {own['num_faces']} faces" for name, own in worst)
    yield f"Lowest F1 of a class: {described}."
    shift = summary.get("shift") or {}
    if shift.get("words"):
        yield f"Shift between pool and labeled faces: {shift['words']}."
    yield "On faces unlike those it was trained on it is right less often; confidence was calibrated on labeled faces, if at all."


def _splits(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items() if isinstance(number, int))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return [*lines, *(f"| {' | '.join(map(markdown_safe, row))} |" for row in rows)]
