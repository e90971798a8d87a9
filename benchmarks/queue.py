"""Which faces next: does a queue beat random choice, from 250 labels to 350? Linear heads on fixed features, over seeds.

python -m benchmarks.queue --config configs/utkface.yaml --set faces.root=../shared/data

The faces are prepared, and the features of the config's first teacher with fixed ones computed, once. A seed deals half of
the people of the labeled sources' origin to the test faces. A draw takes 250 of the others as labeled; the pool is
everyone else, of any origin. Each way then chooses 100 faces of the pool by the head that the 250 gave, and the head is
fitted on all 350. Each seed's result is written as it comes, and finished seeds are not repeated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Annotated, get_args

import numpy as np
import pandas as pd
import typer
from scipy.special import softmax
from scipy.stats import t

from benchmarks.docs.marked_sections import replace_section
from benchmarks.runner import ConfigPath, Measurement, Out, Overrides, Seeds, run_command, stored_result
from benchmarks.tables import Json, by_seed, markdown_table
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.teachers import EmbeddingTeacher, FeaturesTeacher
from ssl_pipeline.errors import ConfigError
from ssl_pipeline.evaluation.metrics import evaluate_predictions
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import BoolArray, FloatArray, IntArray
from ssl_pipeline.learning.linear_head import fit_linear_head
from ssl_pipeline.learning.stored_features import FEATURES
from ssl_pipeline.points import signed
from ssl_pipeline.pseudo_labels.queue import By, choose, uncertainty
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.features import compute_features
from ssl_pipeline.stages.prepare import prepare

NUM_LABELED, NUM_ASKED, NUM_DRAWS = 250, 100, 5
WAYS: tuple[By, ...] = get_args(By)
METRICS = {"macro F1": "macro_f1", "accuracy per attribute": "attribute_accuracy"}
_BEFORE = "250 labels"


def main(
    config: ConfigPath,
    out: Out = Path("docs/queue.md"),
    mark: Annotated[str, typer.Option(help="Name of the marked section to replace.")] = "heads",
    seeds: Seeds = "2,3,4,5,6,7",
    overrides: Overrides = None,
    features: Annotated[
        Path | None, typer.Option("--features", help="A table of `ssl-pipeline embed`, instead of that teacher.")
    ] = None,
) -> None:
    """Measure every way to choose, and write the table."""
    options = "" if features is None else f" --features {features}"
    measurement = Measurement.from_options("queue", config, seeds, overrides, 1, options=options)
    results = dict(zip(measurement.seeds, measurement.run(partial(measure_seed, features=features)), strict=True))
    replace_section(out, mark, report(results, provenance=measurement.provenance()))
    print(f"written to {out}")


def measure_seed(measurement: Measurement, seed: int, *, features: Path | None = None) -> Json:
    """Return the mean scores of each way over the seed's draws."""
    config = measurement.config("shift=null", "seed=0")
    run = RunDir(config.runs_root / f"{config.run_name}-queue")
    name, teacher = _teacher(config, features)
    own = {"asked": [NUM_LABELED, NUM_ASKED, NUM_DRAWS], "features": teacher.model_dump(mode="json")}
    settings = {**config.model_dump(mode="json", exclude_defaults=True), **own}
    work = partial(_measure, config, run, seed, name, teacher)
    result = stored_result(run.root / f"result-{seed}.json", settings, work)
    print(f"seed {seed}: {result}", flush=True)
    return result


@dataclass(frozen=True)
class _Faces:
    """All faces with every label known, of both roles."""

    config: RunConfig
    teacher: EmbeddingTeacher
    features: FloatArray
    codes: IntArray
    units: IntArray
    is_home: BoolArray
    """Whether a face has the origin of the labeled ones."""

    @classmethod
    def of(cls, config: RunConfig, run: RunDir, name: str, teacher: EmbeddingTeacher) -> "_Faces":
        """Prepare the faces and compute their features, once."""
        prepare(config, run)
        compute_features(config, run, name, teacher)
        labels = config.labels.space
        labeled, pool = (read_faces(run.faces / f"{table}.parquet") for table in ("labeled", "unlabeled"))
        truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet").set_index("image_id")
        pool = pool.assign(**{name: truth[name].reindex(pool["image_id"]).to_numpy(object) for name in labels.names})
        faces: pd.DataFrame = pd.concat([labeled, pool], ignore_index=True)
        codes = labels.encode(faces)
        is_known: BoolArray = np.asarray((codes >= 0).all(axis=1))
        faces = faces.iloc[np.flatnonzero(is_known)].reset_index(drop=True)
        stored = np.load(run.features / name / FEATURES, mmap_mode="r", allow_pickle=False)
        return cls(
            config,
            teacher,
            np.asarray(stored[faces["pixel_row"].to_numpy(np.int64)], np.float64),
            codes[is_known],
            independent_units(faces),
            faces["origin"].isin(labeled["origin"].unique()).to_numpy(bool),
        )

    def probabilities(self, trained_on: IntArray, rows: IntArray) -> FloatArray:
        """Fit the teacher's head on some faces and predict others, float [N, K]."""
        labels, teacher = self.config.labels.space, self.teacher
        head = fit_linear_head(
            self.features[trained_on],
            self.codes[trained_on],
            labels,
            inverse_regularization=teacher.inverse_regularization,
            class_weight="balanced" if teacher.class_balanced else None,
        )
        logits = self.features[rows] @ head.weights.T.astype(np.float64) + head.bias
        parts = np.split(logits, np.cumsum(labels.num_values)[:-1], axis=1)
        chosen = [softmax(part, axis=1)[:, labels.class_codes[:, position]] for position, part in enumerate(parts)]
        return np.asarray(np.prod(chosen, axis=0))

    def scores(self, trained_on: IntArray, test: IntArray) -> dict[str, float]:
        """Score the head that these faces give on test faces."""
        own = evaluate_predictions(
            self.probabilities(trained_on, test), self.codes[test], labels=self.config.labels.space
        )
        accuracy = mean(attribute["accuracy"] for attribute in own["per_attribute"].values())
        return {"macro_f1": own["macro_f1"], "attribute_accuracy": accuracy}


