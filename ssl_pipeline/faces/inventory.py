"""The faces found while a run is prepared, and the account of them: what was rejected, cropped, used, source by source."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

logger = logging.getLogger(__name__)

REJECTED_COLUMNS = ["source", "image_id", "image_path", "role", "reason"]


@dataclass
class FaceInventory:
    """The faces at hand, and the account of every source."""

    faces: pd.DataFrame
    rejected: pd.DataFrame
    corrections: dict[str, Any]
    crops: pd.DataFrame = field(default_factory=pd.DataFrame)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reject(self, rows: "pd.Series[bool]", reasons: Any) -> None:
        """Move faces to the rejected ones, with their reasons."""
        moved = self.faces.loc[rows].assign(reason=reasons)
        self.rejected = pd.concat([self.rejected, moved[REJECTED_COLUMNS]], ignore_index=True)
        self.faces = self.faces.loc[~rows]

    def count_crops(self, cropped_sources: Sequence[str]) -> None:
        """Count the crops of the sources that are cropped, by their kind, and say where a fallback was used."""
        for name in cropped_sources:
            by_kind = Counter(self.crops.loc[self.crops["source"] == name, "crop"])
            self.sources[name]["cropped"] = dict(sorted(by_kind.items()))
            for kind in sorted(by_kind.keys() - {"face"}):
                logger.warning("%s: %d pictures without a face that counts are taken as %s", name, by_kind[kind], kind)

    def log_rejected(self) -> None:
        """Say how many faces of each source were rejected, and why."""
        for name, rows in self.rejected.groupby("source"):
            logger.warning("%s: %d faces rejected: %s", name, len(rows), "; ".join(counted(rows["reason"])))

    def accounts(self) -> dict[str, dict[str, Any]]:
        """Give the account of each source, what was rejected and used included."""
        used, rejected = Counter(self.faces["source"]), Counter(self.rejected["source"])
        return {name: {**of, "rejected": rejected[name], "used": used[name]} for name, of in self.sources.items()}


def counted(reasons: "pd.Series[str]", *, at_most: int = 3) -> list[str]:
    """Count the commonest reasons, and the others together."""
    common = Counter(reasons).most_common(at_most)
    num_others = len(reasons) - sum(number for _, number in common)
    others = [f"{num_others:,} × other reasons"] if num_others else []
    return [*(f"{number:,} × {reason}" for reason, number in common), *others]
