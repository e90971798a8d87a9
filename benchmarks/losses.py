"""A config's teacher (of several, the first network) trained with each loss, over several seeds.

python -m benchmarks.losses --config configs/utkface.yaml --set faces.root=../shared/data --out docs/losses.md
"""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks import tables
from benchmarks.runner import ConfigPath, Jobs, Measurement, Out, Overrides, Seeds, run_command
from benchmarks.tables import Json
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of, read_json
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.train import Training, train_model

CROSS_ENTROPY: dict[str, Any] = {"type": "cross_entropy"}
FOCAL: dict[str, Any] = {"type": "focal", "gamma": 2.0}
MIXTURE = {"type": "mixture", "terms": [{"weight": 0.4, "loss": {"type": "f1"}}, {"weight": 0.6, "loss": FOCAL}]}
ROWS: dict[str, tuple[dict[str, Any], bool]] = {
    "cross-entropy": (CROSS_ENTROPY, True),
    "cross-entropy, label smoothing 0.1": (CROSS_ENTROPY | {"label_smoothing": 0.1}, True),
    "focal, γ = 2": (FOCAL, True),
    "F1": ({"type": "f1"}, True),
    "0.4 · F1 + 0.6 · focal": (MIXTURE, True),
    "cross-entropy, no balance": (CROSS_ENTROPY, False),
    "cross-entropy, balanced class weights": (CROSS_ENTROPY | {"class_weights": "balanced"}, False),
}
"""Per row of the table: the loss, and whether an epoch samples the classes equally often."""
BASELINE = next(iter(ROWS))
METRICS = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "expected_calibration_error": "ECE",
    "log_loss": "log loss, nats",
}


def main(config: ConfigPath, out: Out, seeds: Seeds = "0,1,2", overrides: Overrides = None, jobs: Jobs = 1) -> None:
    """Train, evaluate on the test split, and write the table."""
    measurement = Measurement.from_options("losses", config, seeds, overrides, jobs)
    results = measurement.run(measure_seed)
    scores = {row: [of_seed["scores"][row] for of_seed in results] for row in ROWS}
    out.write_text(report(measurement, results[0]["counts"], scores), encoding="utf-8")
    print(f"written to {out}")


def measure_seed(measurement: Measurement, seed: int) -> Json:
    """Train the teacher with each loss; return the counts of faces and each row's test scores."""
    config = measurement.config(f"seed={seed}")
    run = RunDir(config.runs_root / f"{config.run_name}-losses-seed-{seed}")
    counts = dict(prepare(config, run).counts["labeled"])
    scores = {}
    for row in ROWS:
        scores[row] = train_and_evaluate(config, run, row)
        print(f"seed {seed}, {row}: macro F1 {scores[row]['macro_f1']:.3f}", flush=True)
    return {"counts": counts, "scores": scores}


def train_and_evaluate(config: RunConfig, run: RunDir, row: str) -> Json:
    """Train the teacher with the loss of a row, unless that is done; return its test scores, which choose nothing."""
    loss, class_balanced = ROWS[row]
    role = next(iter(config.roles.values())).model_dump(mode="json", include={"model", "training"})
    role["training"] |= {"loss": loss, "class_balanced": class_balanced}
    directory = run.root / f"losses/{digest_of(role)[:12]}"
    training = Training(row, directory, seed=config.seed, calibrated=False)
    train_model(config, RoleConfig.model_validate(role), run, training)
    evaluate(config, run, directory, "test")
    return read_json(directory / "test" / "scores.json")


def report(measurement: Measurement, counts: Json, scores: Mapping[str, Sequence[Json]]) -> str:
    """Lay out the test scores, per row one of each seed, as Markdown."""
    classes = list(scores[BASELINE][0]["per_class"])
    baseline = tables.percent(scores[BASELINE], "macro_f1")
    rows, class_rows = [], []
    for row, of_seeds in scores.items():
        gains = (
            ""
            if row == BASELINE
            else tables.by_seed(tables.differences(tables.percent(of_seeds, "macro_f1"), baseline))
        )
        rows.append([row, *(_cell(of_seeds, metric) for metric in METRICS), gains])
        class_rows.append([row, *(tables.mean_percent(of_seeds, "per_class", name, "f1") for name in classes)])
    header = ["loss", *METRICS.values(), f"macro F1 minus that of {BASELINE}, seed by seed"]
    return "\n".join(
        [
            f"# {measurement.config_path.stem}: one teacher, each loss",
            "",
            f"{measurement.provenance()}; {counts['train']} faces to train on, {counts['validation']} to choose the epoch "
            f"by (its best macro F1), {counts['test']:,} test faces per seed. All settings but loss and balance are the "
            "config's. Joint classes, percent, mean over the seeds ± standard deviation. ECE is the expected calibration "
            "error in 15 bins; for ECE and log loss, lower is better.",
            "",
            *tables.markdown_table(header, "l" + "r" * (len(METRICS) + 1), rows),
            "",
            "The rows before *no balance* sample every class equally often (`class_balanced: true`); the last two sample "
            "every face equally often, once without any balance and once with balance in the loss.",
            "",
            "## F1 per class",
            "",
            *tables.markdown_table(["loss", *classes], "l" + "r" * len(classes), class_rows),
            "",
        ]
    )


def _cell(scores: Sequence[Json], metric: str) -> str:
    values, digits = tables.percent(scores, metric), 1
    if metric == "log_loss":
        values, digits = [value / 100 for value in values], 2
    return f"{mean(values):.{digits}f}{tables.spread(values, digits=digits)}"


if __name__ == "__main__":
    run_command(main)
