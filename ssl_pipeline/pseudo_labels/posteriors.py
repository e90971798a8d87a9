"""Class probabilities of a pool given its known attributes, computed for some faces at a time.

So only the predictions are held for the whole pool, in their own precision.

Shapes: N faces, A attributes, V values of one attribute, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ssl_pipeline.labels import BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.distribution_alignment import aligned

_ROWS_AT_ONCE = 8192

Rows = slice | IntArray
"""Some faces of the pool, by their positions."""


def slices(num_rows: int, *, size: int = _ROWS_AT_ONCE) -> Iterator[slice]:
    """Yield consecutive slices that cover all rows."""
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))


@dataclass(frozen=True)
class Posteriors:
    """Predictions of faces, and what they are conditioned on."""

    probabilities: FloatArray
    """float [N, K], rows sum to 1."""
    known_codes: IntArray
    """Value codes, int [N, A], -1 unknown."""
    labels: LabelSpace
    ratio: FloatArray | None
    """Of the distribution alignment, float [K]; None: not aligned."""

    def take(self, rows: Rows) -> "Posteriors":
        """Return some of the faces."""
        return replace(self, probabilities=self.probabilities[rows], known_codes=self.known_codes[rows])

    def of(self, rows: Rows = slice(None)) -> FloatArray:
        """Return the class probabilities of some faces given their known attributes, float64 [·, K], rows sum to 1."""
        probabilities = self.probabilities[rows].astype(np.float64, copy=False)
        return posterior(probabilities, self.known_codes[rows], self.labels, self.ratio)

    def marginals_of(self, faces: BoolArray, position: int | None) -> npt.NDArray[np.float64]:
        """Return the probabilities of some faces' values of one attribute, or classes.

        Args:
            faces: marks them, bool [N].
            position: of the attribute; None is the class.

        Returns:
            float64 [·, V], in the order of the faces.
        """
        num_values = self.labels.num_classes if position is None else self.labels.num_values[position]
        found, start = np.empty((int(faces.sum()), num_values)), 0
        for rows in slices(len(faces)):
            part = marginal(self.of(rows), self.labels, position)[faces[rows]]
            found[start : start + len(part)] = part
            start += len(part)
        return found


def posterior(
    probabilities: FloatArray, known_codes: IntArray, labels: LabelSpace, ratio: FloatArray | None
) -> FloatArray:
    """Align probabilities if there is a ratio, and condition them on the known values, see `Posteriors`."""
    return labels.condition(probabilities if ratio is None else aligned(probabilities, ratio), known_codes)


def marginal(probabilities: FloatArray, labels: LabelSpace, position: int | None) -> FloatArray:
    """Marginalize class probabilities [N, K] to one attribute, float [N, V]; None is the class."""
    return probabilities if position is None else labels.attribute_probabilities(probabilities)[position]