def _teacher(config: RunConfig, features: Path | None) -> tuple[str, EmbeddingTeacher]:
    """Return the first teacher with fixed features, or one that has those of a table."""
    if features is not None:
        return "table", FeaturesTeacher(type="features", name="table", file=features)
    for name, teacher in config.named_teachers.items():
        if isinstance(teacher, EmbeddingTeacher):
            return name, teacher
    raise ConfigError("no teacher of the config has fixed features (type onnx, frozen or features)")


def _measure(config: RunConfig, run: RunDir, seed: int, name: str, teacher: EmbeddingTeacher) -> Json:
    faces, rng = _Faces.of(config, run, name, teacher), np.random.default_rng(seed)
    people = rng.permutation(np.unique(faces.units[faces.is_home]))
    judges = np.isin(faces.units, people[: len(people) // 2])
    test = np.flatnonzero(judges & faces.is_home)
    rows = [row for draw in range(NUM_DRAWS) for row in _measure_draw(faces, test, judges, seed * 1000 + draw)]
    table = pd.DataFrame(rows)
    means = table.groupby("way")[list(METRICS.values())].mean()
    return {str(way): {name: float(value) for name, value in row.items()} for way, row in means.iterrows()}


def _measure_draw(faces: _Faces, test: IntArray, judges: BoolArray, seed: int) -> Iterator[Json]:
    """Yield the scores of the labeled faces of one draw alone, and with the faces that each way chose."""
    rng, labels = np.random.default_rng(seed), faces.config.labels.space
    labeled = rng.permutation(np.flatnonzero(faces.is_home & ~judges))[:NUM_LABELED]
    pool = np.flatnonzero(~judges & ~np.isin(faces.units, faces.units[labeled]))
    scores = uncertainty(
        faces.probabilities(labeled, pool), labels, known=np.zeros((len(pool), len(labels.names)), bool)
    )
    yield {"way": _BEFORE, **faces.scores(labeled, test)}
    for way in WAYS:
        queue = choose(NUM_ASKED, by=way, scores=scores, features=faces.features[pool], seed=seed)
        yield {"way": way, **faces.scores(np.concatenate([labeled, pool[queue.positions]]), test)}


def report(results: Mapping[int, Json], *, provenance: str) -> str:
    """Lay out the results as Markdown: per way the scores, and the differences to random choice, paired by seed."""
    lines = [
        f"{provenance}. {NUM_LABELED} labels, then {NUM_ASKED} more; each seed is the mean of {NUM_DRAWS} draws of the "
        "labeled faces. In %; difference to random choice in points with its 95 % interval (t over the seeds), and in "
        "brackets seed by seed.",
    ]
    for title, metric in METRICS.items():
        rows = []
        for way in (_BEFORE, *WAYS):
            values = [100 * own[way][metric] for own in results.values()]
            gains = [value - 100 * own["random"][metric] for value, own in zip(values, results.values(), strict=True)]
            cells = ["", ""] if way in (_BEFORE, "random") else [_interval(gains), f"({by_seed(gains)})"]
            rows.append([way, f"{mean(values):.1f}", *cells])
        lines += ["", *markdown_table([title, "mean", "difference to random", "by seed"], "lrrl", rows)]
    return "\n".join(lines)


def _interval(gains: Sequence[float]) -> str:
    """Format a mean with its 95 % interval; of one seed without."""
    if len(gains) < 2:
        return signed(gains[0])
    half = t.ppf(0.975, len(gains) - 1) * np.std(gains, ddof=1) / np.sqrt(len(gains))
    return f"**{signed(mean(gains))}** ({signed(mean(gains) - half)} to {signed(mean(gains) + half)})"


if __name__ == "__main__":
    run_command(main)
