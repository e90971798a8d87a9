"""A first config for a user's own faces: what their folders and tables hold, as short commented YAML."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_pipeline.config.labels import AttributeConfig
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.shipped import find_config, schema_file
from ssl_pipeline.config.sources import UNUSED_LEVEL
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.config.yaml_text import read_yaml, write_flow
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.faces.discovery import Discovery
from ssl_pipeline.faces.label_choice import LabelChoice
from ssl_pipeline.faces.value_names import translate
from ssl_pipeline.learning.backbones import check_hub
from ssl_pipeline.learning.device import resolve_device
from ssl_pipeline.runs.files import write_text

PRETRAINED, ON_GPU, FRESH = "presets/small", "presets/large", "presets/fresh"
_WHAT = {
    PRETRAINED: "a small network that starts from pretrained weights, for a CPU",
    ON_GPU: "a wide ResNet that starts from pretrained weights, for a GPU",
    FRESH: "a small network from random weights, since pretrained ones cannot be had here; see docs/pretrained.md",
}
_FEW, _MANY = 400, 4000
"""Labeled faces below which more are held out, and above which trainings are longer."""


@dataclass(frozen=True)
class Draft:
    """A config's text, and the preset that it extends."""

    text: str
    preset: str

    def write(self, path: Path) -> RunConfig:
        """Write the config and load it."""
        write_text(path, self.text)
        return load_config(path)


def draft_config(
    labeled: Discovery, pool: Discovery, choice: LabelChoice, *, run_name: str, command: str, preset: str | None = None
) -> Draft:
    """Draft a config.

    Args:
        labeled: the labeled faces.
        pool: the unlabeled ones; what they know counts as known labels.
        choice: what is taken of the labeled faces' labels.
        run_name: the run's name.
        command: that wrote it, for the first line.
        preset: to extend; None takes the one that this machine can run.
    """
    preset = preset or choose_preset()
    root = Path(os.path.commonpath([labeled.folder.resolve(), pool.folder.resolve()]))
    num_labeled = max(sum(counts.values()) for counts in choice.counts.values())
    test, validation = (0.25, 0.25) if num_labeled < _FEW else (0.2, 0.2)
    num_test = round(test * num_labeled)
    lines = [
        f"# Written by: {' '.join(command.split())}",
        "# Train with: ssl-pipeline run THIS_FILE",
        f"# yaml-language-server: $schema={schema_file()}",
        f"extends: {preset}   # {_WHAT.get(preset, 'as named')}",
        f"run_name: {run_name}",
        "",
        "labels:",
        "  attributes:",
        *(
            f"    - {write_flow(_plain(attribute))}   # {_counted(choice, attribute.name)}"
            for attribute in choice.labels.attributes
        ),
        "",
        "faces:",
        f"  root: {write_flow(str(root))}   # paths below are relative to it",
        "  labeled:",
        "    sources:",
        f"      - {write_flow(_labeled_section(labeled, choice, root))}",
        f"    test_fraction: {test}         # about {num_test:,} faces, used once, at the end",
        f"    validation_fraction: {validation}   # of the rest, about {round(validation * (num_labeled - num_test)):,} faces: they choose thresholds and judge the student",
        "  unlabeled:",
        "    sources:",
        f"      - {write_flow(_pool_section(pool, choice, root))}",
        *_longer(num_labeled),
    ]
    return Draft("\n".join(lines) + "\n", preset)


def choose_preset() -> str:
    """Return the preset for this machine: for its device, with pretrained weights if they can be had."""
    preset = ON_GPU if resolve_device("auto").type == "cuda" else PRETRAINED
    try:
        check_hub(_network_of(preset))
    except PipelineError:
        return FRESH
    return preset


def _network_of(preset: str) -> ModelConfig:
    text = find_config(Path(preset)).read_text(encoding="utf-8")
    return ModelConfig.model_validate(read_yaml(text)["teacher"]["model"])


def _plain(attribute: AttributeConfig) -> dict[str, Any]:
    section = attribute.model_dump(mode="json", exclude_defaults=True)
    if "bin_edges" in section:
        section["bin_edges"] = [int(edge) if edge == int(edge) else edge for edge in section["bin_edges"]]
    return section


def _counted(choice: LabelChoice, name: str) -> str:
    counts = choice.counts[name]
    shown = ", ".join(f"{number:,}" for number in list(counts.values())[:8])
    return f"{shown}{', …' if len(counts) > 8 else ''} faces"


def _section(found: Discovery, name: str, root: Path) -> dict[str, Any]:
    """Return the part of a source that does not depend on labels."""
    section: dict[str, Any] = {"type": found.source["type"], "name": name}
    section["path"] = str(found.folder.resolve().relative_to(root))
    return section | {key: found.source[key] for key in ("table", "encoding") if key in found.source}


def _labeled_section(found: Discovery, choice: LabelChoice, root: Path) -> dict[str, Any]:
    section = _section(found, "labeled", root)
    given = {"levels": list(choice.levels), "columns": dict(choice.columns), "values": dict(choice.values)}
    return section | {key: value for key, value in given.items() if value}


def _pool_section(found: Discovery, choice: LabelChoice, root: Path) -> dict[str, Any]:
    """Return the pool as a source; columns or levels with values that mean those of an attribute are known labels.

    A face set whose values cannot be translated is a folder of unlabeled images.
    """
    known, values = _known_labels(found, choice)
    section = _section(found, "pool", root)
    if found.is_face_set:
        names = [attribute.name for attribute in choice.labels.attributes]
        if any(column.key in names and column.key not in known.values() for column in found.meaning("attribute")):
            return {**section, "type": "folder"}
    elif found.source["type"] == "folder":
        names_by_key = {key: name for name, key in known.items()}
        levels = [names_by_key.get(column.key, UNUSED_LEVEL) for column in found.columns]
        section |= {"levels": levels} if known else {}
        known = {}
    else:
        known = {"image_path": found.source.get("image_column", "image_path"), **known}
        if choice.labels.made_from_age and (ages := found.meaning("age_years")):
            known["age_years"] = ages[0].key
    columns = {ours: theirs for ours, theirs in known.items() if ours != theirs}
    return section | ({"columns": columns} if columns else {}) | ({"values": values} if values else {})


def _known_labels(found: Discovery, choice: LabelChoice) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return {attribute: the pool's column that knows it}, and {attribute: {the pool's value: ours}} where they differ."""
    known: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}
    for attribute in choice.labels.attributes:
        for column in found.columns:
            if not column.values or column.key in known.values() or column.meaning in ("person_id", "age_years"):
                continue
            if (translation := translate(column.values, attribute.values)) is not None:
                known[attribute.name] = column.key
                if renamed := {theirs: ours for theirs, ours in translation.items() if theirs != ours}:
                    values[attribute.name] = renamed
                break
    return known, values


def _longer(num_labeled: int) -> list[str]:
    """Return longer trainings for many labels; the presets' fit a few hundred."""
    if num_labeled <= _MANY:
        return []
    factor = min(num_labeled / _MANY, 10)
    return [
        "",
        f"teacher: {{training: {{steps: {round(600 * factor)}}}}}   # more labels, longer training",
        f"student: {{training: {{steps: {round(1000 * factor)}}}}}",
    ]
