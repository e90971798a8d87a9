"""The label space: attributes, their classes, and partly known labels.

Shapes: N faces, A attributes, V values of one attribute, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = -1

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class Attribute:
    """One label column: its name and its values; a value's code is its position."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class LabelSpace:
    """An ordered list of attributes. A class is one combination of values; its id is the mixed-radix number over them.

    The last attribute varies fastest, so for mask, gender and age the id is ``mask*6 + gender*3 + age``.

    >>> space = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})
    >>> space.num_classes, space.class_name(4)
    (6, 'female/30-59')
    """

    attributes: tuple[Attribute, ...]

    @classmethod
    def of(cls, attributes: Mapping[str, Sequence[str]]) -> "LabelSpace":
        """Build from ``{name: values}``, in the mapping's order."""
        return cls(tuple(Attribute(name, tuple(values)) for name, values in attributes.items()))

    def to_dict(self) -> dict[str, list[str]]:
        """Return ``{name: values}``, the argument of `of`."""
        return {attribute.name: list(attribute.values) for attribute in self.attributes}

    @property
    def names(self) -> list[str]:
        """The attributes' names, in order."""
        return [attribute.name for attribute in self.attributes]

    @property
    def num_values(self) -> tuple[int, ...]:
        """The number of values of each attribute, [A]."""
        return tuple(len(attribute.values) for attribute in self.attributes)

    @property
    def num_classes(self) -> int:
        """K, the product of the numbers of values."""
        return int(np.prod(self.num_values))

    @cached_property
    def class_codes(self) -> IntArray:
        """The value codes of every class, int [K, A]."""
        return np.stack(np.unravel_index(np.arange(self.num_classes), self.num_values), axis=1).astype(np.int64)

    def class_name(self, class_id: int) -> str:
        """Return the name of a class: its values, e.g. ``female/30-59``."""
        codes = self.class_codes[class_id]
        return "/".join(attribute.values[code] for attribute, code in zip(self.attributes, codes, strict=True))

    @property
    def class_names(self) -> list[str]:
        """The names of all classes, in the order of their ids."""
        return [self.class_name(class_id) for class_id in range(self.num_classes)]

    def encode(self, faces: "pd.DataFrame") -> IntArray:
        """Encode the label columns of a face table as value codes; unknown is -1.

        Args:
            faces: one row per face; an attribute without a column is unknown for every face.

        Returns:
            int [N, A].

        Raises:
            ValueError: if a value is not one of the attribute's values.
        """
        import pandas as pd  # takes most of a second

        codes = np.full((len(faces), len(self.attributes)), UNKNOWN, dtype=np.int64)
        for position, attribute in enumerate(self.attributes):
            if attribute.name not in faces:
                continue
            column, values = faces[attribute.name], pd.Index(attribute.values)
            if isinstance(column.dtype, pd.CategoricalDtype):
                of_categories = values.get_indexer(pd.Index(column.cat.categories.astype(object)))
                codes[:, position] = np.append(of_categories, UNKNOWN)[column.cat.codes]
            else:
                codes[:, position] = values.get_indexer(pd.Index(column.astype(object)))
            invalid = (codes[:, position] == UNKNOWN) & column.notna().to_numpy()
            if invalid.any():
                value = column.to_numpy()[invalid][0]
                raise ValueError(f"'{value}' is not a value of attribute '{attribute.name}' {list(attribute.values)}")
        return codes

    def decode(self, codes: IntArray) -> "pd.DataFrame":
        """Decode value codes [N, A] to nullable categorical columns, one per attribute."""
        import pandas as pd

        return pd.DataFrame(
            {
                attribute.name: pd.Categorical.from_codes(codes[:, position], categories=pd.Index(attribute.values))
                for position, attribute in enumerate(self.attributes)
            }
        )

    def class_ids(self, codes: IntArray) -> IntArray:
        """Return the class ids of value codes [N, A], int [N]; -1 where an attribute is unknown."""
        known = (codes != UNKNOWN).all(axis=1)
        ids = np.full(len(codes), UNKNOWN, dtype=np.int64)
        ids[known] = np.ravel_multi_index(tuple(codes[known].T), self.num_values)
        return ids

    def known_combinations(self, codes: IntArray) -> IntArray:
        """Return an id per combination of values in value codes [N, A], where unknown counts as a value.

        Returns:
            int [N].
        """
        combinations = np.ravel_multi_index(tuple(codes.T + 1), [number + 1 for number in self.num_values])
        return np.asarray(combinations, dtype=np.int64)

    def candidates(self, codes: IntArray) -> BoolArray:
        """Return the candidate set of each face: the classes that agree with its known attributes.

        Args:
            codes: value codes, int [N, A], -1 unknown.

        Returns:
            bool [N, K]: one class if all attributes are known, all classes if none is.
        """
        matches = np.ones((len(codes), self.num_classes), bool)
        # attribute by attribute: faster than over all at once
        for known, of_classes in zip(codes.T, self.class_codes.T, strict=True):
            matches &= (known[:, None] == of_classes) | (known[:, None] == UNKNOWN)
        return matches

    def condition(self, probabilities: FloatArray, codes: IntArray) -> FloatArray:
        """Renormalize class probabilities within each face's candidate set.

        If all candidates have probability zero, the result is uniform over them: known labels take precedence over
        predictions.

        Args:
            probabilities: float [N, K], rows sum to 1.
            codes: value codes, int [N, A], -1 unknown.

        Returns:
            float [N, K], rows sum to 1, zero outside the candidate set.
        """
        candidates = self.candidates(codes)
        restricted = np.where(candidates, probabilities, 0.0)
        total = restricted.sum(axis=1, keepdims=True)
        uniform = candidates / candidates.sum(axis=1, keepdims=True)
        return np.where(total > 0, restricted / np.where(total > 0, total, 1.0), uniform)

    def attribute_probabilities(self, probabilities: FloatArray) -> list[FloatArray]:
        """Marginalize class probabilities to each attribute.

        Args:
            probabilities: float [N, K].

        Returns:
            One array per attribute, float [N, V], rows sum to 1.
        """
        cube = probabilities.reshape(len(probabilities), *self.num_values)
        axes = range(1, len(self.attributes) + 1)
        return [cube.sum(axis=tuple(axis for axis in axes if axis != kept)) for kept in axes]
