"""The table of `benchmarks.strategies`, as Markdown."""

import os
from statistics import mean, stdev
from typing import Any

Results = list[dict[str, Any]]


def strategies_report(found: dict[str, Results], *, about: dict[str, Any], overrides: list[str]) -> str:
    """Lay out what `benchmarks.strategies` found.

    Args:
        found: by row, the result of each seed; ``base`` and ``all true labels`` among them.
        about: seeds, steps, jobs, config, and the environment.
        overrides: settings given beside the config.
    """
    base, best = found["base"], found["all true labels"]
    teacher = [_points(one["test"]) for one in base]
    together = [_points(one["together"]) for one in base if one["together"] is not None]
    gap = [own - other for own, other in zip(map(_points, (one["test"] for one in best)), teacher, strict=True)]
    counts = base[0]["counts"]
    names = list(base[0]["test"]["per_attribute"])
    command = " ".join(
        [
            f"python -m benchmarks.strategies --config {about['config']} --seeds {','.join(about['seeds'])} "
            f"--steps {about['steps']} --jobs {about['jobs']}"
        ]
        + [f"--set {setting}" for setting in overrides]
        + [f"--row '{row}'" for row in about["rows"]]
    )
    labeler = (
        "One teacher is the baseline; the pool is labeled by the teachers of `out_of_fold` together, calibrated on the faces "
        "that each did not see,"
        if together
        else "The baseline is the one teacher that labels the pool, "
        + ("calibrated on the validation faces," if base[0]["calibration"] else "not calibrated,")
    )
    lines = [
        f"Written by `{command}`. Seeds {', '.join(about['seeds'])}; {os.cpu_count()} cores, {about['machine']}, "
        f"{about['device']}, torch {about['versions']['torch']}; {counts['labeled']['train']} faces to train on, "
        f"{counts['labeled']['validation']} for validation, {counts['labeled']['test']} to test on, "
        f"{counts['unlabeled']:,} in the pool, whose labels are hidden. {labeler} and every strategy chooses among the "
        "same predictions. Every student has the same network, settings and number of steps. Figures "
        "are percent, mean over the seeds; gains in macro F1 on the test split over the one teacher, seed by seed in "
        "brackets. *Gap closed* is the gain over that of the same student on all true labels. A value is starved if its "
        "share of accepted labels is below a fifth of its share of the training faces, in any seed.",
        "",
        "| selection | faces accepted | " + " | ".join(f"{name}: accepted, right" for name in names) + " | both right "
        "| starved | macro F1 | gain over the teacher | gap closed |",
        "|---|---:|" + "---:|" * len(names) + "---:|---|---:|---:|---:|",
        f"| *one teacher* |  | {' | ' * len(names)}|  | {mean(teacher):.1f} |  |  |",
    ]
    if together:
        lines.append(_row("*teachers together*", together, teacher, gap, [""] * (len(names) + 3)))
    for row, results in found.items():
        if row in ("base", "all true labels"):
            continue
        cells = [f"{mean(one['counts']['accepted'] for one in results):,.0f}"]
        cells += [_accepted(results, name) for name in names]
        precision = [one["precision"]["joint"]["precision"] for one in results]
        cells.append(f"{100 * mean(precision):.1f}" if None not in precision else "–")
        cells.append(", ".join(sorted({value for one in results for value in one["starved"]})).replace("<", "&lt;"))
        lines.append(_row(row, [_points(one["test"]) for one in results], teacher, gap, cells))
    lines.append(
        _row("*all true labels*", [_points(one["test"]) for one in best], teacher, gap, [""] * (len(names) + 3))
    )
    return "\n".join([*lines, "", *_calibration(base, names)]).rstrip()


def _row(name: str, scores: list[float], teacher: list[float], gap: list[float], cells: list[str]) -> str:
    gains = [own - other for own, other in zip(scores, teacher, strict=True)]
    each = ", ".join(f"{gain:+.1f}" for gain in gains)
    spread = f" ± {stdev(gains):.1f}" if len(gains) > 1 else ""
    closed = f"{100 * mean(gains) / mean(gap):.0f} %"
    return f"| {name} | {' | '.join(cells)} | {mean(scores):.1f} | {mean(gains):+.1f}{spread} ({each}) | {closed} |"


def _accepted(results: Results, name: str) -> str:
    accepted = mean(one["labels"][name] for one in results)
    precision = [one["precision"][name]["precision"] for one in results]
    return f"{accepted:,.0f}, {100 * mean(precision):.1f}" if None not in precision else f"{accepted:,.0f}, –"


def _calibration(base: Results, names: list[str]) -> list[str]:
    if not all(one["together"] and one["calibration"] and "before" in one["calibration"] for one in base):
        return []
    lines = [
        "**Calibration out of fold**",
        "",
        "Before and after, each training face predicted by the teacher that did not see it, and calibrated by "
        "temperatures that were fitted without it; mean over the seeds.",
        "",
        "| of | calibration error | Brier score | log loss | temperatures, seed by seed |",
        "|---|---:|---:|---:|---|",
    ]
    for place, name in enumerate(("class", *names)):
        cells = []
        for metric, scale in (("expected_calibration_error", 100), ("brier_score", 1), ("log_loss", 1)):
            before, after = (
                mean(
                    scale * (of if name == "class" else of["per_attribute"][name])[metric]
                    for of in (one["calibration"][when] for one in base)
                )
                for when in ("before", "after")
            )
            cells.append(f"{before:.{1 if scale == 100 else 3}f} → {after:.{1 if scale == 100 else 3}f}")
        temperatures = [one["calibration"]["temperatures"] for one in base]
        of_name = ", ".join(f"{of[place - 1]:.2f}" for of in temperatures) if name != "class" else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {of_name} |")
    return lines


def _points(scores: dict[str, Any]) -> float:
    return 100 * float(scores["macro_f1"])
