"""Teacher against promoted model: a config's full cycle over several seeds, with the students' controls.

python -m benchmarks.seeds --config configs/utkface.yaml --set faces.root=../shared/data --out docs/utkface.md
"""

from collections.abc import Sequence
from statistics import mean, stdev

from benchmarks import tables
from benchmarks.runner import ConfigPath, Jobs, Measurement, Out, Overrides, Seeds, run_command
from benchmarks.tables import Json
from ssl_pipeline.points import signed


def main(
    config: ConfigPath,
    out: Out,
    seeds: Seeds = "0,1,2",
    overrides: Overrides = None,
    jobs: Jobs = 1,
) -> None:
    """Run the seeds and write the tables."""
    measurement = Measurement.from_options("seeds", config, seeds, overrides, jobs)
    out.write_text(report(measurement, measurement.run(measure_seed)), encoding="utf-8")
    print(f"written to {out}")


def measure_seed(measurement: Measurement, seed: int) -> Json:
    """Run the full cycle; return its summary."""
    return measurement.run_cycle(f"{measurement.config().run_name}-seed-{seed}", f"seed={seed}")


def report(measurement: Measurement, summaries: Sequence[Json]) -> str:
    """Lay out the summaries of `finish` as Markdown."""
    counts, jobs = summaries[0]["counts"], measurement.jobs
    teachers = [summary["teacher"]["test"] for summary in summaries]
    promoted = [summary[summary["promoted"]]["test"] for summary in summaries]
    gains = tables.differences(tables.percent(promoted, "macro_f1"), tables.percent(teachers, "macro_f1"))
    deviation = f" (standard deviation {stdev(gains):.1f} over seeds)" if len(gains) > 1 else ""
    at_a_time = f", {jobs} seeds at a time, which makes each take longer than alone" if jobs > 1 else ""
    return "\n".join(
        [
            f"# {measurement.config_path.stem}: teacher against promoted model",
            "",
            f"{measurement.provenance()}; {counts['train']} faces to train on, {counts['validation']} for validation, "
            f"{counts['test']:,} test faces, {counts['candidates']:,} in the pool{at_a_time}. Figures are percent on the "
            "test split, which is used once.",
            "",
            *_by_seed(summaries, teachers, promoted, gains),
            "",
            f"Mean difference {signed(mean(gains))} points of macro F1{deviation}.",
            "",
            *_by_attribute(teachers, promoted),
            *_control([summary for summary in summaries if summary.get("control")]),
            *_by_class(teachers, promoted),
            *_precision(summaries),
        ]
    )


def _by_seed(
    summaries: Sequence[Json], teachers: Sequence[Json], promoted: Sequence[Json], gains: Sequence[float]
) -> list[str]:
    columns = [tables.percent(models, metric) for metric in ("macro_f1", "accuracy") for models in (teachers, promoted)]
    rows = []
    for summary, gain, *scores in zip(summaries, gains, *columns, strict=True):
        name = "teacher" if summary["promoted"] == "teacher" else f"student {summary['student']['round']}"
        f1, promoted_f1, accuracy, promoted_accuracy = (f"{score:.1f}" for score in scores)
        accepted, minutes = f"{summary['counts']['accepted']:,}", f"{sum(summary['seconds'].values()) / 60:.1f}"
        cells = [f1, promoted_f1, signed(gain), accuracy, promoted_accuracy, accepted, minutes]
        rows.append([str(summary["seed"]), name, *cells])
    means = [f"{mean(column):.1f}" for column in columns]
    rows.append(["mean", "", *means[:2], f"**{signed(mean(gains))}**", *means[2:], "", ""])
    header = ["seed", "promoted", "teacher macro F1", "promoted macro F1", "difference", "teacher accuracy"]
    return tables.markdown_table([*header, "promoted accuracy", "accepted", "minutes"], "llrrrrrrr", rows)


def _by_attribute(teachers: Sequence[Json], promoted: Sequence[Json]) -> list[str]:
    rows = []
    for name in teachers[0]["per_attribute"]:
        keys = ("per_attribute", name, "macro_f1")
        gain = mean(tables.differences(tables.percent(promoted, *keys), tables.percent(teachers, *keys)))
        rows.append([name, tables.mean_percent(teachers, *keys), tables.mean_percent(promoted, *keys), signed(gain)])
    header = ["attribute", "teacher macro F1", "promoted macro F1", "difference"]
    return ["## Per attribute", "", *tables.markdown_table(header, "lrrr", rows), ""]


def _control(summaries: Sequence[Json]) -> list[str]:
    """Compare the students, promoted or not, with their controls; nothing if no run has a control."""
    if not summaries:
        return []
    teachers, controls, students = (
        [summary[name]["test"] for summary in summaries] for name in ("teacher", "control", "student")
    )
    rows = []
    for metric, metric_name in (("macro_f1", "macro F1"), ("accuracy", "accuracy")):
        scores = {"joint": (metric,)} | {name: ("per_attribute", name, metric) for name in teachers[0]["per_attribute"]}
        for name, keys in scores.items():
            gains = tables.differences(tables.percent(students, *keys), tables.percent(controls, *keys))
            means = [tables.mean_percent(models, *keys) for models in (teachers, controls, students)]
            rows.append([f"{name} {metric_name}", *means, f"{signed(mean(gains))} ({tables.by_seed(gains)})"])
    return [
        "## What the pool adds",
        "",
        "A student differs from its teacher in more than the pool. Its control has the student's start, steps, schedule "
        "and draws of labeled faces, and learns nothing from the pool: the difference between them is what the pool "
        "adds. Means over the seeds; in brackets, seed by seed.",
        "",
        *tables.markdown_table(["", "teacher", "control", "student", "student − control"], "lrrrr", rows),
        "",
    ]


def _by_class(teachers: Sequence[Json], promoted: Sequence[Json]) -> list[str]:
    rows = []
    for name in teachers[0]["per_class"]:
        num_faces = mean(scores["per_class"][name]["num_faces"] for scores in teachers)
        f1 = [tables.mean_percent(models, "per_class", name, "f1") for models in (teachers, promoted)]
        rows.append([name, f"{num_faces:.0f}", *f1])
    header = ["class", "test faces per seed", "teacher F1", "promoted F1"]
    return ["## Per class", "", *tables.markdown_table(header, "lrrr", rows), ""]


def _precision(summaries: Sequence[Json]) -> list[str]:
    if not all(summary["precision"] for summary in summaries):
        return []
    rows = [
        [str(summary["seed"]), name, f"{accepted['num']:,}", _percent_or_dash(accepted["precision"])]
        for summary in summaries
        for name, accepted in summary["precision"].items()
    ]
    return [
        "## Precision of the accepted pseudo-labels",
        "",
        "Known only because the pool's labels were hidden, not absent. In the round of the reported student.",
        "",
        *tables.markdown_table(["seed", "labels", "accepted", "precision"], "llrr", rows),
        "",
    ]


def _percent_or_dash(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


if __name__ == "__main__":
    run_command(main)
