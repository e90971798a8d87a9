"""What the stage `select` does: gather the pool, the teacher's predictions and the unseen faces; select; write the manifest.

And what it needs of the stage `predict` beside the pool's predictions: the unseen faces', and how unlike both are.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.config import RunConfig
from ssl_pipeline.config_execution import ExecutionConfig
from ssl_pipeline.config_selection import Agreement, PromisedPrecision
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.learning.checkpoint import digest_checkpoint
from ssl_pipeline.learning.labeling import check_image_size, predict_shards, read_shards
from ssl_pipeline.learning.prediction import Predictor
from ssl_pipeline.learning.shift import acceptance_by_group, compare_predictions, pooled_features, separability
from ssl_pipeline.pseudo_labels.guards import selection_faults
from ssl_pipeline.pseudo_labels.manifest import (
    Manifest,
    ManifestIdentity,
    build_manifest,
    read_manifest,
    write_manifest,
)
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.pseudo_labels.unseen import UnseenFaces
from ssl_pipeline.runs import RunDir, digest_of, faces_digest, read_json, run_stage, write_json

_SHIFT_SEED = 11  # other draws of the run's seed are other numbers
_FOLD = "fold-"


class RoundFaces:
    """The faces of a round's selection and what the teacher says of them, each read once, when it is asked for."""

    def __init__(self, run: RunDir, round_index: int) -> None:
        self._run, self._directory = run, run.pseudo_labels(round_index)

    @cached_property
    def pool(self) -> pd.DataFrame:
        """The face table of the pool."""
        return read_faces(self._run.faces / "unlabeled.parquet")

    @cached_property
    def labeled(self) -> pd.DataFrame:
        """The face table of the labeled faces, all splits."""
        return read_faces(self._run.faces / "labeled.parquet")

    @property
    def validation(self) -> pd.DataFrame:
        """Those of the validation split."""
        return self.labeled[self.labeled["split"] == "validation"]

    @property
    def unseen(self) -> pd.DataFrame:
        """Labeled faces that the members of the round did not learn from: of the validation split, or out of fold."""
        return self.train if self.is_out_of_fold else self.validation

    @property
    def train(self) -> pd.DataFrame:
        """The labeled faces of the training split."""
        return self.labeled[self.labeled["split"] == "train"]

    @cached_property
    def is_out_of_fold(self) -> bool:
        """Whether the teachers of `out_of_fold` label this round."""
        return all(name.startswith(_FOLD) for name in self._member_names)

    @property
    def teacher_digest(self) -> str:
        """The digest of the checkpoint that labels the round, or of all of them."""
        return str(self._predicted_by["teacher"])

    @property
    def _member_names(self) -> list[str]:
        return list(self._predicted_by["members"])

    @cached_property
    def _predicted_by(self) -> dict[str, Any]:
        inputs: dict[str, Any] = read_json(self._directory / "predictions" / "done.json")["inputs"]
        return inputs

    @cached_property
    def of_members(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the pool by each member, float32 [T, N, K]."""
        return self._read("predictions", self.pool)

    @cached_property
    def of_pool(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the pool, float32 [N, K]: the mean over the members."""
        return np.asarray(self.of_members.mean(axis=0))

    @cached_property
    def of_validation(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the validation faces, as the pool's, float32 [M, K]."""
        return np.asarray(self._read("unseen", self.validation).mean(axis=0))

    @property
    def of_unseen(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the unseen faces, float32 [M, K]; out of fold, each by the one teacher without it."""
        return read_shards(self._run.out_of_fold, self.train) if self.is_out_of_fold else self.of_validation

    def _read(self, what: str, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        return np.stack([read_shards(self._directory / what / name, table) for name in self._member_names])


@dataclass(frozen=True)
class Member:
    """One of those that label a round, loaded when there is something to label: what is finished needs no model."""

    digest: str
    """Of its checkpoint."""
    load: Callable[[], Predictor]
    """Raises CheckpointError if the checkpoint does not fit the run."""


def members_of(config: RunConfig, run: RunDir, teacher: Path) -> dict[str, Member]:
    """Give what labels a round, by the folder that its predictions lie in: one teacher, its views, or one a fold.

    Raises:
        CheckpointError: if a checkpoint is not there.
    """

    @cache  # the views of one teacher share it
    def load(path: Path) -> Predictor:
        predictor = Predictor.load(path, config.prediction, labels=config.labels.space, device=config.device)
        check_image_size(predictor.checkpoint, config.faces.image_size)
        return predictor

    def member(path: Path, view: int | None = None) -> Member:
        return Member(digest_checkpoint(path), lambda: load(path) if view is None else load(path).by_view()[view])

    if config.out_of_fold is not None and teacher.parent == run.teacher:
        folds = [f"{_FOLD}{fold}" for fold in range(config.out_of_fold.num_folds)]
        return {name: member(run.out_of_fold / f"{name}.safetensors") for name in folds}
    if isinstance(config.selection, Agreement):
        return {f"view-{view}": member(teacher, view) for view in range(len(config.prediction.views))}
    return {".": member(teacher)}


def predict_faces(
    members: dict[str, Member],
    faces: pd.DataFrame,
    run: RunDir,
    directory: Path,
    *,
    shard_size: int,
    identity: dict[str, Any],
    execution: ExecutionConfig,
    what: str = "labeling",
) -> dict[str, Any]:
    """Predict faces by each member, shard by shard; several have a folder and a record each, and one record beside them.

    Args:
        members: by the folder inside `directory` that their shards go to.
        faces: a face table.
        run: the run's directory.
        directory: where to write.
        shard_size: faces in a shard.
        identity: what the predictions depend on.
        execution: where to compute.
        what: is at work, for whoever watches.
    """
    outputs = [f"part-{shard:05d}.parquet" for shard in range(-(-len(faces) // shard_size))]

    def predict(name: str, member: Member) -> dict[str, Any]:
        inputs = identity if name == "." else {**identity, "member": name}
        return run_stage(
            directory / name,
            inputs=inputs,
            outputs=outputs,
            work=lambda: predict_shards(
                member.load(),
                faces,
                open_pixels(run.faces / "pixels.npy"),
                directory=directory / name,
                shard_size=shard_size,
                identity=digest_of(inputs),
                execution=execution,
                name=what if name == "." else f"{what} by {name}",
            ),
        )

    records = {name: predict(name, member) for name, member in members.items()}
    if list(records) == ["."]:
        return records["."]
    together = {**identity, "outputs": {name: record["outputs"] for name, record in records.items()}}
    return run_stage(directory, inputs=together, outputs=[], work=lambda: {"num_faces": len(faces)})


def measure_shift(
    member: Member,
    faces: RoundFaces,
    config: RunConfig,
    run: RunDir,
    directory: Path,
    *,
    identity: dict[str, Any],
) -> None:
    """Measure how well the pool is told from the validation faces by the teacher's features; the record has it.

    Args:
        member: the teacher, or one of them.
        faces: the round's.
        config: the run's; without `shift` nothing is measured.
        run: the run's directory.
        directory: of the record.
        identity: what the teacher's view of the faces depends on.
    """
    settings = config.shift
    if settings is None:
        return

    def work() -> dict[str, Any]:
        rng = np.random.default_rng((config.seed, _SHIFT_SEED))
        pixels, predictor, sides = open_pixels(run.faces / "pixels.npy"), member.load(), {}
        for side, table in (("pool", faces.pool), ("validation", faces.validation)):
            chosen = np.sort(rng.choice(len(table), size=min(settings.max_faces, len(table)), replace=False))
            rows = table.iloc[chosen]
            features = pooled_features(predictor, pixels, rows["pixel_row"].to_numpy(np.int64))
            sides[side] = features, rows["person_id"].tolist()
        (pool, pool_people), (validation, validation_people) = sides["pool"], sides["validation"]
        return asdict(
            separability(
                pool, validation, pool_people=pool_people, validation_people=validation_people, seed=config.seed
            )
        )

    inputs = {**identity, "max_faces": settings.max_faces, "seed": config.seed}
    run_stage(directory, inputs=inputs, outputs=[], work=work)


def judge_shift(config: RunConfig, run: RunDir, round_index: int) -> dict[str, Any] | None:
    """Say in words whether the shift that `measure_shift` found is strong; None where the config leaves it out.

    Returns:
        `learning.shift.Separability` as a dict, with `strong` and `words`.
    """
    if config.shift is None:
        return None
    measured = read_json(run.pseudo_labels(round_index) / "shift" / "done.json")["result"]
    auc, error = measured["auc"], measured["standard_error"]
    strong = auc is not None and auc >= config.shift.strong_auc and auc - 2 * error > 0.5
    return {
        **measured,
        "strong": strong,
        "words": _shift_in_words(measured, config, strong_auc=config.shift.strong_auc, strong=strong),
    }


def write_shift(path: Path, faces: RoundFaces, config: RunConfig, run: RunDir, manifest: Manifest) -> None:
    """Write the whole diagnosis: separability, predictions of both sides, acceptance by what is known of the pool.

    What the config hides from training is used here as it is for purity: to report.
    """
    pool, labels = faces.pool, config.labels.space
    truth = pd.read_parquet(run.faces / "unlabeled_truth.parquet")
    readable = (manifest.faces["decision"] != "unreadable").to_numpy(bool)
    of_pool = pd.Index(manifest.faces.loc[readable, "image_id"]).get_indexer(pd.Index(pool["image_id"]))
    groups = pd.DataFrame({"origin": pool["origin"].to_numpy(object)})
    for name in labels.names:
        known = pool[name].astype(object).where(pool[name].notna())
        hidden = truth.set_index("image_id")[name].reindex(pool["image_id"]) if name in truth else None
        groups[name] = known.to_numpy(object) if hidden is None else known.fillna(pd.Series(hidden.to_numpy(object)))
    decisions = manifest.faces[[f"{name}_decision" for name in labels.names]].to_numpy(object)[readable][of_pool]
    write_json(
        path,
        {
            **(manifest.selection["shift"] or {}),
            "predictions": compare_predictions(faces.of_pool, faces.of_validation, labels=labels),
            "acceptance": acceptance_by_group(groups, decisions == "accepted", decisions != "known"),
        },
    )


def _shift_in_words(measured: dict[str, Any], config: RunConfig, *, strong_auc: float, strong: bool) -> str:
    if measured["auc"] is None:
        return f"not measured: {measured['note']}"
    told = (
        "a classifier tells the pool from the validation faces by the teacher's features with an AUC of "
        f"{measured['auc']:.2f} ± {measured['standard_error']:.2f}"
    )
    if not strong:
        return f"{told}: not strong (strong_auc {strong_auc:g}, and two standard errors above 0.5)"
    if isinstance(config.selection, PromisedPrecision):
        return f"the promise was made under strong shift ({told}): it was tested on faces unlike those it speaks of"
    return f"strong ({told}): what validation faces say may not hold for the pool"


def make_manifest(
    faces: RoundFaces,
    config: RunConfig,
    run: RunDir,
    round_index: int,
    *,
    shift: dict[str, Any] | None = None,
    change: dict[str, Any] | None = None,
) -> Manifest:
    """Select among the round's predictions and write manifest.parquet, with the faults that the guards find.

    `change` says which settings a person has changed; the manifest keeps it with the settings.
    """
    directory, labels, settings = run.pseudo_labels(round_index), config.labels.space, config.selection
    pool = faces.pool
    what = "out-of-fold" if faces.is_out_of_fold else "validation"
    unseen = UnseenFaces(faces.of_unseen, labels.encode(faces.unseen), what)
    training_codes = labels.encode(faces.train)
    selection = select(
        faces.of_pool,
        labels.encode(pool),
        labels=labels,
        config=settings,
        image_ids=pool["image_id"],
        round_index=round_index,
        unseen=unseen,
        members=faces.of_members if isinstance(settings, Agreement) else None,
        training_codes=training_codes[(training_codes >= 0).any(axis=1)],
    )
    rejected = pd.read_parquet(run.faces / "rejected.parquet")
    table = build_manifest(
        pool,
        selection,
        labels=labels,
        unreadable=rejected[rejected["role"] == "unlabeled"],
        identity=ManifestIdentity(
            run_name=config.run_name,
            round_index=round_index,
            faces_digest=faces_digest(run),
            teacher_digest=faces.teacher_digest,
            selection_digest=digest_of(settings.model_dump(mode="json")),
        ),
        targets=settings.targets,
        settings={**settings.model_dump(mode="json"), **(change or {})},
        faults=selection_faults(selection, labels=labels, config=settings, unseen=unseen),
        shift=shift,
    )
    write_manifest(directory / "manifest.parquet", table)
    return read_manifest(directory / "manifest.parquet")
