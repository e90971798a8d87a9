"""Inventory of a run's faces during preparation: usable faces, rejected faces, counts per source."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ssl_pipeline.config.faces import FacesConfig, Role
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.config.sources import Source
from ssl_pipeline.errors import FaceTableError, list_of_faults
from ssl_pipeline.faces.sources.corrections import CorrectionCounts, Corrections
from ssl_pipeline.faces.sources.reading import SourceFaces, read_source, source_name

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

    def check_attributes(self, labels: LabelsConfig) -> None:
        """Refuse an attribute that no labeled face knows: nothing could be learned about it.

        Raises:
            FaceTableError: with the columns that the sources give.
        """
        labeled = self.faces[self.faces["role"] != "unlabeled"]
        unknown = [name for name in labels.space.names if len(labeled) and labeled[name].isna().all()]
        if not unknown:
            return
        rows = []
        for name, columns in self.columns.items():
            if self.sources[name]["role"] != "unlabeled":
                given = ", ".join(f"'{column}'" for column in columns) or "no column"
                rows.append(f"'{name}' gives {given}")
        raise FaceTableError(
            list_of_faults(
                f"no labeled face has a known {' or '.join(repr(name) for name in unknown)}; name what the folders give "
                f"(levels: [{unknown[0]}]), or the column that holds it (columns: {{{unknown[0]}: …}})",
                rows,
            )
        )

    def check_roles(self) -> None:
        """Refuse to continue if no face is left for training, test or the pool.

        Raises:
            FaceTableError: with the reasons.
        """
        keys = {"labeled": "labeled.sources", "test": "labeled.test_sources", "unlabeled": "unlabeled.sources"}
        for role, key in keys.items():
            sources = [counts for counts in self.sources.values() if counts["role"] == role]
            if not sources or (self.faces["role"] == role).any():
                continue
            reasons = most_common(self.rejected.loc[self.rejected["role"] == role, "reason"])
            num_found, num_filtered = (sum(counts[name] for counts in sources) for name in ("found", "filtered"))
            if num_filtered:
                reasons.append(f"{num_filtered:,} × excluded by the filter")
            raise FaceTableError(
                f"faces.{key}: none of the {num_found:,} faces found can be used: {'; '.join(reasons)}; "
                "correct the files, widen the filter or add sources"
            )

    def check_pool(self, config: FacesConfig) -> None:
        """Refuse a pool of which every file is a labeled face too: none would be left to label.

        Raises:
            FaceTableError: with the cure.
        """
        is_pool = self.faces["role"] == "unlabeled"
        labeled = self.faces.loc[~is_pool, "image_path"]
        if config.labeled.limit is None and is_pool.any() and self.faces.loc[is_pool, "image_path"].isin(labeled).all():
            raise FaceTableError(
                f"faces.unlabeled.sources: all {is_pool.sum():,} files of the pool are labeled faces too, so none would be "
                "left to label; name another folder, or label fewer of them: --set faces.labeled.limit=…"
            )


def read_inventory(config: FacesConfig, labels: LabelsConfig, *, seed: int) -> FaceInventory:
    """Read every source of a run; nothing is decoded.

    Raises:
        FaceTableError: see `reading.read_source`.
    """
    corrections = Corrections.read(config.correction_paths, labels)
    read = [
        (role, source, read_source(source, root=config.root, labels=labels, seed=seed, corrections=corrections))
        for role, source in config.roles
    ]
    return join_sources(read, corrections)


def join_sources(read: Sequence[tuple[Role, Source, SourceFaces]], corrections: Corrections) -> FaceInventory:
    """Join the faces of sources, each with its role, into an inventory."""
    faces, rejected, counts, columns, passed_over = [], [], {}, {}, {}
    for role, source, result in read:
        name = source_name(source)
        faces.append(result.faces.assign(role=role, has_person=result.has_person))
        columns[name], passed_over[name] = result.columns, result.passed_over
        rejected.append(result.rejected.assign(role=role))
        counts[name] = {
            "role": role,
            "found": result.num_found,
            "passed_over": len(result.passed_over),
            "filtered": result.num_filtered,
            "beyond_limit": result.num_beyond_limit,
        }
    return FaceInventory(
        faces=pd.concat(faces, ignore_index=True),
        rejected=pd.concat(rejected, ignore_index=True)[REJECTED_COLUMNS],
        corrections=corrections.report(CorrectionCounts.total([result.corrections for _, _, result in read])),
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
