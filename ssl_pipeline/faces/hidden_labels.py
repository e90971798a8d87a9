"""Labels that the pool has and that a run is not to see: forgotten, and kept apart to measure precision by."""

import numpy as np
import pandas as pd

from ssl_pipeline.config.faces import UnlabeledConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.faces.sources.raw_faces import source_name


def hide_labels(pool: pd.DataFrame, config: UnlabeledConfig, labels: LabelsConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forget what the config hides; give the pool without it, and the truth of the faces of which something is hidden."""
    names = labels.space.names
    hidden, has_truth = pool.copy(), np.zeros(len(pool), dtype=bool)
    for source in config.sources:
        forgotten = list(config.hidden_of(source, names))
        rows = (pool["source"] == source_name(source)).to_numpy(bool)
        if not forgotten or not rows.any():
            continue
        has_truth |= rows
        from_age = any(attribute.name in forgotten for attribute in labels.made_from_age)
        hidden.loc[rows, [*forgotten, *(["age_years"] if from_age else [])]] = None
        left = [name for name in source.derived if name not in forgotten]
        hidden.loc[rows, "derived"] = [
            ",".join(name for name in str(known).split(",") if name in left) or None for known in pool["derived"][rows]
        ]
    return hidden, pool.loc[has_truth, ["image_id", *names]]
