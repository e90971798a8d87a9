"""Faces of the pool that are also faces, or persons, of the labeled set: found, removed, counted."""

from typing import Any

import numpy as np
import pandas as pd

SPLITS = ("test", "validation", "train")
"""In the order in which a face that equals several is counted."""


def remove_overlap(pool: pd.DataFrame, labeled: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Remove pool faces whose picture is a labeled face's, or whose person is held out, and doubles in the pool.

    A person of the pool is held out under any name: who has one picture in validation or test takes all others along.

    Args:
        pool: image_id, content_hash, person_id, picture (see `near_duplicates.same_picture`).
        labeled: the same, and split, one of `SPLITS`.

    Returns:
        What is left of the pool, and ``{"removed": {split or "pool": number}, "pairs": [{image_id, same_as, split,
        why}, …]}``, why being ``content`` (the same bytes), ``near`` (the same picture saved anew) or ``person``.
    """
    rank = labeled["split"].map({split: rank for rank, split in enumerate(SPLITS)})
    known = labeled.assign(rank=rank).sort_values(["rank", "image_id"], kind="stable")
    copies = _partners(pool, known, by="picture")
    copies["why"] = np.where(copies["same_content"], "content", "near")
    pictured = pool[["image_id", "person_id"]].merge(copies, on="image_id")  # the pool's own names for persons
    persons = pd.concat([known, pictured.assign(image_id=pictured["same_as"])])
    persons = persons.sort_values(["rank", "image_id"], kind="stable")
    held_out = persons[persons["split"] != "train"]  # a trained-on person may be learned from again
    others = _partners(pool[~pool["image_id"].isin(copies["image_id"])], held_out, by="person_id")
    found = pd.concat([copies, others.assign(why="person")])
    pairs: list[dict[Any, Any]] = found[["image_id", "same_as", "split", "why"]].to_dict("records")
    removed = pool["image_id"].isin(found["image_id"])
    left = pool[~removed].sort_values("image_id", kind="stable")
    originals = left.drop_duplicates("content_hash").set_index("content_hash")["image_id"]
    double = left["content_hash"].duplicated()
    for image_id, content_hash in zip(left.loc[double, "image_id"], left.loc[double, "content_hash"], strict=True):
        pairs.append({"image_id": image_id, "same_as": originals[content_hash], "split": "pool", "why": "content"})
    counts = {split: sum(pair["split"] == split for pair in pairs) for split in (*SPLITS, "pool")}
    return left[~double], {"removed": counts, "pairs": sorted(pairs, key=lambda pair: pair["image_id"])}


def _partners(pool: pd.DataFrame, known: pd.DataFrame, *, by: str) -> pd.DataFrame:
    """Match pool faces with the first known face of the same `by`: image_id, same_as, split, rank."""
    columns = {"image_id": "same_as", "content_hash": "its_content"}
    first = known.drop_duplicates(by)[[by, "image_id", "content_hash", "split", "rank"]].rename(columns=columns)
    found = pool[list(dict.fromkeys(["image_id", "content_hash", by]))].merge(first, on=by)
    return found.assign(same_content=found["content_hash"] == found["its_content"])[
        ["image_id", "same_as", "split", "rank", "same_content"]
    ]
