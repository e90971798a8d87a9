"""Projection of features on a plane: UMAP where it is installed, else the first two principal components."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler


def project(features: npt.NDArray[np.float32], *, seed: int = 0) -> tuple[npt.NDArray[np.float32], str]:
    """Project standardized features on a plane.

    Args:
        features: float [N, D], N at least 3.
        seed: of UMAP.

    Returns:
        Coordinates in [0, 1], float32 [N, 2], and the name of the method.
    """
    scaled = StandardScaler().fit_transform(features)
    reducer: Any
    try:
        import umap
    except ImportError:
        reducer, method = PCA(n_components=2, svd_solver="covariance_eigh"), "PCA"
    else:
        reducer, method = umap.UMAP(n_components=2, random_state=seed), "UMAP"
    plane = reducer.fit_transform(scaled)
    low, high = np.quantile(plane, [0.002, 0.998], axis=0)  # a few outliers do not squeeze all others
    return np.clip((plane - low) / np.maximum(high - low, 1e-9), 0, 1).astype(np.float32), method


def nearest(
    features: npt.NDArray[np.float32], references: npt.NDArray[np.float32], *, num: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Find the nearest references by the cosine of standardized features, in blocks of bounded memory.

    Args:
        features: float [N, D].
        references: float [M, D].
        num: how many, at most M.

    Returns:
        Positions among the references, int [N, num], the nearest first, and their distances 1 − cosine, float32 [N, num].
    """
    scaler = StandardScaler().fit(references)
    others = _unit(scaler.transform(references))
    num, parts = min(num, len(references)), []
    for start in range(0, len(features), 2048):
        distances = 1 - _unit(scaler.transform(features[start : start + 2048])) @ others.T
        positions = np.argsort(distances, axis=1, kind="stable")[:, :num]
        parts.append((positions, np.take_along_axis(distances, positions, axis=1)))
    if not parts:
        return np.zeros((0, num), np.int64), np.zeros((0, num), np.float32)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]).astype(np.float32)


def _unit(vectors: Any) -> Any:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
