"""Independent units of evidence: faces of one person, or of one picture, are not independent."""

import pandas as pd

from ssl_pipeline.faces.splitting import connected_groups
from ssl_pipeline.labels import IntArray


def independent_units(faces: pd.DataFrame) -> IntArray:
    """Number the groups of faces that share a person or a picture, directly or through others.

    Guarantees, calibration, gate, audit and shift count these groups, since further faces of a group add little evidence
    (cluster sampling: Kish 1965, chapter 5).

    Args:
        faces: N rows with person_id and picture_id (see `near_duplicates.picture_ids`).

    Returns:
        int [N], in 0 … G - 1 for G groups.
    """
    return connected_groups(faces["person_id"].tolist(), faces["picture_id"].tolist())
