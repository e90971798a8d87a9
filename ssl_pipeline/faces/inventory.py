"""Inventory of a run's faces during preparation: usable faces, rejected faces, counts per source."""

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
    """Usable and rejected faces, and the counts of every source."""

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
        """Count the crops of each cropped source by type; warn of fallbacks."""
        for name in cropped_sources:
            num_crops = Counter(self.crops.loc[self.crops["source"] == name, "crop"])
            self.sources[name]["cropped"] = dict(sorted(num_crops.items()))
            for crop in sorted(num_crops.keys() - {"face"}):
                logger.warning(
                    "%s: %d pictures without an accepted face are cropped as %s", name, num_crops[crop], crop
                )

    def log_rejected(self) -> None:
        """Log the number of rejected faces per source, with the reasons."""
        for name, rows in self.rejected.groupby("source"):
            logger.warning("%s: %d faces rejected: %s", name, len(rows), "; ".join(most_common(rows["reason"])))

    def counts_by_source(self) -> dict[str, dict[str, Any]]:
        """Return the counts of each source, including rejected and used faces."""
        used, rejected = Counter(self.faces["source"]), Counter(self.rejected["source"])
        return {
            name: {**counts, "rejected": rejected[name], "used": used[name]} for name, counts in self.sources.items()
        }


def most_common(reasons: "pd.Series[str]", *, at_most: int = 3) -> list[str]:
    """Count the most common reasons, and all others together."""
    common = Counter(reasons).most_common(at_most)
    num_others = len(reasons) - sum(number for _, number in common)
    others = [f"{num_others:,} × other reasons"] if num_others else []
    return [*(f"{number:,} × {reason}" for reason, number in common), *others]
