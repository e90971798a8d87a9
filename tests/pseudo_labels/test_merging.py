"""Training tables: unchanged human labels, merged with the accepted pseudo-labels."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.manifest import Manifest, Targets
from ssl_pipeline.pseudo_labels.merging import merge, read_training_table, write_training_table
from tests.pseudo_labels.test_explanation import manifest_of
from tests.pseudo_labels.test_manifest import SPACE, build, opened, pool_of

CODES = {"home:b.jpg": (0, 1), "home:a.jpg": (1, -1), "home:nothing.jpg": (-1, -1), "home:c.jpg": (1, 2)}


def labeled() -> pd.DataFrame:
    names = list(CODES)
    identity = pd.DataFrame(
        {
            "image_id": names,
            "content_hash": [f"hash of {name}" for name in names],
            "person_id": names,
            "picture_id": names,
            "pixel_row": range(4),
            "split": "train",
        }
    )
    return pd.concat([identity, SPACE.decode(np.array(list(CODES.values())))], axis=1)


def merged(manifest: Manifest, *, pool: pd.DataFrame | None = None, human: pd.DataFrame | None = None) -> pd.DataFrame:
    return merge(labeled() if human is None else human, pool_of() if pool is None else pool, manifest, labels=SPACE)


def answered(manifest: Manifest, answers: dict[str, dict[str, str | None]], **options: bool) -> pd.DataFrame:
    by_content = {f"hash of {name}": values for name, values in answers.items()}
    return merge(labeled(), pool_of(), manifest, labels=SPACE, answered=by_content, **options)


def row_of(table: pd.DataFrame, image_id: str) -> pd.Series:
    return table.set_index("image_id").loc[image_id]


@pytest.fixture
def soft(tmp_path: Path) -> Manifest:
    return opened(tmp_path)


@pytest.fixture
def hard(tmp_path: Path) -> Manifest:
    return opened(tmp_path, build(targets="hard"))


def edited(manifest: Manifest, image_id: str, column: str, value: object) -> Manifest:
    """The manifest with one value changed by hand."""
    rows = manifest.table.to_pylist()
    for row in rows:
        if row["image_id"] == image_id and row["status"] != "unreadable":
            row[column] = value
    return opened(manifest.path.parent, pa.Table.from_pylist(rows, schema=manifest.table.schema))


def test_every_face_with_a_label_is_listed_once_human_first(soft: Manifest) -> None:
    table = merged(soft)
    assert table["image_id"].tolist() == [
        "home:a.jpg",
        "home:b.jpg",
        "home:c.jpg",
        "pool:age_known.jpg",  # its gender was rejected; its age was known
        "pool:all_known.jpg",
        "far:[x]=y.jpg",
        "pool:gender_only.jpg",
        "pool:sure.jpg",
    ]
    assert table["label_source"].tolist() == ["human"] * 5 + ["pseudo"] * 3
    assert table["labeled_round"].tolist() == [0] * 5 + [2] * 3
    assert table["pixel_row"].tolist() == [1, 0, 3, 13, 14, 15, 11, 10]
    for name in SPACE.names:
        assert table[f"weight_{name}"].dtype == np.float32
        assert (table.loc[table[f"known_{name}"], f"weight_{name}"] == 1).all()


@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_human_labels_never_change(tmp_path: Path, targets: str) -> None:
    table = merged(opened(tmp_path, build(targets=targets)))
    assert row_of(table, "home:b.jpg")["target"].tolist() == [0, 1, 0, 0, 0, 0]
    np.testing.assert_allclose(row_of(table, "home:a.jpg")["target"], [0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert row_of(table, "home:a.jpg")[["known_gender", "known_age"]].tolist() == [True, False]
    for image_id, codes in CODES.items():
        if image_id != "home:nothing.jpg":
            row = row_of(table, image_id)
            assert (row["target"] > 0).tolist() == SPACE.candidates(np.array([codes]))[0].tolist()


def test_a_pool_that_does_not_count_is_drawn_and_teaches_nothing_known_or_guessed(soft: Manifest) -> None:
    table, counted = merge(labeled(), pool_of(), soft, labels=SPACE, pool_counts=False), merged(soft)
    assert set(table["image_id"]) == set(counted["image_id"])
    human = table["image_id"].str.startswith("home:")
    assert (table["label_source"] == "human").tolist() == human.tolist()
    weights = [f"weight_{name}" for name in SPACE.names]
    assert (table.loc[~human, weights] == 0).all(axis=None)
    pd.testing.assert_frame_equal(table[human], counted[counted["image_id"].str.startswith("home:")])


def test_without_pseudo_labels_the_human_labels_remain(tmp_path: Path) -> None:
    only_rejected = opened(tmp_path, build(["pool:unsure.jpg"]))
    table = merged(only_rejected)
    assert table["image_id"].tolist() == ["home:a.jpg", "home:b.jpg", "home:c.jpg"]
    assert table["known_age"].dtype == bool and table["pixel_row"].dtype == np.int64


def test_hard_targets_are_one_hot_or_uniform_over_the_candidates(hard: Manifest) -> None:
    table = merged(hard)
    assert row_of(table, "pool:sure.jpg")["target"].tolist() == [1, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(row_of(table, "pool:gender_only.jpg")["target"], [0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert row_of(table, "pool:gender_only.jpg")[["known_gender", "known_age"]].tolist() == [True, False]
    assert row_of(table, "pool:all_known.jpg")["target"].tolist() == [0, 0, 0, 0, 1, 0]
    assert row_of(table, "far:[x]=y.jpg")["target"].tolist() == [0, 0, 0, 0, 1, 0]


def test_soft_targets_are_the_teachers_probabilities_given_the_known_values(soft: Manifest) -> None:
    table = merged(soft)
    np.testing.assert_allclose(
        row_of(table, "pool:gender_only.jpg")["target"], [0.01, 0.01, 0, 0.4, 0.3, 0.28], atol=1e-6
    )
    assert row_of(table, "far:[x]=y.jpg")["target"].tolist() == [0, 0, 0, 0, 1, 0]  # the gender was known
    np.testing.assert_allclose(np.stack(table["target"]).sum(axis=1), 1, atol=1e-6)


def test_the_order_of_faces_and_pool_changes_nothing(soft: Manifest) -> None:
    straight = merged(soft)
    shuffled = merged(soft, pool=pool_of()[::-1], human=labeled()[::-1])
    pd.testing.assert_frame_equal(straight, shuffled)


def test_pseudo_labels_keep_their_weight_and_human_ones_have_weight_one(tmp_path: Path) -> None:
    weighted = manifest_of(tmp_path, {"type": "gaussian_weights", "min_weight": 0.05})
    table, faces = merged(weighted).set_index("image_id"), weighted.faces[weighted.faces["status"] != "unreadable"]
    faces = faces.set_index("image_id")
    for name in SPACE.names:
        taught = table[table[f"known_{name}"] & (table["label_source"] == "pseudo")][f"weight_{name}"]
        assert 0 < taught.min() <= taught.max() == 1
        assert taught.to_dict() == faces.loc[taught.index, f"{name}_weight"].to_dict()
        assert (table[table["label_source"] == "human"][f"weight_{name}"] == 1).all()
    known = faces.index[(faces["gender_status"] == "known") != (faces["age_status"] == "known")]
    mixed = table.loc[table.index.isin(known), ["weight_gender", "weight_age"]]
    assert (mixed.max(axis=1) == 1).all()  # a guess beside a human label does not lower the label's weight


def known_of(row: pd.Series) -> list[bool]:
    return row[[f"known_{name}" for name in SPACE.names]].tolist()


@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_an_answer_is_a_human_label_that_no_guess_overwrites(tmp_path: Path, targets: Targets) -> None:
    manifest = manifest_of(tmp_path, {"type": "gaussian_weights", "min_weight": 0.05})
    manifest = dataclasses.replace(manifest, targets=targets)
    before = merged(manifest)
    table = answered(manifest, {"pool:sure.jpg": {"age": ">=60"}, "pool:unsure.jpg": {"gender": "female"}})
    face = row_of(table, "pool:sure.jpg")  # its age was guessed as <30, its gender as male
    assert (face["label_source"], face["labeled_round"], face["weight_age"]) == ("pseudo", 2, 1)
    np.testing.assert_allclose(face["target"], [0, 0, 1, 0, 0, 0], atol=1e-6)
    assert face["weight_gender"] == row_of(before, "pool:sure.jpg")["weight_gender"]
    other = row_of(table, "pool:unsure.jpg")
    assert (other["weight_gender"], known_of(other)[0]) == (1, True)
    assert np.sum(other["target"][:3]) == 0
    if targets == "soft":
        np.testing.assert_allclose(other["target"][3:], [0.4, 0.4, 0.2], atol=1e-6)  # given that it is a woman
    untouched = ~table["image_id"].isin(["pool:sure.jpg", "pool:unsure.jpg"])
    rest = before[~before["image_id"].isin(["pool:sure.jpg", "pool:unsure.jpg"])]
    pd.testing.assert_frame_equal(table[untouched].reset_index(drop=True), rest.reset_index(drop=True))


def test_a_face_whose_labels_all_come_from_people_is_human_labeled(soft: Manifest) -> None:
    table = answered(soft, {"pool:sure.jpg": {"age": "<30", "gender": "male"}, "pool:unsure.jpg": {"age": ">=60"}})
    for name, known in (("pool:sure.jpg", [True, True]), ("pool:unsure.jpg", [False, True])):
        row = row_of(table, name)
        assert (row["label_source"], row["labeled_round"], known_of(row)) == ("human", 0, known)
    assert row_of(table, "pool:sure.jpg")["target"].tolist() == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("targets", ["hard", "soft"])
def test_a_guess_that_people_rejected_is_not_used(tmp_path: Path, targets: Targets) -> None:
    manifest = opened(tmp_path, build(targets=targets))
    table = answered(manifest, {"pool:sure.jpg": {"age": None}, "pool:gender_only.jpg": {"gender": None}})
    assert known_of(row_of(table, "pool:sure.jpg")) == [True, False]
    assert row_of(table, "pool:sure.jpg")["weight_age"] == 0
    assert "pool:gender_only.jpg" not in set(table["image_id"])  # nothing else of it was accepted


def test_an_answer_replaces_a_known_value_and_drops_the_guesses_that_rest_on_it(soft: Manifest) -> None:
    replaced = row_of(answered(soft, {"far:[x]=y.jpg": {"gender": "male"}}), "far:[x]=y.jpg")
    assert (replaced["label_source"], known_of(replaced)) == (
        "human",
        [True, False],
    )  # known as female; age was guessed
    assert np.sum(replaced["target"][3:]) == 0
    left_out = row_of(answered(soft, {"pool:all_known.jpg": {"gender": None}}), "pool:all_known.jpg")
    assert known_of(left_out) == [False, True]


def test_without_guesses_the_answers_of_a_face_remain(soft: Manifest) -> None:
    table = answered(soft, {"pool:sure.jpg": {"age": ">=60"}}, guesses=False)
    assert set(table["label_source"]) == {"human"}
    row = row_of(table, "pool:sure.jpg")
    assert (known_of(row), row["weight_gender"]) == ([False, True], 0)
    assert "pool:gender_only.jpg" not in set(table["image_id"])
    assert known_of(row_of(table, "far:[x]=y.jpg")) == [True, False]  # its gender was known, its age guessed


def test_no_answer_changes_nothing(soft: Manifest) -> None:
    pd.testing.assert_frame_equal(answered(soft, {"elsewhere.jpg": {"age": None}}), merged(soft))


def test_a_table_reads_back_and_has_the_same_bytes_twice(soft: Manifest, tmp_path: Path) -> None:
    table = merged(soft)
    for name in ("one.parquet", "two.parquet"):
        write_training_table(tmp_path / name, table)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    pd.testing.assert_frame_equal(read_training_table(tmp_path / "one.parquet"), table)
    with pytest.raises(ManifestError, match=r"three\.parquet: no such file"):
        read_training_table(tmp_path / "three.parquet")
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(ManifestError, match=r"text\.parquet: not a readable training table"):
        read_training_table(tmp_path / "text.parquet")


def test_a_pseudo_label_for_a_labeled_face_is_refused(soft: Manifest) -> None:
    human = labeled()
    human.loc[0, "image_id"] = "pool:sure.jpg"
    with pytest.raises(ManifestError, match=r"faces are human-labeled;(.|\n)*pool:sure\.jpg: the same image id"):
        merged(soft, human=human)
    human = labeled()
    human.loc[0, "content_hash"] = "hash of pool:unsure.jpg"
    with pytest.raises(ManifestError, match=r"faces are human-labeled;(.|\n)*pool:unsure\.jpg: the same content"):
        merged(soft, human=human)


def test_a_value_that_contradicts_a_known_one_is_refused(soft: Manifest) -> None:
    with pytest.raises(
        ManifestError, match=r"pool:age_known\.jpg, 'age': known as '>=60' in the pool, '<30' in the manifest"
    ):
        merged(edited(soft, "pool:age_known.jpg", "age", "<30"))
    with pytest.raises(ManifestError, match=r"pool:all_known\.jpg, 'gender': .* no value in the manifest"):
        merged(edited(soft, "pool:all_known.jpg", "gender", None))


def test_an_accepted_label_without_a_value_is_refused(soft: Manifest) -> None:
    with pytest.raises(ManifestError, match=r"pool:sure\.jpg, 'age': accepted, but without a value"):
        merged(edited(soft, "pool:sure.jpg", "age", None))


def test_a_manifest_of_other_faces_is_refused(soft: Manifest) -> None:
    with pytest.raises(ManifestError, match=r"manifest of another run(.|\n)*pool:unsure\.jpg: not in the pool"):
        merged(soft, pool=pool_of()[lambda pool: pool["image_id"] != "pool:unsure.jpg"])
    pool = pool_of().assign(content_hash="changed")
    with pytest.raises(ManifestError, match=r"manifest of another run(.|\n)*pool:sure\.jpg: content differs"):
        merged(soft, pool=pool)


def test_a_manifest_of_other_labels_is_refused(soft: Manifest) -> None:
    with pytest.raises(ManifestError, match="made for other labels"):
        merge(labeled(), pool_of(), soft, labels=LabelSpace.of({"gender": ["male", "female"]}))
