"""The whole content of summaries, explanations, training tables and reasons, not single entries of them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN
from ssl_pipeline.pseudo_labels.criteria import gaussian_weights, order_invariant_mean, vote_disagreement
from ssl_pipeline.pseudo_labels.distribution_alignment import aligned, alignment_ratio
from ssl_pipeline.pseudo_labels.explanation import describe_face
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.merging import human_table, merge, read_training_table, write_training_table
from ssl_pipeline.pseudo_labels.selection import Selection, select
from ssl_pipeline.pseudo_labels.summary import filter_faces, first_faces, summarize
from tests.pseudo_labels.test_manifest import SPACE, build, opened, pool_of
from tests.pseudo_labels.test_merging import labeled
from tests.pseudo_labels.test_strategies import config_of


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return opened(tmp_path)


def edited(manifest: Manifest, **columns: dict[str, Any]) -> Manifest:
    """The manifest with values changed by image id, e.g. ``confidence={"a.jpg": 0.5}``."""
    rows = manifest.table.to_pylist()
    for row in rows:
        for column, values in columns.items():
            if row["status"] != "unreadable":
                row[column] = values.get(row["image_id"], row[column])
    return opened(manifest.path.parent, pa.Table.from_pylist(rows, schema=manifest.table.schema))


def ids_of(manifest: Manifest, status: str | None = None, sort: str = "confidence", **values: str) -> list[str]:
    faces = filter_faces(manifest, status=status, attribute_values=values, sort=sort)
    return [image_id.partition(":")[2] for image_id in faces["image_id"]]


def test_a_summary_holds_these_counts_in_this_order(manifest: Manifest) -> None:
    manifest = edited(manifest, age_confidence={"pool:sure.jpg": 0.951234567})
    none = {"accepted": 0, "mean_confidence": None, "min_confidence": None, "median_confidence": None}

    def single(confidence: float) -> dict[str, Any]:
        return {
            "accepted": 1,
            "mean_confidence": confidence,
            "min_confidence": confidence,
            "median_confidence": confidence,
        }

    summary = summarize(manifest)
    assert list(summary.pop("selection")) == ["settings", "thresholds", "faults", "shift"]
    expected = {
        "identity": {
            "run_name": "night",
            "round_index": 2,
            "faces_digest": "faces0",
            "teacher_digest": "teacher0",
            "selection_digest": "selection0",
        },
        "targets": "soft",
        "counts": {"candidates": 8, "accepted": 4, "rejected": 2, "unreadable": 2},
        "acceptance_rate": 3 / 5,
        "per_attribute": {
            "gender": {
                **{"known": 2, "accepted": 2, "rejected": 2, "derived": 1},
                "per_value": {"male": single(1.0), "female": single(0.98)},
            },
            "age": {
                **{"known": 2, "accepted": 2, "rejected": 2, "derived": 0},
                "per_value": {"<30": single(0.9512346), "30-59": single(1.0), ">=60": none},
            },
        },
        "per_class": {
            "male/<30": 1,
            "male/30-59": 0,
            "male/>=60": 0,
            "female/<30": 1,
            "female/30-59": 2,
            "female/>=60": 0,
        },
        "per_source": {
            "far": {"candidates": 1, "accepted": 1, "rejected": 0, "unreadable": 0},
            "pool": {"candidates": 7, "accepted": 3, "rejected": 2, "unreadable": 2},
        },
        "rejection_reasons": {"age: confidence < 0.95": 2, "gender: confidence < 0.95": 2},
        "unreadable_reasons": {"row …: duplicate image id": 1, "truncated after … bytes": 1},
    }
    assert json.dumps(summary) == json.dumps(expected)


def test_the_most_frequent_reason_comes_first_then_the_alphabet_decides(tmp_path: Path) -> None:
    reasons = ["b 1", "a", "c", "b 27"]
    files = pd.DataFrame({"source": "pool", "image_id": list("wxyz"), "image_path": list("wxyz"), "reason": reasons})
    found = summarize(opened(tmp_path, build(unreadable=files)))["unreadable_reasons"]
    assert list(found.items()) == [("b …", 2), ("a", 1), ("c", 1)]
    all_known = summarize(opened(tmp_path, build(["pool:all_known.jpg"])))
    assert all_known["rejection_reasons"] == {}


def test_filters_hold_together_and_equal_confidences_stay_in_the_order_of_ids(manifest: Manifest) -> None:
    manifest = edited(manifest, confidence=dict.fromkeys(["pool:unsure.jpg", "pool:sure.jpg", "far:[x]=y.jpg"], 0.5))
    equal = ["[x]=y.jpg", "sure.jpg", "unsure.jpg"]
    readable = filter_faces(manifest, status=None, attribute_values={}, sort="confidence")["confidence"].dropna()
    assert readable.is_monotonic_increasing
    for sort in ("confidence", "-confidence"):
        everything = ids_of(manifest, sort=sort)
        assert [image_id for image_id in everything[:6] if image_id in equal] == equal
        assert everything[6:] == ["cut.jpg", "sure.jpg"]  # unreadable, without a confidence
    assert ids_of(manifest, gender="male", age="<30", sort="image_id") == ["sure.jpg", "unsure.jpg"]
    assert ids_of(manifest, gender="female", age="<30") == ["gender_only.jpg"]
    assert ids_of(manifest, "accepted", gender="male", age="<30") == ["sure.jpg"]
    assert ids_of(manifest, "rejected", gender="male", age="<30") == ["unsure.jpg"]
    assert ids_of(manifest, "rejected", gender="male", age="30-59") == []


def test_equal_confidences_of_many_faces_stay_in_the_order_of_ids(manifest: Manifest) -> None:
    many = pa.concat_tables([manifest.table.slice(0, 1)] * 640)
    numbers = [number % 320 // 8 for number in range(640)]
    for name, column in (
        ("image_id", pa.array([f"{number:02d}" for number in numbers])),
        ("confidence", pa.array([float(number % 2) for number in numbers])),
    ):
        many = many.set_column(many.column_names.index(name), name, column)
    rows, num_rows = first_faces(dataclasses.replace(manifest, table=many), sort="-confidence")
    assert num_rows == 640
    expected = sorted(zip(numbers, range(640), strict=True), key=lambda pair: (-(pair[0] % 2), pair))
    assert rows["image_id"].tolist() == [f"{number:02d}" for number, _ in expected]
    first, num_rows = first_faces(dataclasses.replace(manifest, table=many), sort="-confidence", limit=7)
    assert first["image_id"].tolist() == rows["image_id"].tolist()[:7] and num_rows == 640


def test_a_face_is_described_in_full(manifest: Manifest) -> None:
    (face,) = describe_face(manifest, "pool:gender_only.jpg")
    assert pd.isna(face["attributes"]["age"].pop("label_source"))
    assert face["attributes"] == {
        "gender": {
            **{"value": "female", "confidence": 0.98, "status": "accepted", "label_source": "pseudo"},
            "reason": "confidence 0.98 >= 0.95",
        },
        "age": {
            **{"value": "<30", "confidence": 0.41, "status": "rejected"},
            "reason": "confidence 0.41 < 0.95",
        },
    }
    assert list(face["class_probabilities"]) == [
        *("female/<30", "female/30-59", "female/>=60"),
        *("male/<30", "male/30-59", "male/>=60"),  # equal ones in the order of classes
    ]
    assert list(face["class_probabilities"].values()) == pytest.approx([0.4, 0.3, 0.28, 0.01, 0.01, 0], abs=1e-7)
    assert face["columns"] == {
        "image_id": "pool:gender_only.jpg",
        "image_path": "=raw/pool:gender_only.jpg",
        "content_hash": "hash of pool:gender_only.jpg",
        "person_id": "person of pool:gender_only.jpg",
        "picture_id": "pool:gender_only.jpg",
        "source": "pool",
        "round": 2,
        "status": "accepted",
        "reason": "gender: confidence 0.98 >= 0.95; age: confidence 0.41 < 0.95",
        "weight": 1.0,
        "class_id": 3,
        "class_name": "female/<30",
        "confidence": 0.4,
        "teacher_digest": "teacher0",
        "selection_digest": "selection0",
    }
    unreadable = describe_face(manifest, "pool:cut.jpg")[0]
    assert (unreadable["attributes"], unreadable["class_probabilities"]) == ({}, {})


@pytest.mark.parametrize(
    ("mistyped", "similar"),
    [
        ("photos/set_b/IMG_0712", ["photos/set_b/img_0712.jpg", "photos/set_a/img_0712.jpg"]),
        ("0713.jpg", ["a/img_0712.jpg", "other/img_0712.jpg"]),  # the others are too unlike
        ("a/IMG_0712.jp", ["a/img_0712.jpg", "other/img_0712.jpg", "photos/set_a/img_0712.jpg"]),
        ("photos/set_b/img_0713.png", ["photos/set_b/img_0712.jpg", "photos/set_a/img_0712.jpg", "other/img_0712.jpg"]),
        ("a-c-xyz-", ["a-c-xyz"]),
        ("x/b.c", ["a-b.c"]),  # contains the last part, where a-b-c, no less similar, matches a pattern only
        ("zzzzz", []),
    ],
)
def test_an_unknown_face_is_answered_by_at_most_three_similar_ones(
    tmp_path: Path, mistyped: str, similar: list[str]
) -> None:
    names = [
        "photos/set_b/img_0712.jpg",
        "photos/set_a/img_0712.jpg",
        "other/img_0712.jpg",
        "a/img_0712.jpg",
        "a-c-xyz",
    ]
    names += ["a-b-c", "a-b.c"]
    files = pd.DataFrame({"source": "pool", "image_id": names, "image_path": names, "reason": "empty"})
    manifest = opened(tmp_path, build(["pool:sure.jpg"], unreadable=files))
    with pytest.raises(ManifestError) as fault:
        describe_face(manifest, mistyped)
    hint = "similar: " + ", ".join(similar) if similar else "`ssl-pipeline manifest show` lists image ids"
    assert str(fault.value) == f"{manifest.path}: no face '{mistyped}' among 8; {hint}"


def test_a_training_table_has_exactly_these_rows(manifest: Manifest) -> None:
    table = merge(labeled(), pool_of(), manifest, labels=SPACE)
    flags = ["known_gender", "known_age", "weight_gender", "weight_age"]
    identity = ["image_id", "content_hash", "person_id", "pixel_row"]
    assert table.columns.tolist() == [
        *(*identity, "label_source", "labeled_round"),
        *("known_gender", "weight_gender", "known_age", "weight_age", "target"),
    ]
    assert table.index.tolist() == list(range(8))
    assert [str(table[name].dtype) for name in ("label_source", "labeled_round", "target")] == [
        "str",
        "int64",
        "object",
    ]
    assert {target.dtype for target in table["target"]} == {np.dtype(np.float32)}
    assert table.set_index("image_id")[["label_source", "labeled_round", *flags]].to_dict("index") == {
        name: dict(zip(["label_source", "labeled_round", *flags], values, strict=True))
        for name, values in {
            "home:a.jpg": ("human", 0, True, False, 1, 1),
            "home:b.jpg": ("human", 0, True, True, 1, 1),
            "home:c.jpg": ("human", 0, True, True, 1, 1),
            "pool:age_known.jpg": ("human", 0, False, True, 0, 1),
            "pool:all_known.jpg": ("human", 0, True, True, 1, 1),
            "far:[x]=y.jpg": ("pseudo", 2, True, True, 1, 1),
            "pool:gender_only.jpg": ("pseudo", 2, True, False, 1, 0),
            "pool:sure.jpg": ("pseudo", 2, True, True, 1, 1),
        }.items()
    }
    for row in table.itertuples():
        source = "person of " if not row.image_id.startswith("home") else ""
        assert (row.content_hash, row.person_id) == (f"hash of {row.image_id}", source + row.image_id)


def test_the_table_of_no_face_reads_back(tmp_path: Path) -> None:
    nothing = human_table(labeled()[2:3], labels=SPACE)  # its one face has no known value
    write_training_table(tmp_path / "empty.parquet", nothing)
    found = read_training_table(tmp_path / "empty.parquet")
    assert len(found) == 0 and found.columns.tolist() == nothing.columns.tolist()


def test_a_damaged_table_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(ManifestError) as fault:
        read_training_table(tmp_path / "text.parquet")
    message = str(fault.value)
    assert message.startswith(f"{tmp_path}/text.parquet: not a readable training table (")
    assert "Parquet magic bytes not found" in message and "  " not in message
    assert message.endswith("); delete it and run again")


def test_a_folder_named_like_a_partition_adds_no_column(manifest: Manifest, tmp_path: Path) -> None:
    table, path = merge(labeled(), pool_of(), manifest, labels=SPACE), tmp_path / "fold=3" / "table.parquet"
    path.parent.mkdir()
    write_training_table(path, table)
    assert read_training_table(path).columns.tolist() == table.columns.tolist()


def test_refused_merges_name_the_cure_and_unreadable_files_are_no_candidates(manifest: Manifest) -> None:
    human = labeled()
    human.loc[0, "image_id"] = "pool:cut.jpg"  # unreadable in the pool, so it has no pseudo-label
    merge(human, pool_of(), manifest, labels=SPACE)
    human.loc[0, "image_id"] = "pool:sure.jpg"
    with pytest.raises(ManifestError) as fault:
        merge(human, pool_of(), manifest, labels=SPACE)
    assert str(fault.value) == (
        f"{manifest.path}: 1 of its faces are human-labeled; human labels are never overwritten: prepare the faces and "
        "run `ssl-pipeline run` again\n  pool:sure.jpg: the same image id"
    )
    wrong = edited(manifest, age={"pool:age_known.jpg": "<30"})
    with pytest.raises(ManifestError) as fault:
        merge(labeled(), pool_of(), wrong, labels=SPACE)
    assert str(fault.value) == (
        f"{manifest.path}: 1 values contradict the pool's known values; undo the edit, or run `ssl-pipeline run` again\n"
        "  pool:age_known.jpg, 'age': known as '>=60' in the pool, '<30' in the manifest"
    )


def selected(settings: dict[str, Any], rows: Any, *, members: Any = None, known: Any = None) -> Selection:
    """Select by gender: face i is a man with probability `rows[i]`, all of one age that is known."""
    of_class = np.zeros((len(rows), 6))
    of_class[:, 0], of_class[:, 3] = rows, 1 - np.asarray(rows)
    codes = np.tile([UNKNOWN, 0], (len(rows), 1)) if known is None else known
    by_member = None if members is None else np.stack([np.eye(6)[0] * m + np.eye(6)[3] * (1 - m) for m in members])
    ids = [f"face-{number}" for number in range(len(rows))]
    return select(of_class, codes, labels=SPACE, config=config_of(settings), image_ids=ids, members=by_member)


AGREEMENT = {"type": "ensemble_agreement", "confidence_threshold": 0.75, "max_deviation": 0.125}


def test_agreement_accepts_at_both_limits_and_says_what_decided() -> None:
    members = np.array([[[0.875], [0.9], [0.6], [0.1]], [[0.625], [0.6], [0.6], [0.7]]])
    spread = np.sqrt(((members - members.mean(axis=0)) ** 2).sum(axis=0)).ravel()
    limit = {**AGREEMENT, "max_deviation": round(float(spread[0]), 7)}
    found = selected(limit, members.mean(axis=0).ravel(), members=members)
    assert found.accepted[:, 0].tolist() == [True, False, False, False]
    assert found.reasons[:, 0].tolist() == [
        f"confidence 0.75 >= 0.75, deviation 0.1767767 <= {limit['max_deviation']}",
        f"deviation 0.212132 > {limit['max_deviation']}",
        "confidence 0.6 < 0.75",
        "confidence 0.6 < 0.75",
    ]
    assert [row.note for row in found.thresholds if row.attribute == "gender"] == ["deviation <= 0.1767767"] * 2
    assert [row.threshold for row in found.thresholds if row.attribute == "gender"] == [0.75, 0.75]
    close = selected({**AGREEMENT, "max_deviation": 0.176}, members.mean(axis=0).ravel(), members=members)
    assert close.reasons[0, 0] == "deviation 0.177 > 0.176"  # rounded up, away from the limit


def test_a_weight_at_the_limit_is_accepted_and_the_note_has_the_pools_numbers() -> None:
    confidences = np.array([0.9, 0.9, 0.7, 0.7])
    weight = float(np.exp(-0.5 * (0.1 / 0.1) ** 2))  # the lower two lie one deviation below the mean
    exact = gaussian_weights(confidences, mean=float(np.mean(confidences)), deviation=0.1)
    assert exact.tolist() == pytest.approx([1, 1, weight, weight])
    found = selected({"type": "gaussian_weights", "min_weight": 0.9}, confidences)
    assert found.reasons[:, 0].tolist() == ["weight 1 >= 0.9"] * 2 + ["weight 0.606 < 0.9"] * 2
    assert {row.note for row in found.thresholds if row.attribute == "gender"} == {"mean 0.8000, deviation 0.1000"}
    equal = selected({"type": "gaussian_weights", "min_weight": 1.0}, [0.75, 0.75])
    assert equal.accepted[:, 0].all()  # a weight of just min_weight
    nobody = selected({"type": "gaussian_weights"}, [0.75], known=np.array([[0, 0]]))
    assert {row.note for row in nobody.thresholds} == {"mean 1.0000, deviation 0.0000"}


def test_a_curriculum_says_each_face_its_rank() -> None:
    found = selected({"type": "percentile_curriculum", "step_percent": 50}, [0.6, 0.1, 0.8, 0.75])
    assert found.reasons[:, 0].tolist() == [
        "rank 4 > 2 in round 1, of 4",
        "rank 1 <= 2 in round 1, of 4",
        "rank 2 <= 2 in round 1, of 4",
        "rank 3 > 2 in round 1, of 4",
    ]


def test_a_confidence_at_the_adaptive_threshold_is_accepted() -> None:
    found = selected({"type": "self_adaptive"}, [0.75, 0.75])
    assert found.accepted[:, 0].all() and found.reasons[0, 0] == "confidence 0.75 >= 0.75 for male"


def test_float32_numbers_are_computed_with_as_float64() -> None:
    rng = np.random.default_rng(0)
    single = rng.dirichlet(np.ones(3), (2, 50)).astype(np.float32)
    double = single.astype(np.float64)
    ratio = np.array([0.5, 1.5, 2.0], dtype=np.float32)
    for function in (
        lambda numbers: order_invariant_mean(numbers[0]),
        lambda numbers: vote_disagreement(numbers, np.zeros(50, int)),
        lambda numbers: gaussian_weights(numbers[0, :, 0], mean=0.7, deviation=0.1),
        lambda numbers: aligned(numbers, ratio),
    ):
        assert function(single).dtype == np.float64
        np.testing.assert_array_equal(function(single), function(double))


def test_a_class_that_no_face_can_have_keeps_its_ratio_of_one() -> None:
    prior = np.array([0.5, 0.25, 0.25])
    ratio = alignment_ratio(np.array([[0.5, 0.5, 0.0]]), prior)
    assert ratio.tolist() == [1.0, 0.5, 1.0]
    assert alignment_ratio(np.zeros((0, 3)), prior).tolist() == [1.0, 1.0, 1.0]
    assert aligned(np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]]), ratio).tolist() == [[0, 0, 0], [1, 0, 0]]


def test_confidences_below_equal_ones_weigh_nothing() -> None:
    weights = gaussian_weights(np.array([0.5, 0.5 - 5e-10, 0.4]), mean=0.5, deviation=0.0)
    assert weights.tolist() == [1.0, 1.0, 0.0] and weights.dtype == np.float64
