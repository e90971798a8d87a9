"""The selections shown in docs/selection.md load, and the docs name every strategy and every guard."""

from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import TypeAdapter

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.selection import GuardsConfig, SelectionConfig

TEXT = (Path(__file__).parents[2] / "docs/selection.md").read_text(encoding="utf-8")
SHOWN = [yaml.safe_load(line)["selection"] for line in TEXT.splitlines() if line.startswith("selection: ")]
SECTIONS = get_args(get_args(SelectionConfig)[0])


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_a_selection_shown_in_the_docs_can_be_loaded(shown: dict[str, object]) -> None:
    TypeAdapter(SelectionConfig).validate_python(shown)


def test_without_the_section_the_default_is_as_documented() -> None:
    default = RunConfig.model_fields["selection"].default
    assert default == TypeAdapter(SelectionConfig).validate_python(
        {"type": "fixed_threshold", "confidence_threshold": 0.8}
    )
    assert "Without the section it is `{type: fixed_threshold, confidence_threshold: 0.8}`" in TEXT


def test_the_docs_show_every_strategy_with_its_settings_and_every_guard() -> None:
    names = {get_args(section.model_fields["type"].annotation)[0] for section in SECTIONS}
    assert {shown["type"] for shown in SHOWN} == names
    rows = {line.split("`")[1]: line for line in TEXT.splitlines() if line.startswith("| `")}
    common = {"type", "per", "targets", "align", "guards"}
    for section in SECTIONS:
        row = rows[get_args(section.model_fields["type"].annotation)[0]]
        assert all(f"`{name}`" in row for name in section.model_fields if name not in common)
    assert all(f"`{name}`" in TEXT for name in GuardsConfig.model_fields if name != "on_fault")
