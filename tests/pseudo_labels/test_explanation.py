"""Explanations of single faces, and differences between manifests."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ssl_pipeline.cli.main import app
from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.difference import difference
from ssl_pipeline.pseudo_labels.explanation import explain
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.pseudo_labels.summary import summarize
from ssl_pipeline.reports.manifest_tables import render_difference, render_explanation, render_selection
from tests.pseudo_labels.test_manifest import FACES as FACES_OF_POOL
from tests.pseudo_labels.test_manifest import IDENTITY, SPACE, UNREADABLE, drawn, opened, pool_of
from tests.pseudo_labels.test_strategies import config_of

NAMES = list(FACES_OF_POOL)


def held_out_faces() -> HeldOutFaces:
    """Thirty men and thirty women of 30-59, predicted correctly except for one."""
    rows = np.repeat(np.array([[0, 1.0, 0, 0, 0, 0], [0, 0, 0, 0, 1.0, 0]]), 30, axis=0)
    codes = np.repeat(np.array([[0, 1], [1, 1]]), 30, axis=0)
    codes[0, 0] = 1
    return HeldOutFaces(rows, codes, np.arange(60))


def manifest_of(
    directory: Path, settings: dict[str, Any], faces: list[str] = NAMES, labels: LabelSpace = SPACE
) -> Manifest:
    pool, config = pool_of(), config_of(settings)
    pool = pool[pool["image_id"].isin(faces)]
    rows = np.array([FACES_OF_POOL[name][0] for name in pool["image_id"]]).reshape(-1, 6)
    selection = select(
        rows, labels.encode(pool), labels=labels, config=config, image_ids=pool["image_id"], held_out=held_out_faces()
    )
    directory.mkdir(exist_ok=True)
    (table,) = build_manifest(
        pool,
        selection,
        labels=labels,
        unreadable=UNREADABLE,
        identity=IDENTITY,
        targets="soft",
        settings=config.model_dump(mode="json"),
        faults=["too few"],
    )
    return opened(directory, table)


GUARANTEE = {"type": "precision_guarantee", "target": 0.8, "delta": 0.2}


def explanation_of(manifest: Manifest, image_id: str) -> str:
    return drawn(render_explanation(explain(manifest, image_id), manifest.selection))


def test_an_explanation_has_every_number_behind_a_status(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, GUARANTEE)
    (face,) = explain(manifest, "pool:gender_only.jpg")
    assert (face["status"], face["weight"], face["known"]) == ("accepted", 1.0, {})
    gender = face["attributes"]["gender"]
    assert (gender["value"], gender["confidence"], gender["status"], gender["weight"]) == (
        "female",
        0.98,
        "accepted",
        1,
    )
    row = gender["threshold"]
    assert (row["known_attributes"], row["threshold"], row["num_held_out"], row["num_correct"]) == ("", 0.98, 30, 30)
    assert 0.94 < row["lower_bound"] < 0.95 and row["bound_confidence"] == pytest.approx(0.8)
    age = face["attributes"]["age"]
    assert age["status"] == "rejected" and age["weight"] == 0
    assert age["reason"] == "no guarantee for <30: 0 held-out persons at the first threshold 0.9700, 8 needed"
    text = explanation_of(manifest, "pool:gender_only.jpg")
    for part in (
        "weight 1.000",
        "precision_guarantee (per attribute",
        "known before: nothing",
        "0.9800",
        "30",
        "0.947 at 0.8",
    ):
        assert part in text


def test_known_attributes_select_the_threshold_row_and_have_none_themselves(tmp_path: Path) -> None:
    (face,) = explain(manifest_of(tmp_path, GUARANTEE), "far:[x]=y.jpg")
    assert face["known"] == {"gender": "female"}
    assert face["attributes"]["gender"]["threshold"] is None
    assert face["attributes"]["age"]["threshold"]["known_attributes"] == "gender"
    assert (
        face["attributes"]["age"]["threshold"]["num_held_out"] == 59
    )  # given the gender, one woman is predicted as younger
    (known,) = explain(manifest_of(tmp_path, GUARANTEE), "pool:all_known.jpg")
    assert [numbers["threshold"] for numbers in known["attributes"].values()] == [None, None]


def test_a_face_selected_per_class_is_explained_by_its_class(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, {"type": "fixed_threshold", "per": "class"})
    (face,) = explain(manifest, "pool:unsure.jpg")
    assert {numbers["threshold"]["value"] for numbers in face["attributes"].values()} == {"male/<30"}
    text = explanation_of(manifest, "pool:unsure.jpg")
    assert text.count("male/<30") == 1 + text.partition("Thresholds")[0].count("male/<30")


def test_unreadable_and_absent_faces_are_explained_too(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, GUARANTEE)
    assert explain(manifest, "pool:cut.jpg")[0]["attributes"] == {}
    assert len(explain(manifest, "pool:sure.jpg")) == 2  # once read, once as an unreadable duplicate
    assert "truncated after 812 bytes" in explanation_of(manifest, "pool:cut.jpg")
    with pytest.raises(ManifestError, match=r"no face 'pool:sur\.jpg' among 8; similar: pool:sure\.jpg"):
        explain(manifest, "pool:sur.jpg")


def test_thresholds_settings_and_faults_are_kept_and_summarized(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, GUARANTEE)
    kept = summarize(manifest)["selection"]
    assert json.loads(json.dumps(kept)) == kept
    assert (kept["settings"]["target"], kept["faults"]) == (0.8, ["too few"])
    assert {(row["attribute"], row["known_attributes"]) for row in kept["thresholds"]} == {
        ("gender", ""),
        ("gender", "age"),
        ("age", ""),
        ("age", "gender"),
    }
    text = drawn(render_selection(manifest.selection))
    assert "fault: too few" in text and "age (known: gender)" in text and "8 needed" in text


def test_a_difference_counts_what_was_gained_lost_changed_and_kept(tmp_path: Path) -> None:
    strict = manifest_of(tmp_path / "a", {"type": "fixed_threshold", "confidence_threshold": 0.99}, NAMES[:-1])
    loose = manifest_of(tmp_path / "b", {"type": "fixed_threshold", "confidence_threshold": 0.4})
    found = difference(strict, loose)
    assert json.loads(json.dumps(found)) == found
    assert found["num_faces"] == {"before": 5, "after": 6, "both": 5}
    for position, name in enumerate(SPACE.names):
        counts = found["per_attribute"][name]
        old = {i for i, on in zip(strict.faces["image_id"], strict.accepted[:, position], strict=True) if on}
        new = {i for i, on in zip(loose.faces["image_id"], loose.accepted[:, position], strict=True) if on}
        assert [counts[kind] for kind in ("kept", "changed", "gained", "lost")] == [
            len(old & new),
            0,
            len(new - old),
            len(old - new),
        ]
        assert counts["gained"] > 0
        back = difference(loose, strict)["per_attribute"][name]
        assert (back["lost"], back["gained"]) == (counts["gained"], counts["lost"])
    assert "far:[x]=y.jpg: gained 30-59" in found["per_attribute"]["age"]["examples"]
    assert difference(strict, loose, num_examples=0)["per_attribute"]["age"]["examples"] == []
    assert difference(loose, loose)["per_attribute"]["age"]["gained"] == 0


def test_a_changed_value_is_listed_with_both_values(tmp_path: Path) -> None:
    before = manifest_of(tmp_path / "a", {"type": "fixed_threshold"})
    rows = before.table.to_pylist()
    for row in rows:
        if row["image_id"] == "pool:gender_only.jpg":
            row["gender"] = "male"
    edited = before.table.from_pylist(rows, schema=before.table.schema)
    (tmp_path / "b").mkdir()
    after = opened(tmp_path / "b", edited)
    gender = difference(before, after)["per_attribute"]["gender"]
    assert (gender["changed"], gender["examples"]) == (1, ["pool:gender_only.jpg: changed from female to male"])
    assert "changed from female to male" in drawn(
        render_difference(difference(before, after), before=before.path, after=after.path)
    )


def test_manifests_without_faces_compare_and_those_of_other_labels_are_refused(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "a", {"type": "fixed_threshold"})
    nothing = manifest_of(tmp_path / "b", {"type": "fixed_threshold"}, [])
    assert difference(nothing, manifest)["num_faces"] == {"before": 0, "after": 6, "both": 0}
    other = dataclasses.replace(manifest, labels=LabelSpace.of({"gender": ["a", "b"]}))
    with pytest.raises(ManifestError, match="different labels cannot be compared"):
        difference(manifest, other)


def test_the_commands_show_both(tmp_path: Path) -> None:
    path = str(manifest_of(tmp_path, GUARANTEE).path)
    run = CliRunner().invoke
    explained = run(app, ["manifest", "explain", path, "far:[x]=y.jpg"], env={"COLUMNS": "200"})
    assert explained.exit_code == 0 and "known before: gender female" in explained.output
    compared = run(app, ["manifest", "diff", path, path], env={"COLUMNS": "200"})
    assert compared.exit_code == 0 and "6 of them in both" in compared.output
    assert "selected by precision_guarantee" in run(app, ["manifest", "summary", path], env={"COLUMNS": "200"}).output


def test_weights_of_attributes_are_in_the_manifest(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, {"type": "gaussian_weights", "min_weight": 0.05})
    faces = manifest.faces[manifest.faces["status"] != "unreadable"]
    weights = faces[["gender_weight", "age_weight"]].to_numpy()
    accepted = manifest.accepted[(manifest.faces["status"] != "unreadable").to_numpy()]
    known = (faces[["gender_status", "age_status"]] == "known").to_numpy()
    assert ((weights > 0) == (accepted | known)).all() and (weights[known] == 1).all()
    assert 0 < weights[accepted].min() < 1
    row = faces.set_index("image_id").loc["pool:age_known.jpg"]
    assert row["weight"] == pytest.approx((row["gender_weight"] + 1) / 2)
    assert pd.isna(manifest.faces.set_index("status").loc["unreadable", "age_weight"]).all()
