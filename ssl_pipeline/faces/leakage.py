"""Faces of the pool that are also faces, or persons, of the labeled set: found, removed, counted."""

from typing import Any

import pandas as pd

SPLITS = ("test", "validation", "train")
"""In the order in which a face that equals several is counted."""


def remove_overlap(pool: pd.DataFrame, labeled: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Remove pool faces whose bytes equal a labeled face's, or whose person is held out, and doubles in the pool.

    Args:
        pool: image_id, content_hash, person_id.
        labeled: the same, and split, one of `SPLITS`.

    Returns:
        What is left of the pool, and ``{"removed": {split or "pool": number}, "pairs": [{image_id, same_as, split,
        why}, …]}``, why being ``content`` or ``person``.
    """
    pairs: list[dict[str, str]] = []
    ranked = labeled.assign(rank=labeled["split"].map({split: rank for rank, split in enumerate(SPLITS)}))
    ranked = ranked.sort_values(["rank", "image_id"], kind="stable")
    removed = pd.Series(False, index=pool.index)
    for column, why, known in (
        ("content_hash", "content", ranked),
        ("person_id", "person", ranked[ranked["split"] != "train"]),  # a trained-on person may be learned from again
    ):
        first = known.drop_duplicates(column).set_index(column)
        found = ~removed & pool[column].isin(first.index)
        partners = first.loc[pool.loc[found, column], ["image_id", "split"]]
        for image_id, same_as, split in zip(
            pool.loc[found, "image_id"], partners["image_id"], partners["split"], strict=True
        ):
            pairs.append({"image_id": image_id, "same_as": same_as, "split": split, "why": why})
        removed |= found
    left = pool[~removed].sort_values("image_id", kind="stable")
    originals = left.drop_duplicates("content_hash").set_index("content_hash")["image_id"]
    double = left["content_hash"].duplicated()
    for image_id, content_hash in zip(left.loc[double, "image_id"], left.loc[double, "content_hash"], strict=True):
        pairs.append({"image_id": image_id, "same_as": originals[content_hash], "split": "pool", "why": "content"})
    counts = {split: sum(pair["split"] == split for pair in pairs) for split in (*SPLITS, "pool")}
    return left[~double], {"removed": counts, "pairs": sorted(pairs, key=lambda pair: pair["image_id"])}
