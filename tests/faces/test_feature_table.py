"""Tables of features that a user brings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.feature_table import features_of_faces, write_feature_table

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)
PATHS = ["a.jpg", "sub/b.jpg", "c.jpg", "d.jpg"]
FACES = pd.DataFrame(
    {"image_id": [f"home:{path}" for path in PATHS], "image_path": [f"/data/home/{path}" for path in PATHS]}
)


@pytest.mark.parametrize(
    ("key", "values"),
    [("image_id", FACES["image_id"]), ("image_path", FACES["image_path"]), ("image_path", pd.Series(PATHS))],
    ids=["id", "path in the run", "path in the source"],
)
def test_each_face_gets_its_own_vector(tmp_path: Path, key: str, values: pd.Series) -> None:
    order = [2, 0, 3, 1]
    write_feature_table(tmp_path / "f.parquet", {key: values.iloc[order].tolist()}, VECTORS[order])
    np.testing.assert_array_equal(features_of_faces(tmp_path / "f.parquet", "vector", FACES), VECTORS)


def test_lists_of_doubles_are_read(tmp_path: Path) -> None:
    pd.DataFrame({"image_path": PATHS, "clip": [row.tolist() for row in VECTORS]}).to_parquet(tmp_path / "f.parquet")
    np.testing.assert_array_equal(features_of_faces(tmp_path / "f.parquet", "clip", FACES), VECTORS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"image_path": PATHS[:2], "vector": [[1.0], [2.0]]},
            r"no features of 2 of 4 faces .*e\.g\. image_path c\.jpg",
        ),
        ({"path": PATHS, "vector": [[1.0]] * 4}, "expected the columns image_id or image_path, and 'vector'"),
        ({"image_path": ["a.jpg", "a.jpg"], "vector": [[1.0], [2.0]]}, "the image_path 'a.jpg' occurs more than once"),
        ({"image_path": PATHS[:2], "vector": [[1.0], [2.0, 3.0]]}, "equally many in every row"),
        ({"image_path": PATHS[:2], "vector": [[1.0], [float("nan")]]}, "expected finite numbers"),
        ({"image_path": PATHS[:2], "vector": [["x"], ["y"]]}, "expected lists of numbers"),
        ({"image_path": PATHS[:2], "vector": ["x", "y"]}, "expected a list of numbers in every row"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path: Path, table: dict[str, list], message: str) -> None:
    pd.DataFrame(table).to_parquet(tmp_path / "f.parquet")
    with pytest.raises(FaceTableError, match=message):
        features_of_faces(tmp_path / "f.parquet", "vector", FACES)


def test_a_file_that_is_missing_or_no_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FaceTableError, match="no such file"):
        features_of_faces(tmp_path / "absent.parquet", "vector", FACES)
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(FaceTableError, match="cannot be read as Parquet"):
        features_of_faces(tmp_path / "text.parquet", "vector", FACES)
