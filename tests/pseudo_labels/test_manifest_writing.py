"""A manifest is built and written by batches of rows, with the bytes of a table built in one piece."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.criteria import vote_disagreement
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces
from ssl_pipeline.pseudo_labels.selection import Selection, select
from tests.pseudo_labels.test_strategies import ALL, config_of

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
NUM_FACES = 300
UNREADABLE = pd.DataFrame(
    {
        "source": "pool",
        "image_id": ["pool:0007.jpg", "pool:0007.jpg", "a:first.jpg", "pool:0100x.jpg", "z:last.jpg"],
        "image_path": "raw",
        "reason": ["two\nlines", "a second file", "cut", "cut", "cut"],
    }
)


@pytest.fixture
def pool() -> pd.DataFrame:
    ids = [f"pool:{number:04d}.jpg" for number in np.random.default_rng(1).permutation(NUM_FACES)]
    texts = dict.fromkeys(("image_id", "image_path", "content_hash", "person_id", "picture_id"), ids)
    derived = np.array([None, "age", "gender,age"], object)[np.arange(NUM_FACES) % 3]
    return pd.DataFrame(texts).assign(source="pool", derived=derived)


def chosen(settings: dict[str, Any], pool: pd.DataFrame) -> Selection:
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet(np.full(6, 0.2), NUM_FACES).astype(np.float32)
    known = np.where(rng.random((NUM_FACES, 2)) < 0.3, SPACE.class_codes[rng.integers(6, size=NUM_FACES)], -1)
    held_out = rng.dirichlet(np.full(6, 0.2), 400).astype(np.float32)
    codes = SPACE.class_codes[held_out.argmax(axis=1)]
    return select(
        probabilities,
        known,
        labels=SPACE,
        config=config_of(settings),
        image_ids=pool["image_id"],
        round_index=2,
        held_out=HeldOutFaces(held_out, codes, np.arange(400)),
        members=np.stack([probabilities, probabilities[::-1] * 0.1 + probabilities * 0.9]),
        training_codes=codes,
    )


def tables(pool: pd.DataFrame, selection: Selection) -> list[pa.Table]:
    identity = ManifestIdentity("night", 2, "faces", "teacher", "selection")
    parts = build_manifest(pool, selection, labels=SPACE, unreadable=UNREADABLE, identity=identity, targets="soft")
    return list(parts)


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: settings["type"])
@pytest.mark.parametrize("per", ["attribute", "class"])
@pytest.mark.parametrize("align", ["none", "training"])
def test_batches_have_the_bytes_of_a_table_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: pd.DataFrame, settings: dict[str, Any], per: str, align: str
) -> None:
    settings = {**settings, "per": per, "align": align}
    (whole,) = tables(pool, chosen(settings, pool))
    assert len(whole) == NUM_FACES + len(UNREADABLE)
    keys = [(row["image_id"], row["status"], row["reason"]) for row in whole.to_pylist()]
    assert keys == sorted(keys)
    pq.write_table(whole, tmp_path / "whole.parquet", compression="zstd", row_group_size=64)
    monkeypatch.setattr("ssl_pipeline.pseudo_labels.manifest_writing.ROWS_PER_BATCH", 64)
    monkeypatch.setattr("ssl_pipeline.pseudo_labels.posteriors._ROWS_AT_ONCE", 50)
    parts = tables(pool, chosen(settings, pool))
    assert [len(part) for part in parts] == [64, 64, 64, 64, 49]
    write_manifest(tmp_path / "parts.parquet", parts)
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_an_id_that_occurs_twice_is_refused_between_two_batches_too(
    monkeypatch: pytest.MonkeyPatch, pool: pd.DataFrame
) -> None:
    selection = chosen({"type": "fixed_threshold"}, pool)
    pool.loc[pool["image_id"] == "pool:0064.jpg", "image_id"] = "pool:0063.jpg"
    monkeypatch.setattr("ssl_pipeline.pseudo_labels.manifest_writing.ROWS_PER_BATCH", 1)
    with pytest.raises(ValueError, match="must be unique"):
        tables(pool, selection)


def test_no_text_and_no_posterior_is_held_for_all_faces(pool: pd.DataFrame) -> None:
    selection = chosen({"type": "balanced_top_k", "k": 20}, pool)
    list(tables(pool, selection))
    arrays = [value for value in vars(selection).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) <= NUM_FACES * 16
    assert "probabilities" not in vars(selection)


def test_members_are_compared_in_their_own_precision(pool: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    members = rng.dirichlet(np.ones(6), (2, NUM_FACES)).astype(np.float32)
    known = np.tile([-1, 1], (NUM_FACES, 1))
    settings = {
        "type": "ensemble_agreement",
        "confidence_threshold": 0.01,
        "max_deviation": 0.0800001,
        "per": "attribute",
    }
    selection = select(
        members.mean(axis=0),
        known,
        labels=SPACE,
        config=config_of(settings),
        image_ids=pool["image_id"],
        members=members,
    )
    genders = np.stack([SPACE.attribute_probabilities(SPACE.condition(member, known))[0] for member in members])
    expected = vote_disagreement(genders, selection.attribute_codes[:, 0])
    found = [float(reason.partition("deviation ")[2].split()[0]) for reason in selection.reasons[:, 0]]
    assert found == expected.tolist()
