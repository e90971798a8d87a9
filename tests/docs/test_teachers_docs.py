"""The config in docs/teachers.md can be loaded."""

import re
from pathlib import Path

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.yaml_text import read_yaml
from tests.cycle_config import write_tiny_config

TEXT = (Path(__file__).parents[2] / "docs/teachers.md").read_text()


def test_the_teachers_in_the_docs_can_be_loaded(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    section = read_yaml(block[1])
    config = load_config(write_tiny_config(tmp_path, **section))
    assert list(config.named_teachers) == ["network", "frozen", "onnx", "features"]
