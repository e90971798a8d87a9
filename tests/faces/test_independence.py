"""Independent units: persons joined with picture groups."""

import pandas as pd

from ssl_pipeline.faces.independence import independent_units


def test_faces_of_a_person_or_of_a_picture_are_one_unit() -> None:
    faces = pd.DataFrame(
        {
            "person_id": ["ann", "ann", "bob", "cid", "dan", "eve"],
            "picture_id": ["p1", "p2", "p2", "p3", "p4", "p4"],
        }
    )
    units = independent_units(faces)
    assert units[0] == units[1] == units[2]  # ann and bob share picture p2
    assert units[4] == units[5] != units[3]
    assert sorted(set(units)) == [0, 1, 2]
