"""The settings in docs/pretrained.md load, fit together and train a network."""

from pathlib import Path

import yaml

from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.network_check import check_network

DOCS = Path(__file__).parents[2] / "docs/pretrained.md"


def test_the_settings_in_the_docs_fit_together() -> None:
    settings = yaml.safe_load(DOCS.read_text().partition("```yaml\n")[2].partition("```")[0])
    size = settings["faces"]["image_size"]
    role = RoleConfig.model_validate(settings["teacher"])
    assert not list(role.start_faults(size))
    without_hub = role.model_copy(update={"model": role.model.model_copy(update={"pretrained": False})})
    check_network(without_hub, key="teacher", labels=LabelSpace.of({"age": ["<30", ">=30"]}), image_size=size)
