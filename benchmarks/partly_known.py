"""The value of a partly known pool: a config's full cycle with the pool's labels and with all of them hidden.

python -m benchmarks.partly_known --config configs/masked-utkface.yaml --out docs/masked-utkface.md
"""

from collections.abc import Mapping, Sequence

from benchmarks import tables
from benchmarks.runner import ConfigPath, Jobs, Measurement, Out, Overrides, Seeds, run_command
from benchmarks.tables import Json

VARIANTS = {"partly known": (), "nothing known": ("faces.unlabeled.hide_labels=true",)}
"""What is known of the pool: the settings for it."""
STUDENT, BASELINES = "student, partly known", ("teacher", "student, nothing known")


def main(config: ConfigPath, out: Out, seeds: Seeds = "0,1,2", overrides: Overrides = None, jobs: Jobs = 1) -> None:
    """Run every seed with both pools and write the tables."""
    measurement = Measurement.from_options("partly_known", config, seeds, overrides, jobs)
    results = measurement.run(measure_seed)
    summaries = {variant: [of_seed[variant] for of_seed in results] for variant in VARIANTS}
    out.write_text(report(measurement, summaries), encoding="utf-8")
    print(f"written to {out}")


def measure_seed(measurement: Measurement, seed: int) -> dict[str, Json]:
    """Run the full cycle with each pool; return the summaries."""
    name = measurement.config().run_name
    return {
        variant: measurement.run_cycle(f"{name}-{variant.replace(' ', '-')}-seed-{seed}", *settings, f"seed={seed}")
        for variant, settings in VARIANTS.items()
    }


def report(measurement: Measurement, summaries: Mapping[str, Sequence[Json]]) -> str:
    """Lay out the summaries of `finish`, per variant one of each seed, as Markdown."""
    counts = summaries["partly known"][0]["counts"]
    return "\n".join(
        [
            f"# {measurement.config_path.stem}: what a partly known pool adds",
            "",
            f"{measurement.provenance()}; {counts['train']:,} pictures to train on, {counts['validation']:,} for "
            f"validation, {counts['test']:,} to test on, {counts['candidates']:,} in the pool. *Nothing known* is the same "
            "pool with all its labels hidden. Students are compared whether or not the gate promoted them. Figures are "
            "percent on the test split, mean over the seeds, seed by seed in brackets; the test split is used once per "
            "run.",
            "",
            *_scores(summaries),
            "",
            *_runs(summaries),
            "",
        ]
    )


def _scores(summaries: Mapping[str, Sequence[Json]]) -> list[str]:
    models = {
        "teacher": [summary["teacher"]["test"] for summary in summaries["partly known"]],
        "student, nothing known": [summary["student"]["test"] for summary in summaries["nothing known"]],
        STUDENT: [summary["student"]["test"] for summary in summaries["partly known"]],
    }
    first = models["teacher"][0]
    scores: dict[str, tuple[str, ...]] = {"joint macro F1": ("macro_f1",), "joint accuracy": ("accuracy",)}
    scores |= {f"{name} macro F1": ("per_attribute", name, "macro_f1") for name in first["per_attribute"]}
    scores |= {
        f"origin {origin} ({group['num_faces']:,} pictures): joint macro F1": (
            "per_group",
            "origin",
            origin,
            "macro_f1",
        )
        for origin, group in first["per_group"]["origin"].items()
    }
    rows = []
    for name, keys in scores.items():
        student = tables.percent(models[STUDENT], *keys)
        gains = [
            tables.mean_and_spread(tables.differences(student, tables.percent(models[baseline], *keys)))
            for baseline in BASELINES
        ]
        rows.append([name, *(tables.mean_percent(of_seeds, *keys) for of_seeds in models.values()), *gains])
    header = ["", *models, "partly known minus teacher", "partly known minus nothing known"]
    return tables.markdown_table(header, "lrrrrr", rows)


def _runs(summaries: Mapping[str, Sequence[Json]]) -> list[str]:
    rows = []
    for variant, of_seeds in summaries.items():
        for summary in of_seeds:
            precision = ", ".join(
                f"{name} {100 * accepted['precision']:.1f} of {accepted['num']:,}"
                for name, accepted in summary["precision"].items()
                if accepted["precision"] is not None
            )
            accepted, minutes = f"{summary['counts']['accepted']:,}", f"{sum(summary['seconds'].values()) / 60:.1f}"
            rows.append([str(summary["seed"]), variant, accepted, precision, summary["promoted"], minutes])
    header = ["seed", "pool", "accepted", "precision of accepted pseudo-labels", "promoted", "minutes"]
    return tables.markdown_table(header, "llrllr", rows)


if __name__ == "__main__":
    run_command(main)
