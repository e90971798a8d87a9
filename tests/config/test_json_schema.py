"""The JSON schema for editors: it is current, accepts every shipped config, and refuses what a run refuses."""

import json
import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ssl_pipeline.config.shipped import schema_file, shipped_configs
from ssl_pipeline.config.yaml_text import read_yaml

SCHEMA = json.loads(schema_file().read_text(encoding="utf-8"))


def faults(config: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(config)]


def test_the_shipped_schema_is_that_of_this_code() -> None:
    code = "import json, ssl_pipeline.config.json_schema as js; print(json.dumps(js.build_schema()))"
    built = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(built) == SCHEMA, "run python -m ssl_pipeline.config.json_schema"


@pytest.mark.parametrize("name", shipped_configs())
def test_it_accepts_every_shipped_config(name: str) -> None:
    assert faults(read_yaml(shipped_configs()[name].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"sed": 1},
        {"seed": "x"},
        {"teacher": {"model": {"architecure": "resnet18"}}},
        {"selection": {"type": "fixed_treshold"}},
        {"faces": {"labeled": {"test_fraction": 2}}},
        {"extends": 1},
    ],
)
def test_it_refuses_what_a_run_refuses(wrong: dict[str, Any]) -> None:
    assert faults(wrong)


def test_keys_have_their_descriptions() -> None:
    described = SCHEMA["$defs"]["LabeledConfig"]["properties"]["validation_fraction"]["description"]
    assert described.startswith("Share of the faces that remain after the test split")
