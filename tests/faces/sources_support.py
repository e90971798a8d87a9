"""Helpers for tests of sources: labels, tiny images, reading with checked invariants."""

import pandas as pd
from PIL import Image
from pydantic import TypeAdapter

from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.config.sources import Source
from ssl_pipeline.faces.sources.reading import REJECTED_COLUMNS, read_source

LABELS = LabelsConfig.model_validate(
    {
        "attributes": [
            {"name": "mask", "values": ["wear", "incorrect", "normal"]},
            {"name": "gender", "values": ["male", "female"]},
            {"name": "age", "values": ["<30", "30-59", ">=60"], "from_column": "age_years", "bin_edges": [30, 60]},
        ]
    }
)
TIME = "20170116174525125"


def source_of(**section):
    return TypeAdapter(Source).validate_python({"path": ".", **section})


def put(path, *, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), 128).save(path, format="PNG")


def read(root, *, labels=LABELS, seed=0, **section):
    result = read_source(source_of(**section), root=root, labels=labels, seed=seed)
    total = (
        len(result.faces)
        + len(result.rejected)
        + len(result.passed_over)
        + result.num_filtered
        + result.num_beyond_limit
    )
    assert result.num_found == total
    assert list(result.rejected.columns) == REJECTED_COLUMNS
    assert list(result.faces.columns) == [
        *("image_id", "image_path", "person_id", "source"),
        *(attribute.name for attribute in labels.attributes),
        *("age_years", "origin", "derived"),
    ]
    assert result.faces["image_id"].is_unique
    return result


def rows_of(table, *columns):
    return [tuple(None if pd.isna(value) else value for value in row) for row in table[list(columns)].to_numpy()]


def put_csv(folder, text, images=("a.jpg", "b.jpg", "c.jpg"), encoding="utf-8"):
    for image in images:
        put(folder / image)
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_bytes(text.encode(encoding))


def read_csv(root, **section):
    return read(root, type="csv", table="labels.csv", **section)
