"""A run opened in a notebook: its manifests as data frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ssl_pipeline.errors import RunError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.face_filter import FaceFilter
from ssl_pipeline.pseudo_labels.manifest import manifest_parts
from ssl_pipeline.pseudo_labels.manifest_file import ManifestFile, open_manifest
from ssl_pipeline.pseudo_labels.summary import summarize
from ssl_pipeline.runs.directory import RunDir


class Run:
    """A run's directory, read only.

    ```python
    from ssl_pipeline import Run

    run = Run.open("data/runs/demo")
    faces = run.manifest(columns=["image_id", "mask", "mask_confidence"], filters={"status": "accepted", "mask": "wear"})
    faces.groupby("mask")["mask_confidence"].mean()
    run.summary()["counts"]
    ```
    """

    def __init__(self, directory: RunDir, rounds: Sequence[int]) -> None:
        """See `open`."""
        self._directory = directory
        self.rounds = tuple(rounds)
        """The rounds that have a manifest, from 1."""

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Open a run's directory.

        Raises:
            RunError: if it has no manifest.
        """
        directory = RunDir(Path(path))
        found = sorted(directory.root.glob("round-*/pseudo_labels/manifest.parquet"))
        if not found:
            raise RunError(f"{path}: no run with a manifest; `ssl-pipeline run` writes one once it has selected labels")
        return cls(directory, [int(file.parent.parent.name.removeprefix("round-")) for file in found])

    def manifest(
        self,
        round_index: int | None = None,
        *,
        columns: Sequence[str] | None = None,
        filters: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Return the faces of a manifest, a row each, without class probabilities; attributes are categoricals.

        Args:
            round_index: the round; None: the first.
            columns: which to read; None: all. docs/selection.md explains them.
            filters: what the faces must have: ``status``, ``source``, ``reason`` (a part of it), or the value of an
                attribute. The file is read batch by batch, so that a few rows of a large one need little memory.

        Raises:
            ManifestError: if there is no such round, column or value.
        """
        wanted = dict(filters or {})
        named = {name: wanted.pop(name, None) for name in ("status", "source", "reason")}
        file = self.file(round_index).filtered(FaceFilter(values=wanted, **named))
        return pd.concat([part.faces for part in manifest_parts(file, file.columns(columns))], ignore_index=True)

    def summary(self, round_index: int | None = None) -> dict[str, Any]:
        """Return what `ssl-pipeline manifest summary` shows, see `pseudo_labels.summary.summarize`."""
        return summarize(self.file(round_index))

    @property
    def labels(self) -> LabelSpace:
        """The attributes and their values."""
        return self.file().labels

    def file(self, round_index: int | None = None) -> ManifestFile:
        """Open the manifest of a round.

        Raises:
            ManifestError: if there is none.
        """
        chosen = self.rounds[0] if round_index is None else round_index
        return open_manifest(self._directory.pseudo_labels(chosen) / "manifest.parquet")
