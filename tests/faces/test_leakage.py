"""Removal of leaks from the pool, compared with a direct implementation of the rules."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_pipeline.faces.leakage import SPLITS, remove_overlap

pictures, persons = st.sampled_from("uvwxyz"), st.integers(0, 6)


def table(prefix: str, rows: list[tuple[str, int, str]]) -> pd.DataFrame:
    """Build a table of (picture, person, split); the id of a person begins with its source."""
    return pd.DataFrame(
        {
            "image_id": [f"{prefix}:{row:02d}" for row in range(len(rows))],
            "content_hash": [picture for picture, _, _ in rows],
            "picture_id": [picture for picture, _, _ in rows],
            "person_id": [f"{prefix}:p{person}" for _, person, _ in rows],
            "split": [split for _, _, split in rows],
        },
        dtype="str",
    )


def left_by_the_rules(pool: pd.DataFrame, labeled: pd.DataFrame) -> list[str]:
    """List the ids of the faces that may stay, applying one rule after another."""
    of_picture = labeled.groupby("content_hash")["split"].agg(set).to_dict()
    held_out = set(labeled.loc[labeled["split"] != "train", "person_id"])
    for picture, person in zip(pool["content_hash"], pool["person_id"], strict=True):
        if of_picture.get(picture, set()) & {"test", "guarantee", "validation"}:
            held_out.add(person)
    left, seen = [], set()
    for image_id, picture, person in zip(pool["image_id"], pool["content_hash"], pool["person_id"], strict=True):
        if picture not in of_picture and person not in held_out and picture not in seen:
            left.append(image_id)
            seen.add(picture)
    return left


@given(
    labeled=st.lists(st.tuples(pictures, persons, st.sampled_from(SPLITS)), max_size=12),
    pool=st.lists(st.tuples(st.sampled_from("wxyzabcdefgh"), persons, st.just("unlabeled")), max_size=20),
    shared_names=st.booleans(),
)
@settings(max_examples=100)
def test_the_remaining_pool_follows_the_rules_and_every_removal_is_counted(
    labeled: list[tuple[str, int, str]], pool: list[tuple[str, int, str]], shared_names: bool
) -> None:
    pool_table, labeled_table = table("b", pool), table("a", labeled)
    if shared_names:
        labeled_table["person_id"] = labeled_table["person_id"].str.replace("a:", "b:")
    left, leakage = remove_overlap(pool_table, labeled_table)
    assert left["image_id"].tolist() == left_by_the_rules(pool_table, labeled_table)
    assert len(left) + sum(leakage["removed"].values()) == len(pool_table)
    named = [pair["image_id"] for pair in leakage["pairs"]]
    assert named == sorted(set(pool_table["image_id"]) - set(left["image_id"]))
    all_faces = pd.concat([labeled_table, pool_table]).set_index("image_id")
    for pair in leakage["pairs"]:
        if pair["why"] == "content":
            one, other = (all_faces.loc[pair[key], "content_hash"] for key in ("image_id", "same_as"))
            assert one == other
        if pair["split"] != "pool":
            assert all_faces.loc[pair["same_as"], "split"] == pair["split"]


@pytest.mark.parametrize(
    ("splits", "counted"), [(("train", "validation", "test"), "test"), (("train", "validation"), "validation")]
)
def test_a_picture_in_several_splits_is_counted_for_the_strictest(splits: tuple[str, ...], counted: str) -> None:
    labeled = table("a", [("x", person, split) for person, split in enumerate(splits)])
    _, leakage = remove_overlap(table("b", [("x", 0, "unlabeled")]), labeled)
    assert {split: number for split, number in leakage["removed"].items() if number} == {counted: 1}


@pytest.mark.parametrize(("split", "left"), [("test", ["b:02"]), ("validation", ["b:02"]), ("train", ["b:01", "b:02"])])
def test_a_person_with_one_held_out_picture_leaves_the_pool_with_all_pictures(split: str, left: list[str]) -> None:
    labeled = table("a", [("x", 0, split)])
    pool = table("b", [("x", 7, "unlabeled"), ("other picture of 7", 7, "unlabeled"), ("z", 8, "unlabeled")])
    stays, leakage = remove_overlap(pool, labeled)
    assert stays["image_id"].tolist() == left
    assert leakage["removed"][split] == len(pool) - len(left)


def test_the_order_of_rows_changes_nothing() -> None:
    labeled = table("a", [("x", 0, "test"), ("x", 1, "train"), ("y", 2, "validation")])
    pool = table("b", [("x", 0, ""), ("q", 0, ""), ("y", 1, ""), ("q", 2, ""), ("r", 3, ""), ("r", 4, "")])
    left, leakage = remove_overlap(pool, labeled)
    turned_left, turned = remove_overlap(pool[::-1], labeled[::-1])
    assert leakage == turned
    pd.testing.assert_frame_equal(left, turned_left)
    assert left["image_id"].tolist() == ["b:03", "b:04"]


def test_a_near_duplicate_leaves_the_pool() -> None:
    labeled = table("home", [("a", 1, "test"), ("b", 2, "train")])
    pool = table("pool", [("a", 1, ""), ("a2", 2, ""), ("b2", 3, ""), ("c", 4, "")])
    pool["picture_id"] = ["a", "a", "b", "c"]
    left, leakage = remove_overlap(pool, labeled)
    assert left["image_id"].tolist() == ["pool:03"]
    assert [(pair["image_id"], pair["same_as"], pair["split"], pair["why"]) for pair in leakage["pairs"]] == [
        ("pool:00", "home:00", "test", "content"),
        ("pool:01", "home:00", "test", "near"),
        ("pool:02", "home:01", "train", "near"),
    ]
