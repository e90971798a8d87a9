"""Hidden labels of the pool: removed from the run's table, kept apart to measure precision."""

import numpy as np
import pandas as pd

from ssl_pipeline.config.faces import UnlabeledConfig
from ssl_pipeline.config.labels import LabelsConfig
from ssl_pipeline.faces.sources.raw_faces import source_name


def hide_labels(pool: pd.DataFrame, config: UnlabeledConfig, labels: LabelsConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Remove the labels that the config hides; return the pool, and the true labels of the faces that lost some."""
    names = labels.space.names
    visible, has_truth = pool.copy(), np.zeros(len(pool), dtype=bool)
    for source in config.sources:
        hidden = list(config.hidden_of(source, names))
        rows = (pool["source"] == source_name(source)).to_numpy(bool)
        if not hidden or not rows.any():
            continue
        has_truth |= rows
        age_too = any(attribute.name in hidden for attribute in labels.made_from_age)
        visible.loc[rows, [*hidden, *(["age_years"] if age_too else [])]] = None
        visible.loc[rows, "derived"] = [
            ",".join(name for name in str(derived).split(",") if name in source.derived and name not in hidden) or None
            for derived in pool["derived"][rows]
        ]
    return visible, pool.loc[has_truth, ["image_id", *names]]
