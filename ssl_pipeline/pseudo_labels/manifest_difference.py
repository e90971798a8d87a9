"""What changed between two manifests of one label space: pseudo-labels gained, lost, and of another value."""

from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group
from rich.text import Text

from ssl_pipeline.errors import ManifestError
from ssl_pipeline.labels import UNKNOWN, BoolArray, IntArray
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.pseudo_labels.manifest_report import add_row, new_table


def difference(before: Manifest, after: Manifest, *, num_examples: int = 3) -> dict[str, Any]:
    """Compare the accepted pseudo-labels of two manifests, face by face.

    Args:
        before: a manifest.
        after: another one, over the same labels; of another round, strategy or teacher.
        num_examples: examples of each kind of change, the first by image id.

    Returns:
        JSON-able: num_faces (before, after, both), of readable faces; and per_attribute: the counts kept (the same
        value accepted in both), changed (accepted in both, of different values), gained and lost (accepted in one, be
        the face in the other or not), and examples, a line each.

    Raises:
        ManifestError: if their labels differ.
    """
    if before.labels != after.labels:
        raise ManifestError(
            f"manifests of different labels cannot be compared: {before.path} has {before.labels.to_dict()}, "
            f"{after.path} has {after.labels.to_dict()}"
        )
    ids = [pd.Index(manifest.faces.loc[_readable(manifest), "image_id"]) for manifest in (before, after)]
    everyone = ids[0].union(ids[1])
    codes_before, codes_after = _accepted_codes(before, everyone), _accepted_codes(after, everyone)
    per_attribute: dict[str, dict[str, Any]] = {}
    for position, attribute in enumerate(before.labels.attributes):
        old, new = codes_before[:, position], codes_after[:, position]
        kinds: dict[str, BoolArray] = {
            "kept": (old != UNKNOWN) & (old == new),
            "changed": (old != UNKNOWN) & (new != UNKNOWN) & (old != new),
            "gained": (old == UNKNOWN) & (new != UNKNOWN),
            "lost": (old != UNKNOWN) & (new == UNKNOWN),
        }
        examples = [
            f"{everyone[face]}: {_change(kind, attribute.values, int(old[face]), int(new[face]))}"
            for kind in ("changed", "gained", "lost")
            for face in np.flatnonzero(kinds[kind])[:num_examples].tolist()
        ]
        counts = {kind: int(marked.sum()) for kind, marked in kinds.items()}
        per_attribute[attribute.name] = {**counts, "examples": examples}
    num_faces = {"before": len(ids[0]), "after": len(ids[1]), "both": len(ids[0].intersection(ids[1]))}
    return {"num_faces": num_faces, "per_attribute": per_attribute}


def render_difference(before: Manifest, after: Manifest, *, num_examples: int = 3) -> Group:
    """Draw `difference` for a terminal.

    Raises:
        ManifestError: if the manifests' labels differ.
    """
    found = difference(before, after, num_examples=num_examples)
    num = found["num_faces"]
    headline = Text(
        f"before: {before.path}, {num['before']:,} faces\nafter:  {after.path}, {num['after']:,} faces, "
        f"{num['both']:,} of them in both"
    )
    table = new_table("Accepted pseudo-labels", "attribute", "kept", "changed", "gained", "lost")
    examples = new_table("Examples", "attribute", "face", left=2)
    for name, counts in found["per_attribute"].items():
        add_row(table, name, *(f"{counts[kind]:,}" for kind in ("kept", "changed", "gained", "lost")))
        for example in counts["examples"]:
            add_row(examples, name, example)
    return Group(headline, table, examples)


def _readable(manifest: Manifest) -> BoolArray:
    return (manifest.faces["status"] != "unreadable").to_numpy(bool)


def _accepted_codes(manifest: Manifest, image_ids: "pd.Index[str]") -> IntArray:
    """Give the accepted values of faces, int [N, A], -1 where none is accepted or the face is not there."""
    readable = _readable(manifest)
    codes = np.where(manifest.accepted, manifest.codes, UNKNOWN)[readable]
    places = pd.Index(manifest.faces.loc[readable, "image_id"]).get_indexer(image_ids)
    found = np.full((len(image_ids), codes.shape[1]), UNKNOWN, dtype=np.int64)
    found[places >= 0] = codes[places[places >= 0]]
    return found


def _change(kind: str, values: tuple[str, ...], old: int, new: int) -> str:
    match kind:
        case "changed":
            return f"changed from {values[old]} to {values[new]}"
        case "gained":
            return f"gained {values[new]}"
        case _:
            return f"lost {values[old]}"
