"""Columns of a manifest as numbers equal the manifest as `read_manifest` reads it; choices are even and exact."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.pseudo_labels import pool_columns
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.pool_columns import (
    ATTRIBUTE_STATUSES,
    STATUSES,
    align,
    even_sample,
    first_of_each,
    read_pool,
)
from tests.pseudo_labels.test_manifest import opened


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return opened(tmp_path)


@pytest.mark.parametrize("batch", [1, 2, 65_536])
def test_the_columns_are_those_of_the_manifest(manifest: Manifest, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_columns, "_BATCH", batch)
    pool = read_pool(manifest.path)
    assert pool.labels == manifest.labels and pool.image_ids.to_pylist() == manifest.faces["image_id"].tolist()
    assert [STATUSES[code] for code in pool.status] == manifest.faces["status"].tolist()
    np.testing.assert_array_equal(pool.codes, manifest.codes)
    np.testing.assert_array_equal(pool.is_accepted(), manifest.accepted)
    for position, name in enumerate(manifest.labels.names):
        np.testing.assert_allclose(pool.confidence[:, position], manifest.faces[f"{name}_confidence"], rtol=1e-6)
        statuses = [ATTRIBUTE_STATUSES[code] if code >= 0 else None for code in pool.attribute_status[:, position]]
        assert statuses == manifest.faces[f"{name}_status"].astype(object).where(lambda own: own.notna(), None).tolist()
    positions = np.array([len(pool) - 1, 0])
    rows = pool.rows(positions, ["image_id", "reason"])
    assert [row["image_id"] for row in rows] == manifest.faces["image_id"].iloc[positions].tolist()


@pytest.mark.parametrize("content", [None, b"no parquet", "foreign"])
def test_another_file_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "x.parquet"
    if content == "foreign":
        pd.DataFrame({"a": [1]}).to_parquet(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"no such file|not a readable Parquet file|no pseudo-label manifest"):
        read_pool(path)


def test_a_column_is_brought_into_the_order_of_the_ids() -> None:
    table = pa.table({"image_id": ["b", "a"], "row": [1, 2]})
    assert align(pa.chunked_array([["a", "c"], ["b"]]), table, "row").to_pylist() == [2, None, 1]


def test_a_sample_takes_equally_many_of_each_stratum_until_one_is_empty() -> None:
    strata = np.array([0] * 100 + [1] * 10 + [2] * 3)
    sample = even_sample(strata, 33, seed=0)
    assert np.bincount(strata[sample]).tolist() == [20, 10, 3] and len(set(sample.tolist())) == 33
    assert sample.tolist() == even_sample(strata, 33, seed=0).tolist() != even_sample(strata, 33, seed=1).tolist()
    assert even_sample(strata, 1000, seed=0).tolist() == list(range(113)) and not len(
        even_sample(strata[:0], 5, seed=0)
    )


def test_the_lowest_keys_of_each_stratum_come_in_turn_and_only_marked_rows() -> None:
    keys, strata = np.array([0.5, 0.1, 0.3, 0.2, 0.0]), np.array([0, 0, 1, 1, 0])
    rows = np.array([True, True, True, True, False])
    assert first_of_each(keys, strata, rows, 3).tolist() == [1, 3, 2]
    assert not len(first_of_each(keys, strata, np.zeros(5, bool), 3))
