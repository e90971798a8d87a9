"""The parameters of each deployment: descriptions in the form and in --help, and their checks."""

import importlib
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from flows.full_cycle import full_cycle
from flows.operations.command import run_from_command_line
from flows.operations.parameters import WHOLE_RUNS, as_overrides, configure, selected_config
from flows.pseudo_label import pseudo_label
from flows.train_student import train_student
from flows.train_teacher import train_teacher
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import ConfigError
from tests.cycle_config import write_tiny_config

DEPLOYMENTS = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]


def load_flow(deployment: dict) -> Flow:
    """Return the flow of an entry point, from this checkout."""
    module, name = deployment["entrypoint"].removeprefix("ssl_pipeline_").split(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["entrypoint"])
def test_every_parameter_of_a_deployment_is_described_and_defaults_to_the_config(deployment: dict) -> None:
    flow = load_flow(deployment)
    properties = parameter_schema(flow.fn).properties
    for parameter, schema in properties.items():
        assert len(schema.get("description", "")) > 20, parameter
        assert schema["description"][0].isupper()
    assert set(deployment["parameters"]) <= set(properties)
    assert not any(value for key, value in deployment["parameters"].items() if key != "config_path")
    assert not any(schedule["active"] for schedule in deployment["schedules"])
    assert "ssl-pipeline" in deployment["tags"]
    if flow.name != "build-masked-faces":
        assert "refused" in " ".join(properties["run_name"]["description"].split())
        assert "another process works in" in " ".join(deployment["description"].split())


@pytest.mark.parametrize("flow", [full_cycle, train_teacher, pseudo_label, train_student], ids=lambda flow: flow.name)
def test_parameters_are_checked_like_the_config(flow: Flow, tmp_path: Path) -> None:
    config = str(write_tiny_config(tmp_path))
    flat = {"seed": -1, "device": "moon"} | ({"rounds": 0} if flow is full_cycle else {})
    with pytest.raises(ConfigError) as refused:
        flow.fn(config_path=config, **flat)
    assert all(f"'{key}'" in str(refused.value) for key in flat)
    with pytest.raises(ConfigError, match="give it once"):
        flow.fn(config_path=config, seed=3, overrides=["seed=4"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["entrypoint"])
def test_help_describes_each_option_like_the_form(
    deployment: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = load_flow(deployment)
    monkeypatch.setattr("sys.argv", [flow.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        run_from_command_line(flow)
    assert ended.value.code == 0
    output = "".join(letter for letter in capsys.readouterr().out if letter not in " │\n")
    properties = parameter_schema(flow.fn).properties
    properties.pop("preset", None)  # --config takes its name, too
    for parameter, schema in properties.items():
        assert "".join(schema["description"].split()) in output, parameter


def test_parameters_become_overrides_and_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    assert as_overrides(["teacher.training.epochs=5"], seed=3, rounds=None) == ["teacher.training.epochs=5", "seed=3"]
    assert as_overrides(None, seed=None) == []
    with pytest.raises(ConfigError, match=r"'seed': as the parameter seed \(3\) and in overrides; give it once"):
        as_overrides(["seed=4"], seed=3)
    with pytest.raises(ConfigError, match=r"'faces.root': as the parameter faces_root \(/x\) and in overrides"):
        as_overrides(["faces.root=/y"], faces_root="/x")
    config = configure(str(write_tiny_config(tmp_path)), None, None, faces_root=f"{tmp_path}/a: b #1", threshold=0.7)
    assert config.faces.root == tmp_path / "a: b #1"  # text, whatever YAML would read in it
    assert config.selection.confidence_threshold == 0.7


def test_the_form_offers_the_shipped_configs_that_are_whole_runs() -> None:
    offered = parameter_schema(full_cycle.fn).properties["preset"]["anyOf"][0]["enum"]
    assert offered == WHOLE_RUNS
    assert {"demo", "utkface", "recipes/vit_base"} <= set(offered)
    for name in offered:
        assert load_config(Path(selected_config({"config_path": "other.yaml", "preset": name}))).run_name
    assert selected_config({"config_path": "other.yaml", "preset": None}) == "other.yaml"


def test_the_form_checks_numbers_before_a_flow_run_exists() -> None:
    properties = parameter_schema(full_cycle.fn).properties
    for name, value in (
        ("seed", -1),
        ("rounds", 0),
        ("threshold", 1.5),
        ("device", "moon"),
        ("preset", "no"),
    ):
        assert not is_valid_schema_value(value, properties[name]), name
        assert is_valid_schema_value(None, properties[name]), name


def is_valid_schema_value(value: object, schema: dict) -> bool:
    """Check a value as the server checks a parameter of a new flow run."""
    return not validate({"field": value}, {"type": "object", "properties": {"field": schema}}, raise_on_error=False)
