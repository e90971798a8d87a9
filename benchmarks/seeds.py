"""Teacher against promoted model: a config's full cycle over several seeds, with a control without pseudo-labels.

python -m benchmarks.seeds --config configs/utkface.yaml --set faces.root=../shared/data --out docs/utkface.md
"""

from collections.abc import Sequence
from functools import partial
from statistics import mean, stdev
from typing import Annotated

import typer

from benchmarks import tables
from benchmarks.control import train_control
from benchmarks.runner import ConfigPath, Jobs, Measurement, Out, Overrides, Seeds, run_command
from benchmarks.tables import Json


def main(
    config: ConfigPath,
    out: Out,
    seeds: Seeds = "0,1,2",
    overrides: Overrides = None,
    control: Annotated[bool, typer.Option(help="Also train the student's network on the human labels alone.")] = True,
    jobs: Jobs = 1,
) -> None:
    """Run the seeds and write the tables."""
    measurement = Measurement.from_options("seeds", config, seeds, overrides, jobs)
    results = measurement.run(partial(measure_seed, control=control))
    summaries, controls = [summary for summary, _ in results], [scores for _, scores in results if scores is not None]
    out.write_text(report(measurement, summaries, controls), encoding="utf-8")
    print(f"written to {out}")


def measure_seed(measurement: Measurement, seed: int, *, control: bool) -> tuple[Json, Json | None]:
    """Run the full cycle, then train the control; return the cycle's summary and the control's test scores."""
    override = f"seed={seed}"
    run_name = f"{measurement.config().run_name}-seed-{seed}"
    summary = measurement.run_cycle(run_name, override)
    if not control:
        return summary, None
    config = measurement.config(override, run_name=run_name)
    return summary, train_control(config, round_index=summary["student"]["round"])


def report(measurement: Measurement, summaries: Sequence[Json], controls: Sequence[Json]) -> str:
    """Lay out the summaries of `finish` and the controls' test scores as Markdown; no controls, no table of them."""
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
            f"Mean difference {mean(gains):+.1f} points of macro F1{deviation}.",
            "",
            *_by_attribute(teachers, promoted),
            *(_control(teachers, controls, promoted) if controls else ()),
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
        cells = [f1, promoted_f1, f"{gain:+.1f}", accuracy, promoted_accuracy, accepted, minutes]
        rows.append([str(summary["seed"]), name, *cells])
    means = [f"{mean(column):.1f}" for column in columns]
    rows.append(["mean", "", *means[:2], f"**{mean(gains):+.1f}**", *means[2:], "", ""])
    header = ["seed", "promoted", "teacher macro F1", "promoted macro F1", "difference", "teacher accuracy"]
    return tables.markdown_table([*header, "promoted accuracy", "accepted", "minutes"], "llrrrrrrr", rows)


def _by_attribute(teachers: Sequence[Json], promoted: Sequence[Json]) -> list[str]:
    rows = []
    for name in teachers[0]["per_attribute"]:
        keys = ("per_attribute", name, "macro_f1")
        gain = mean(tables.differences(tables.percent(promoted, *keys), tables.percent(teachers, *keys)))
        rows.append([name, tables.mean_percent(teachers, *keys), tables.mean_percent(promoted, *keys), f"{gain:+.1f}"])
    header = ["attribute", "teacher macro F1", "promoted macro F1", "difference"]
    return ["## Per attribute", "", *tables.markdown_table(header, "lrrr", rows), ""]


def _control(teachers: Sequence[Json], controls: Sequence[Json], promoted: Sequence[Json]) -> list[str]:
    rows = []
    for metric, metric_name in (("macro_f1", "macro F1"), ("accuracy", "accuracy")):
        scores = {"joint": (metric,)} | {name: ("per_attribute", name, metric) for name in teachers[0]["per_attribute"]}
        for name, keys in scores.items():
            gains = tables.differences(tables.percent(promoted, *keys), tables.percent(controls, *keys))
            means = [tables.mean_percent(models, *keys) for models in (teachers, controls, promoted)]
            rows.append([f"{name} {metric_name}", *means, f"{mean(gains):+.1f} ({tables.signed(gains)})"])
    return [
        "## What the pool adds",
        "",
        "A student differs from its teacher in more than the pool: its network is wider and its training has other "
        "settings. The control has that network, those settings and as many steps, and learns from the human labels "
        "alone. The difference between promoted and control is what the pool's pseudo-labels add. Means over the "
        "seeds; in brackets, seed by seed.",
        "",
        *tables.markdown_table(["", "teacher", "control", "promoted", "promoted − control"], "lrrrr", rows),
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
