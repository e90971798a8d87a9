"""Leakage from the labeled faces into the pool: equal pictures and held-out persons, removed and counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.runs.files import read_json

SPLITS = ("test", "guarantee", "validation", "train")
"""Splits by strictness: a pool face that equals labeled faces of several splits counts for the first."""


def remove_overlap(pool: pd.DataFrame, labeled: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Remove pool faces with a labeled face's picture or a held-out person, and duplicates within the pool.

    A person with one picture in validation, guarantee or test is held out with all pictures, also under another name in the pool.

    Args:
        pool: image_id, content_hash, person_id, picture_id (see `near_duplicates.picture_ids`).
        labeled: the same, and split, one of `SPLITS`.

    Returns:
        The remaining pool, and ``{"removed": {split or "pool": number}, "pairs": [{image_id, same_as, split, why},
        …]}``; why is ``content`` (equal files), ``near`` (near duplicates) or ``person``.
    """
    rank = labeled["split"].map({split: rank for rank, split in enumerate(SPLITS)})
    ranked = labeled.assign(rank=rank).sort_values(["rank", "image_id"], kind="stable")
    copies = _match(pool, ranked, by="picture_id")
    copies["why"] = np.where(copies["same_content"], "content", "near")
    copied_persons = pool[["image_id", "person_id"]].merge(copies, on="image_id")  # persons as the pool names them
    persons = pd.concat([ranked, copied_persons.assign(image_id=copied_persons["same_as"])])
    persons = persons.sort_values(["rank", "image_id"], kind="stable")
    held_out = persons[persons["split"] != "train"]  # other pictures of a training person may stay
    others = _match(pool[~pool["image_id"].isin(copies["image_id"])], held_out, by="person_id")
    matches = pd.concat([copies, others.assign(why="person")])
    pairs: list[dict[Any, Any]] = matches[["image_id", "same_as", "split", "why"]].to_dict("records")
    remaining = pool[~pool["image_id"].isin(matches["image_id"])].sort_values("image_id", kind="stable")
    originals = remaining.drop_duplicates("content_hash").set_index("content_hash")["image_id"]
    is_duplicate = remaining["content_hash"].duplicated()
    duplicates = remaining.loc[is_duplicate, ["image_id", "content_hash"]].itertuples(index=False)
    for image_id, content_hash in duplicates:
        pairs.append({"image_id": image_id, "same_as": originals[content_hash], "split": "pool", "why": "content"})
    counts = {split: sum(pair["split"] == split for pair in pairs) for split in (*SPLITS, "pool")}
    pairs.sort(key=lambda pair: pair["image_id"])
    return remaining[~is_duplicate], {"removed": counts, "pairs": pairs}


def _match(pool: pd.DataFrame, labeled: pd.DataFrame, *, by: str) -> pd.DataFrame:
    """Match pool faces with the first labeled face of the same `by`: image_id, same_as, split, rank, same_content."""
    columns = {"image_id": "same_as", "content_hash": "labeled_content"}
    first = labeled.drop_duplicates(by)[[by, "image_id", "content_hash", "split", "rank"]].rename(columns=columns)
    matches = pool[list(dict.fromkeys(["image_id", "content_hash", by]))].merge(first, on=by)
    matches["same_content"] = matches["content_hash"] == matches["labeled_content"]
    return matches[["image_id", "same_as", "split", "rank", "same_content"]]


def persons_known(directory: Path) -> bool:
    """Return whether each labeled face of a run has a person_id; if not, evidence counts faces, and a verdict says so.

    Args:
        directory: of the prepared faces, `RunDir.faces`.
    """
    return bool(read_json(directory / "leakage.json").get("persons_known", False))
