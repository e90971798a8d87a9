"""Inventory of a run's faces during preparation: usable faces, rejected faces, counts per source."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ssl_pipeline.config.faces import FacesConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.faces.sources.corrections import CorrectionCounts, Corrections
from ssl_pipeline.faces.sources.reading import read_source, source_name

logger = logging.getLogger(__name__)

REJECTED_COLUMNS = ["source", "image_id", "image_path", "role", "reason"]


@dataclass
class FaceInventory:
    """Usable and rejected faces, and of every source its counts, the columns that it gives, and files passed over."""

    faces: pd.DataFrame
    rejected: pd.DataFrame
    corrections: dict[str, Any]
    crops: pd.DataFrame = field(default_factory=pd.DataFrame)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    passed_over: dict[str, list[str]] = field(default_factory=dict)

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


def read_inventory(config: FacesConfig, labels: LabelsConfig, *, seed: int) -> FaceInventory:
    """Read every source of a run; nothing is decoded.

    Raises:
        FaceTableError: see `reading.read_source`.
    """
    corrections = Corrections.read(config.correction_paths, labels)
    faces, rejected, counts, correction_counts = [], [], {}, []
    columns, passed_over = {}, {}
    for role, source in config.roles:
        result = read_source(source, root=config.root, labels=labels, seed=seed, corrections=corrections)
        faces.append(result.faces.assign(role=role, has_person=result.has_person))
        columns[source_name(source)], passed_over[source_name(source)] = result.columns, result.passed_over
        rejected.append(result.rejected.assign(role=role))
        correction_counts.append(result.corrections)
        counts[source_name(source)] = {
            "role": role,
            "found": result.num_found,
            "passed_over": len(result.passed_over),
            "filtered": result.num_filtered,
            "beyond_limit": result.num_beyond_limit,
        }
    return FaceInventory(
        faces=pd.concat(faces, ignore_index=True),
        rejected=pd.concat(rejected, ignore_index=True)[REJECTED_COLUMNS],
        corrections=corrections.report(CorrectionCounts.total(correction_counts)),
        sources=counts,
        columns=columns,
        passed_over=passed_over,
    )


# Parts of a reason that differ from row to row: location, value, path.
_LOCATIONS = re.compile(r"^(\S+ )?(row|line|entry) [0-9]+: ")
_DETAILS = re.compile(r"(?<=got )'.*'|(?<=got )\[.*\]|(?<=no such file ).*?(?= \(paths|$)|^'.*'(?= lies outside)")


@dataclass(frozen=True)
class ReasonGroup:
    """Reasons of one type.

    Attributes:
        text: the reason; details that differ from row to row are ``…``.
        number: number of reasons.
        position: of the first.
        detail: what stands in the place of ``…`` in the first reason; None if all are equal.
    """

    text: str
    number: int
    position: int
    detail: str | None


def group_reasons(reasons: Sequence[str]) -> list[ReasonGroup]:
    """Group reasons by type, the most common first.

    >>> group_reasons(["row 2: column 'a': expected a number, got 'x'", "row 9: column 'a': expected a number, got 'y'"])
    [ReasonGroup(text="column 'a': expected a number, got …", number=2, position=0, detail="'x'")]
    """
    texts = [_LOCATIONS.sub("", reason) for reason in reasons]
    types = [_DETAILS.sub("…", text) for text in texts]
    groups = []
    for kind, number in Counter(types).most_common():
        position = types.index(kind)
        members = {text for text, own_kind in zip(texts, types, strict=True) if own_kind == kind}
        detail = _DETAILS.search(texts[position])
        is_one = len(members) == 1 or detail is None
        text = texts[position] if is_one else kind
        groups.append(ReasonGroup(text, number, position, None if detail is None or is_one else detail.group()))
    return groups


def most_common(reasons: "pd.Series[str]", *, at_most: int = 3) -> list[str]:
    """Format the most common types of reasons, each with an example, and all others together."""
    groups = group_reasons(reasons.tolist())
    shown = [
        f"{group.number:,} × {group.text}" + (f" (e.g. {group.detail})" if group.detail else "")
        for group in groups[:at_most]
    ]
    num_others = sum(group.number for group in groups[at_most:])
    return [*shown, *([f"{num_others:,} × other reasons"] if num_others else [])]
