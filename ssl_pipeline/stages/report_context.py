"""What the parts of a report share: the pool's columns, its truth, the labeled faces, the faces that are shown.

Shapes: N rows of the manifest, A attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import IntArray
from ssl_pipeline.pseudo_labels.pool_columns import PoolColumns, align, value_codes
from ssl_pipeline.runs.directory import RunDir


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows of the faces."""

    faces: bool = True
    """False leaves every picture out."""
    blur: bool = False
    max_faces: int = 1500
    """Pictures in the page."""


@dataclass
class Shown:
    """Faces with a record in the page, in order, each once."""

    rows: list[tuple[str, int]] = field(default_factory=list)
    """Table, ``pool`` or ``labeled``, and position in it."""
    index: dict[tuple[str, int], int] = field(default_factory=dict)
    limit: int = 1500

    def add(self, table: str, positions: Sequence[int] | IntArray) -> list[int]:
        """Add positions of a table while there is room; return the indices of those that are shown."""
        for position in map(int, positions):
            if (table, position) not in self.index and len(self.rows) < self.limit:
                self.index[table, position] = len(self.rows)
                self.rows.append((table, position))
        return [self.index[table, int(position)] for position in positions if (table, int(position)) in self.index]

    def of(self, table: str) -> IntArray:
        """Return the shown positions of a table, in order."""
        return np.array([position for name, position in self.rows if name == table], np.int64)


@dataclass(frozen=True)
class ReportContext:
    """A run and the manifest that is shown."""

    run: RunDir
    config: RunConfig
    pool: PoolColumns
    options: ReportOptions
    summary: Mapping[str, Any]
    """Content of summary.json; empty if the cycle has not ended."""

    @property
    def round_index(self) -> int:
        """The round of the manifest."""
        return int(self.pool.metadata["identity"]["round_index"])

    @property
    def speed(self) -> float:
        """Faces that a model predicts in a second, as the run measured it; a guess if it did not."""
        costs = self.summary.get("costs") or {}
        return float((costs.get("student") or {}).get("faces_per_second") or 100.0)

    @property
    def model_dir(self) -> Path | None:
        """The folder of the student, else of the teacher; None if neither is trained."""
        folders = (self.run.student(self.round_index), self.run.teacher)
        return next((folder for folder in folders if (folder / "best.safetensors").is_file()), None)

    @property
    def teacher_dir(self) -> Path:
        """The folder of the model that labeled the pool in this round; with `out_of_fold`, of the run's teacher."""
        return self.run.teacher if self.round_index == 1 else self.run.student(self.round_index - 1)

    @cached_property
    def labeled(self) -> pd.DataFrame:
        """The labeled faces that trained or chose a model; test faces are not looked at one by one."""
        faces = read_faces(self.run.faces / "labeled.parquet")
        return faces[faces["split"].isin(["train", "validation"])].reset_index(drop=True)

    @cached_property
    def labeled_codes(self) -> IntArray:
        """Their values, int [·, A]."""
        return self.pool.labels.encode(self.labeled)

    @cached_property
    def pixel_rows(self) -> IntArray:
        """Rows of ``pixels.npy``, -1 where the face is unreadable, int [N]."""
        rows = align(self.pool.image_ids, self._table(["image_id", "pixel_row"]), "pixel_row")
        return np.asarray(rows.fill_null(-1).to_numpy(), np.int64)

    @cached_property
    def origins(self) -> Any:
        """The origin of each face, text [N]."""
        return align(self.pool.image_ids, self._table(["image_id", "origin"]), "origin")

    @cached_property
    def truth(self) -> IntArray:
        """True values where the run hid them, -1 unknown, int [N, A]."""
        labels, path = self.pool.labels, self.run.faces / "unlabeled_truth.parquet"
        truth = np.full((len(self.pool), len(labels.attributes)), -1, np.int64)
        if path.is_file():
            table = pq.read_table(path, partitioning=None)
            for position, item in enumerate(labels.attributes):
                if item.name in table.column_names and len(table):
                    truth[:, position] = value_codes(align(self.pool.image_ids, table, item.name), item.values)
        return truth

    def _table(self, columns: Sequence[str]) -> Any:
        return pq.read_table(self.run.faces / "unlabeled.parquet", columns=list(columns), partitioning=None)
