"""The faces of a round with their predictions, by the one predictor that labels the pool."""

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.temperature import TemperatureCalibration
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.shard_prediction import read_shards
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import StageRecord
from ssl_pipeline.stages.calibrate import fit_on

FOLD = "fold-"
SINGLE = "."


def parts_of(faces: pd.DataFrame, num_parts: int) -> IntArray:
    """Deal faces to fold teachers by their image ids, int [N]: the order of the faces changes nothing."""
    return np.array([zlib.crc32(image_id.encode()) % num_parts for image_id in faces["image_id"]], dtype=np.int64)


class RoundFaces:
    """The faces of a round and their predictions, read on first access.

    One predictor labels the pool, is calibrated, and is tested on held-out faces. It is the teacher; or the mean of the
    fold teachers, calibrated as a mean on the validation faces; or, where training faces test a precision guarantee, one
    fold teacher for each face, as each training face is predicted by the one teacher that was not trained on it.
    """

    def __init__(
        self, config: RunConfig, run: RunDir, round_index: int, *, pool_columns: Sequence[str] | None = None
    ) -> None:
        """Read nothing yet; `pool_columns` are those that `pool` has, None: all."""
        self._config, self._run, self._directory = config, run, run.pseudo_labels(round_index)
        self._pool_columns = pool_columns

    @cached_property
    def pool(self) -> pd.DataFrame:
        """The face table of the pool."""
        return read_faces(self._run.faces / "unlabeled.parquet", self._pool_columns)

    @cached_property
    def labeled(self) -> pd.DataFrame:
        """The face table of the labeled faces, all splits."""
        return read_faces(self._run.faces / "labeled.parquet")

    @property
    def train(self) -> pd.DataFrame:
        """The labeled faces of the training split."""
        return self.labeled[self.labeled["split"] == "train"]

    @property
    def validation(self) -> pd.DataFrame:
        """The labeled faces of the validation split."""
        return self.labeled[self.labeled["split"] == "validation"]

    @property
    def unseen(self) -> pd.DataFrame:
        """The labeled faces that no teacher trains on, but for the test split: validation and guarantee."""
        return self.labeled[self.labeled["split"].isin(["validation", "guarantee"])]

    @cached_property
    def held_out(self) -> HeldOutFaces:
        """Labeled faces predicted as the pool is: of the guarantee split if there is one, else out of fold or validation."""
        if self.labels_in_parts:
            return self._held_out(self.train, read_shards(self._run.out_of_fold, self.train), "out-of-fold")
        split = "guarantee" if (self.unseen["split"] == "guarantee").any() else "validation"
        rows = (self.unseen["split"] == split).to_numpy()
        return self._held_out(self.unseen[rows], self.unseen_probabilities[rows], split)

    def _held_out(self, faces: pd.DataFrame, probabilities: npt.NDArray[np.float32], name: str) -> HeldOutFaces:
        codes = self._config.labels.space.encode(faces)
        return HeldOutFaces(probabilities, codes, independent_units(faces), name)

    @property
    def labels_in_parts(self) -> bool:
        """Whether each face is labeled by one of the fold teachers, see `parts_of`."""
        return bool(self._inputs["in_parts"])

    @property
    def teacher_digest(self) -> str:
        """The digest of the round's checkpoint, or of all its checkpoints."""
        return str(self._inputs["teacher"])

    @cached_property
    def member_probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the pool by each member, float32 [T, N, K]; not of members that label a part each."""
        return self._by_member("predictions", self.pool)

    @cached_property
    def pool_probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the pool by the predictor, float32 [N, K]."""
        if self.labels_in_parts:
            return self._in_parts("predictions", self.pool)
        mean = read_shards(self._directory / "predictions" / self._names[0], self.pool)
        for name in self._names[1:]:  # one at a time, with the bits of a mean over all
            mean += read_shards(self._directory / "predictions" / name, self.pool)
        mean /= len(self._names)
        return self._calibrated(mean)

    @cached_property
    def unseen_probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the unseen labeled faces by the predictor, float32 [M, K]."""
        if self.labels_in_parts:
            return self._in_parts("held_out", self.unseen)
        return self._calibrated(np.asarray(self._unseen_members.mean(axis=0)))

    @property
    def validation_probabilities(self) -> npt.NDArray[np.float32]:
        """Class probabilities of the validation faces by the predictor, float32 [·, K]."""
        return self.unseen_probabilities[(self.unseen["split"] == "validation").to_numpy()]

    @cached_property
    def mean_calibration(self) -> tuple[TemperatureCalibration | None, dict[str, Any] | None]:
        """Calibration of the mean of the fold teachers, fitted on validation faces, and its report; else None and None.

        The mean of calibrated teachers is not calibrated: it is less confident than they are, and more often right.
        """
        if self.labels_in_parts or not self._names[0].startswith(FOLD):
            return None, None
        rows = (self.unseen["split"] == "validation").to_numpy()
        mean = self._unseen_members.mean(axis=0)[rows]
        return fit_on(mean, self.unseen[rows], self._config, what="validation")

    @cached_property
    def _unseen_members(self) -> npt.NDArray[np.float32]:
        return self._by_member("held_out", self.unseen)

    @property
    def _names(self) -> list[str]:
        return list(self._inputs["members"])

    @cached_property
    def _inputs(self) -> Mapping[str, Any]:
        return StageRecord.read(self._directory / "predictions").inputs

    def _by_member(self, folder: str, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        return np.stack([read_shards(self._directory / folder / name, table) for name in self._names])

    def _in_parts(self, folder: str, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        parts = parts_of(table, len(self._names))
        probabilities = np.zeros((len(table), self._config.labels.space.num_classes), np.float32)
        for part in np.unique(parts):
            name = self._names[part]
            probabilities[parts == part] = read_shards(self._directory / folder / name, table[parts == part])
        return probabilities

    def _calibrated(self, mean: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        calibration, _ = self.mean_calibration
        return mean if calibration is None else calibration.apply(mean, self._config.labels.space).astype(np.float32)
